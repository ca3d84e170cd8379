"""What encoding a file seems to have that is no UTF-8: to say so, not to guess at its text."""

import codecs
from pathlib import Path

from palenka.util.errors import UserError

HINT = "if it is Windows-1252 or Latin-1, convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE"
_HEAD_BYTES = 4096
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte-order marks; those of UTF-32 first, for one of UTF-16 begins one of them."""


def check_encoding(path: Path) -> None:
    """Raise UserError for a file in UTF-16 or UTF-32, with or without a byte-order mark.

    English in UTF-16 without such a mark is valid UTF-8, with a NUL beside each letter.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    found = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")
    if not found and 5 * head.count(0) > len(head):
        width = 32 if 5 * head.count(0) > 3 * len(head) else 16
        found = f"UTF-{width}{'LE' if head[0] else 'BE'}"
    if found:
        raise UserError(f"{path}: expected UTF-8, seems to be {found}; convert it: iconv -f {found} -t UTF-8 FILE")
