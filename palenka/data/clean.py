"""Raw corpus files to clean documents."""

from collections.abc import Iterable, Iterator, Sequence

from palenka.data.clean_blocks import CleanBlocks, clean_here, in_blocks
from palenka.data.cleaning import CLEANERS, join_turns
from palenka.data.documents import BOUNDARY, ROW_END, split_documents
from palenka.data.effects import BLANK_LINES, MARKS, Effects, utf8_size
from palenka.data.marks import find_marks, part_at

DOMAINS = tuple(CLEANERS)
"""The domains with rules of their own: those of BabyLM. Any other name is cleaned by the plain rules."""


def clean_text(
    domain: str, lines: Iterable[str], effects: Effects, boundaries: Sequence[str] = (),
    clean_blocks: CleanBlocks = clean_here,
) -> Iterator[str]:  # fmt: skip
    """Clean lines of a raw text, with one `BOUNDARY` between documents and nowhere else. Adds to `effects`.

    `lines` are those of a file, or of rows with `ROW_END` after each. `boundaries` are marks between documents (see
    `marks`); where there are any, blank lines are none. `clean_blocks` cleans a block of lines after another.
    """
    lines = find_marks(domain, _counted(lines, effects), effects.marks)
    if boundaries:
        lines = part_at(boundaries, domain, lines, effects)
    clean = _clean_lines(domain, lines, effects, clean_blocks)
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


def _clean_lines(domain: str, lines: Iterable[str], effects: Effects, clean_blocks: CleanBlocks) -> Iterator[str]:
    """Clean lines. What `split_documents` does not pass on are blank lines and headers."""
    passed = 0
    for block in clean_blocks(domain, in_blocks(split_documents(domain, lines))):
        passed += block.size
        effects.add(block.effects)
        yield from block.lines
    effects.count(BLANK_LINES, effects.bytes_in - effects.removed.get(MARKS, 0) - passed)


def _counted(lines: Iterable[str], effects: Effects) -> Iterator[str]:
    for line in lines:
        if line != ROW_END:
            effects.lines += 1
            effects.bytes_in += utf8_size(line)
        yield line
