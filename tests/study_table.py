"""The table that `palenka study` prints, read back."""

import re


def rows(output: str) -> dict[str, list[str]]:
    """By step: its state, its job unless it is done, and the jobs that it waits for, in one string."""
    lines = [re.split(r"  +", line) for line in output.splitlines() if "  " in line.strip()]
    return {line[1]: [line[0], *line[2:]] for line in lines if line[0]}


def submitted(output: str) -> dict[str, str]:
    """By step: the job that was submitted just now."""
    return {step: row[1] for step, row in rows(output).items() if row[0] == "submitted"}
