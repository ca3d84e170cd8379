"""Marks of other corpora between documents: `<|endoftext|>`, `</s>`, `[SEP]`, a line of dashes.

Where a mark is asked for (`prepare --boundary`), documents end at it, wherever in a line it stands, and it goes. Others
are only found, to be told: they would be trained on as text.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from palenka.data.cleaning import CLEANERS
from palenka.data.documents import PARAGRAPHS, ROW_END
from palenka.data.effects import MARKS, Effects, Mark, utf8_size

KNOWN = re.compile(
    r"<[|｜][^<>|｜\s]{1,40}[|｜]>|</?s>|</?(?i:doc|document)(?:\s[^<>]{0,300})?>"
    r"|<(?i:eos|bos|eot|eod|eop|sep|cls|end_?of_?(?:text|doc|document))>|\[(?i:sep|cls|eos|bos|eot|eod)\]"
)
RULE = re.compile(r"\s*(([-=*_#~])\2{2,})\s*")
"""A line of one character alone. In domains with rules of their own such lines are ornaments."""
TAG = re.compile(r"<(\w+)(?:\s[^<>]*)?>")


def find_marks(domain: str, lines: Iterable[str], found: dict[str, Mark]) -> Iterator[str]:
    """Pass lines on; what looks like a mark between documents is counted in `found`."""
    row = 1
    is_plain = domain not in CLEANERS
    for number, line in enumerate(lines, 1):
        if line == ROW_END:
            row += 1
        elif "<" in line or "[" in line:
            for mark in KNOWN.finditer(line):
                _add(found, _named(mark[0]), number, row)
        elif is_plain and line.strip()[:1] in ("-", "=", "*", "_", "#", "~") and (rule := RULE.fullmatch(line)):
            _add(found, rule[1], number, row)
        yield line


def _named(mark: str) -> str:
    """A tag without its attributes: `<doc id="1">` is a `<doc>`."""
    tag = TAG.fullmatch(mark)
    return f"<{tag[1]}>" if tag else mark


def _add(found: dict[str, Mark], mark: str, line: int, row: int) -> None:
    found.setdefault(mark, Mark(0, line - row + 1, row)).count += 1


def pattern(marks: Sequence[str]) -> re.Pattern[str]:
    """Finds any of the marks: one without letters or digits as a whole line alone, a tag with any attributes."""
    return re.compile("|".join(map(_expression, sorted(marks, key=len, reverse=True))))


def _expression(mark: str) -> str:
    if not any(map(str.isalnum, mark)):
        return rf"^\s*{re.escape(mark)}\s*$"
    tag = TAG.fullmatch(mark)
    return rf"<{re.escape(tag[1])}(?:\s[^<>]{{0,300}})?>" if tag else re.escape(mark)


def part_at(marks: Sequence[str], domain: str, lines: Iterable[str], effects: Effects) -> Iterator[str]:
    """Put `ROW_END` in the place of each mark. Blank lines part documents no longer."""
    found = pattern(marks)
    for line in lines:
        *parted, rest = found.split(line)
        if parted:
            effects.count(MARKS, sum(map(utf8_size, found.findall(line))))
        for part in parted:
            if part.strip():
                yield part
            yield ROW_END
        if rest.strip() or (not parted and (domain in PARAGRAPHS or line == ROW_END)):
            yield rest


def any_in(lines: Iterable[str], marks: Sequence[str]) -> bool:
    """Whether any of the marks occurs in a text."""
    return bool(marks) and any(map(pattern(marks).search, lines))
