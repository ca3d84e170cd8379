"""Raw corpus files to clean documents."""

from collections.abc import Iterable, Iterator, Sequence

from palenka.data.cleaning import CLEANERS, clean_line, join_turns
from palenka.data.documents import BOUNDARY, ROW_END, split_documents
from palenka.data.effects import BLANK_LINES, MARKS, Effects, utf8_size
from palenka.data.marks import find_marks, part_at

DOMAINS = tuple(CLEANERS)
"""The domains with rules of their own: those of BabyLM. Any other name is cleaned by the plain rules."""


def clean_text(domain: str, lines: Iterable[str], effects: Effects, boundaries: Sequence[str] = ()) -> Iterator[str]:
    """Clean lines of a raw text, with one `BOUNDARY` between documents and nowhere else. Adds to `effects`.

    `lines` are those of a file, or of rows with `ROW_END` after each. `boundaries` are marks between documents (see
    `marks`); where there are any, blank lines are none.
    """
    lines = find_marks(domain, _counted(lines, effects), effects.marks)
    if boundaries:
        lines = part_at(boundaries, domain, lines, effects)
    clean = _clean_lines(domain, lines, effects)
    if domain == "switchboard":
        clean = join_turns(clean, effects)
    between = True
    for line in clean:
        if line == BOUNDARY:
            between = True
            continue
        if between and effects.documents:
            yield BOUNDARY
        effects.documents += between
        effects.bytes_out += utf8_size(line) + 1
        between = False
        yield line


def _clean_lines(domain: str, lines: Iterable[str], effects: Effects) -> Iterator[str]:
    """Clean lines. What `split_documents` does not pass on are blank lines and headers."""
    passed = 0
    for raw in split_documents(domain, lines):
        if raw == BOUNDARY:
            yield raw
            continue
        passed += utf8_size(raw)
        pieces = clean_line(domain, raw, effects)
        effects.dropped += not pieces
        effects.changed += bool(pieces) and pieces != [raw.rstrip("\r\n")]
        yield from pieces
    effects.count(BLANK_LINES, effects.bytes_in - effects.removed.get(MARKS, 0) - passed)


def _counted(lines: Iterable[str], effects: Effects) -> Iterator[str]:
    for line in lines:
        if line != ROW_END:
            effects.lines += 1
            effects.bytes_in += utf8_size(line)
        yield line
