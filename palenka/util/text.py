"""Plain text for people: numbers, durations, lists."""

import difflib
import textwrap
from collections.abc import Sequence

WIDTH = 100
NOTHING = "–"


def wrapped(text: str, width: int = WIDTH) -> str:
    return textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def with_error(value: float, error: float) -> str:
    """A share and its standard error, in percent."""
    return f"{percent(value)} ± {percent(error)}"


def compact(number: int) -> str:
    """Four digits of a large number: `58344960` → `58.34M`."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:#.4g}{letter}".replace(".k", "k").replace(".M", "M")
    return str(number)


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def listed(names: list[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A suffix for an 'unknown …' message: the nearest known name (or names that are equally near), or all of them."""
    near = {each: difflib.SequenceMatcher(None, each, name).ratio() for each in difflib.get_close_matches(name, known)}
    if near:
        nearest = sorted(repr(each) for each, ratio in near.items() if ratio == max(near.values()))
        return f"; did you mean {' or '.join(nearest)}?"
    return f"; known: {', '.join(sorted(known))}" if known else ""
