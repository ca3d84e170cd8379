"""A fault, done once, and how its outcome is judged.

    right        the outcome is that of an undisturbed command, byte for byte; or bad input was refused with exit code 2
                 and a message that names it
    silent wrong exit code 0, and something is not what it should be
    traceback    a traceback was printed
    loss         what was there is gone, or the same command does not go on from it
    unclear      nothing is wrong or lost, but the message, the exit code or what is left over is not as promised
    untried      it cannot be tried here; the reason says why
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torture.programs import Ended
from torture.world import STORIES, Place, World, differences

RIGHT, WRONG, TRACEBACK, LOSS, UNCLEAR, UNTRIED = "right", "silent wrong", "traceback", "loss", "unclear", "untried"
VERDICTS = (RIGHT, WRONG, TRACEBACK, LOSS, UNCLEAR, UNTRIED)
ENDLESS = 124
BAD_INPUT = 2


@dataclass(frozen=True)
class Verdict:
    """One of `VERDICTS`, and what was seen, for people."""

    name: str
    detail: str = ""


@dataclass(frozen=True)
class Case:
    """One try.

    fault: the row of the table that it counts in.
    name: tells it from others of its family.
    command: as a user would type it.
    judge: does it in a folder of its own, and says what came of it.
    """

    fault: str
    name: str
    command: str
    judge: Callable[[World, Path], Verdict]


def shown(story: str) -> str:
    """A story's command as it is typed."""
    return " ".join(STORIES[story].command)


def judge_end(ended: Ended, place: Place, right: Mapping[str, str], below: str = "") -> Verdict:
    """A command that must come to its end, and to the same end as without a fault, in the files below a path."""
    if ended.has_traceback:
        return Verdict(TRACEBACK, last_line(ended))
    if ended.code == ENDLESS:
        return Verdict(UNCLEAR, "did not end")
    if ended.code:
        return Verdict(LOSS, ended.brief())
    return judge_files(place.tree(), right, below)


def judge_files(found: Mapping[str, str], right: Mapping[str, str], below: str = "") -> Verdict:
    """Files that were written without a complaint."""
    unlike = differences(*({name: of[name] for name in of if name.startswith(below)} for of in (found, right)))
    if not unlike:
        return Verdict(RIGHT)
    only_left_over = all(line.startswith("left over") for line in unlike)
    return Verdict(UNCLEAR if only_left_over else WRONG, "; ".join(unlike[:6]))


def judge_refusal(ended: Ended, *names: str, codes: tuple[int, ...] = (BAD_INPUT,)) -> Verdict:
    """A command that must end with one of these exit codes, and a message that has one of the names in it."""
    if ended.has_traceback:
        return Verdict(TRACEBACK, last_line(ended))
    if ended.code == ENDLESS:
        return Verdict(UNCLEAR, "did not end")
    if ended.code == 0:
        return Verdict(WRONG, "went through")
    if ended.code not in codes:
        return Verdict(UNCLEAR, ended.brief())
    if names and not any(name in ended.output for name in names):
        return Verdict(UNCLEAR, f"names none of {', '.join(names)}; {ended.brief()}")
    return Verdict(RIGHT, ended.brief())


def judge_damage(
    ended: Ended, place: Place, before: Mapping[str, str], right: Mapping[str, str], below: str, *names: str
) -> Verdict:
    """A command on something damaged: refused by name with nothing changed, or the right outcome all the same."""
    if ended.code == 0:
        return judge_end(ended, place, right, below)
    return unharmed(judge_refusal(ended, *names), place, before)


def unharmed(verdict: Verdict, place: Place, before: Mapping[str, str]) -> Verdict:
    """A refusal is right only where all files are as they were."""
    after = place.tree()
    if verdict.name == RIGHT and (lost := [name for name in before if after.get(name) != before[name]]):
        return Verdict(LOSS, f"changed by a refused command: {', '.join(lost[:6])}")
    return verdict


def last_line(ended: Ended) -> str:
    """The last line of a traceback, which names the error."""
    lines = [line for line in ended.output.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "Exception" in line]
    return (errors or lines or [""])[-1][-300:]


def worst(*verdicts: Verdict) -> Verdict:
    """The one that says most against the program."""
    order = (WRONG, LOSS, TRACEBACK, UNCLEAR, UNTRIED, RIGHT)
    return min(verdicts, key=lambda verdict: order.index(verdict.name))
