"""Output that works wherever it goes: a terminal that lacks our signs, or a closed stream."""

import codecs
import os
import sys
import unicodedata
from pathlib import Path

FALL_BACK = "palenka.plain"
_PLAIN = {
    "±": "+-", "–": "-", "—": "-", "−": "-", "─": "-", "│": "|", "·": ".", "×": "x", "→": "->", "≤": "<=", "≥": ">=",
    "µ": "u", "‘": "'", "’": "'", "“": '"', "”": '"', "█": "#",
}  # fmt: skip


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replacements, in plain ASCII, for signs that an encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_plain_sign, error.object[error.start : error.end])), error.end


def _plain_sign(sign: str) -> str:
    letters = _PLAIN.get(sign) or unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return letters or sign.encode("ascii", "backslashreplace").decode()


codecs.register_error(FALL_BACK, _plain)


def prepare_streams() -> None:
    """Keep printing from ending the program: signs fall back, and a closed stream swallows output."""
    if sys.stdout is None or sys.stderr is None:
        while os.open(os.devnull, os.O_RDWR) < 3:  # else the next files get the numbers, and what libraries print
            pass
    nowhere = Path(os.devnull)
    sys.stdout = sys.stdout or nowhere.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nowhere.open("w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=FALL_BACK)
