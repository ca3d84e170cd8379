"""Where documents begin and end in raw text.

    simple_wiki      an article starts at its header `= = = Title = = =`; the title stays, as its first line
    childes          a transcript starts at its header `= = = path.cha = = =`, which goes, or behind a blank line
    gutenberg        a book starts at its header `= = = PG123 = = =`, which goes; blank lines only part paragraphs
    bnc_spoken       a recording ends at a blank line
    switchboard      a call ends where both speakers have said good-bye. Most calls are cut out of the corpus without:
                     these stay joined to the next
    open_subtitles   nothing marks a film's end: a whole file is one document

A header that stands in the middle of a text without a blank line before it parts documents all the same. The official
files are sampled in blocks of lines, so that a document may start or end in its middle, which nothing shows.
"""

import re
from collections.abc import Iterable, Iterator

BOUNDARY = ""
HEADER = re.compile(r"^\s*= = =(?:\s+(.*?)\s+= = =)?\s*$")
FAREWELL = re.compile(
    r"^[AB]:\s*(?:[\w']+[,.]? ){0,8}(?:(?:good-?)?bye|bye[- ,]+bye|good[ -]?night)\b(?:[,. ]+\w+){0,3}[,.!]?\s*$",
    re.IGNORECASE,
)
FAREWELL_REACH = 4
"""Lines within which farewells belong to one parting."""


def split_documents(domain: str, lines: Iterable[str]) -> Iterator[str]:
    """Pass raw lines on, none of them blank, with `BOUNDARY` between documents (or several, or one at the ends)."""
    if domain == "switchboard":
        lines = _part_after_farewells(lines)
    for line in lines:
        header = HEADER.match(line)
        if header:
            yield BOUNDARY
            if domain == "simple_wiki" and header[1]:
                yield header[1]
        elif line.strip():
            yield line
        elif domain != "gutenberg":
            yield BOUNDARY


def _part_after_farewells(lines: Iterable[str]) -> Iterator[str]:
    """Put `BOUNDARY` behind the last farewell of a parting in which both speakers took part."""
    speakers: set[str] = set()
    since: list[str] = []
    for line in lines:
        farewell = FAREWELL.match(line)
        if farewell:
            speakers.add(line[0].upper())
        if farewell or not speakers:
            yield from [*since, line]
            since = []
            continue
        since.append(line)
        if len(since) == FAREWELL_REACH:
            yield from [BOUNDARY, *since] if len(speakers) == 2 else since
            speakers, since = set(), []
    yield from since
