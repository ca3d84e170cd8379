"""Raw corpus files to clean documents."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from palenka.corpus.cleaning import CLEANERS, clean_line, join_turns
from palenka.corpus.documents import BOUNDARY, ROW_END, split_documents

DOMAINS = tuple(CLEANERS)
"""The domains with rules of their own: those of BabyLM. Any other name is cleaned by the plain rules."""


@dataclass
class Effects:
    """What cleaning did to a text. Blank lines and headers count as lines, but not as dropped or changed ones."""

    lines: int = 0
    dropped: int = 0
    changed: int = 0
    documents: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


def clean_text(domain: str, lines: Iterable[str], effects: Effects) -> Iterator[str]:
    """Clean lines of a raw text, with one `BOUNDARY` between documents and nowhere else. Adds to `effects`.

    `lines` are those of a file, or of rows with `ROW_END` behind each.
    """
    clean = _clean_lines(domain, lines, effects)
    if domain == "switchboard":
        clean = join_turns(clean)
    between = True
    for line in clean:
        if line == BOUNDARY:
            between = True
            continue
        if between and effects.documents:
            yield BOUNDARY
        effects.documents += between
        effects.bytes_out += len(line.encode()) + 1
        between = False
        yield line


def _clean_lines(domain: str, lines: Iterable[str], effects: Effects) -> Iterator[str]:
    for raw in split_documents(domain, _counted(lines, effects)):
        if raw == BOUNDARY:
            yield raw
            continue
        pieces = clean_line(domain, raw)
        effects.dropped += not pieces
        effects.changed += bool(pieces) and pieces != [raw.rstrip("\n")]
        yield from pieces


def _counted(lines: Iterable[str], effects: Effects) -> Iterator[str]:
    for line in lines:
        if line != ROW_END:
            effects.lines += 1
            effects.bytes_in += len(line.encode())
        yield line
