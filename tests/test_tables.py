"""Tables and bars of a terminal, and what a log shows in their place."""

import io
import sys

import pytest

from palenka.util.progress import Bar, passed_on
from palenka.util.tables import text_table

ROWS = [["device", "memory"], ["[A100] of a long name", "3 GiB"], ["CPU", "16 GiB"]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Terminal:
    """Standard output and error."""
    screen = Terminal()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, screen)
    for name, value in {"COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    return screen


def test_a_log_has_a_table_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert text_table(ROWS).splitlines() == [
        "device                 memory",
        "-----------------------------",
        "[A100] of a long name   3 GiB",
        "CPU                    16 GiB",
    ]
    assert text_table([["a", "b\nc"], ["x" * 200, "y"]], left=2, ends=[1]).splitlines() == [
        " " * 202 + "b", "a" + " " * 201 + "c", "-" * 203, "x" * 200 + "  y",
    ]  # fmt: skip


def test_names_are_shortened_to_a_width() -> None:
    assert text_table(ROWS, width=20).splitlines()[2:] == ["[A100] of a…   3 GiB", "CPU           16 GiB"]


def test_a_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch, 24)
    assert "[A100] of a lon…   3 GiB" in text_table(ROWS)


def test_a_terminal_has_a_bar_and_what_is_printed_stands_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, 80)
    bar = Bar("work", 4, "steps")
    bar.advance()
    print("a line", file=sys.stderr)
    bar.close()
    assert "a line\n" in screen.getvalue() and "1/4" in screen.getvalue()


def test_a_log_has_a_line_at_each_quarter(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(passed_on("abcdef", [2, 2, 1, 1, 1, 1], "score", "texts")) == list("abcdef")
    assert list(passed_on("ab", [1, 1], "", "texts")) == ["a", "b"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"score: {done} of 8 texts" for done in (2, 4, 6, 8)]
