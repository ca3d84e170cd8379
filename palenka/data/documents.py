"""Where documents begin and end in raw text.

    simple_wiki       an article starts at its header `= = = Title = = =`, or after a blank line (2023: its title is a
    simple_wikipedia  line like any other); the title stays, as its first line
    wikipedia         an article starts at its header; blank lines only part paragraphs
    childes           a transcript starts at its header `= = = path.cha = = =`, which goes, or after a blank line
    gutenberg         a book starts at its header `= = = PG123 = = =`, which goes; blank lines only part paragraphs.
                      In 2023 there are no headers, and paragraphs are cut into lines of about 70 characters: these are
                      joined, and a whole file is one document
    cbt               a book starts at its header `_BOOK_TITLE_ : file`, which goes
    children_stories  a tale ends at a blank line; one line alone, a title, belongs to what follows
    bnc_spoken        a recording ends at a blank line
    switchboard       a call ends where both speakers have said good-bye. Most calls are cut out of the corpus without:
                      these stay joined to the next. Without speakers (2023) nothing marks a call's end
    open_subtitles    nothing marks a film's end, nor a lecture's (qed), nor a transcript's (aochildes): a whole file is
                      one document, but for blank lines, which part films and transcripts
    any other         a document ends at a blank line

A header in the middle of a text separates documents even without a blank line before it. The official
files are sampled in blocks of lines, so that a document may start or end in its middle, which nothing shows.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from palenka.data.cleaning import CLEANERS

BOUNDARY = ""
ROW_END = "\f"
"""A line of its own after each row, where a text comes in rows: a document ends there in every domain."""
HEADER = re.compile(r"^[\s\ufeff]*= = =(?:\s+(.{0,300}?)\s+= = =)?\s*$")
FAREWELL = re.compile(
    r"^[AB]:\s*(?:[\w']+[,.]? ){0,8}(?:(?:good-?)?bye|bye[- ,]+bye|good[ -]?night)\b(?:[,. ]+\w+){0,3}[,.!]?\s*$",
    re.IGNORECASE,
)
FAREWELL_REACH = 4
"""Lines within which farewells belong to one parting."""
BOOK_TITLE = re.compile(r"^[\s\ufeff]*_BOOK_TITLE_\s*:.{0,300}$")
TITLED = {"simple_wiki", "simple_wikipedia", "wikipedia"}
"""Domains whose headers are text."""
PARAGRAPHS = {"cbt", "gutenberg", "qed", "wikipedia"}
"""Domains in which a blank line ends no document."""

WIDEST, NARROWEST = 90, 60
"""Characters: no line of a text in fixed width is longer; no line of it stays shorter where the next word would fit."""
PEEK_LINES, FEWEST_LINES = 1000, 20


def split_documents(domain: str, lines: Iterable[str]) -> Iterator[str]:
    """Pass raw lines on, none of them blank, with `BOUNDARY` between documents (or several, or one at the ends)."""
    if domain == "switchboard":
        lines = _part_after_farewells(lines)
    if domain == "gutenberg":
        lines = _unwrapped(lines)
    block = 0
    for line in lines:
        header = _header(domain, line)
        if header is not None:
            yield BOUNDARY
            if header and domain in TITLED:
                yield header
        elif line == ROW_END:
            yield BOUNDARY
        elif line.strip():
            block += 1
            yield line
            continue
        elif domain not in PARAGRAPHS and not (domain == "children_stories" and block < 2):
            yield BOUNDARY
        block = 0


def _header(domain: str, line: str) -> str | None:
    """The title in a header that starts a document, or ''; None if the line is no header."""
    if domain == "cbt" and BOOK_TITLE.match(line):
        return ""
    header = HEADER.match(line) if domain in CLEANERS else None
    return (header[1] or "") if header else None


def _unwrapped(lines: Iterable[str]) -> Iterator[str]:
    """Join the lines of each paragraph, if this is text in lines of a fixed width; any other is passed on as it is."""
    lines = iter(lines)
    first = list(islice(lines, PEEK_LINES))
    lines = chain(first, lines)
    yield from _paragraphs(lines) if _is_wrapped(first) else lines


def _is_wrapped(lines: list[str]) -> bool:
    sizes = [len(line.strip()) for line in lines if line.strip()]
    full, too_wide = sum(NARROWEST <= size <= WIDEST for size in sizes), sum(size > WIDEST for size in sizes)
    return len(sizes) >= FEWEST_LINES and 3 * full >= len(sizes) >= 100 * too_wide


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Join a line to the one before where its first word would not have fitted there: verse and headings stay apart."""
    paragraph: list[str] = []
    for line in lines:
        text = line.strip()
        if paragraph and not _goes_on(paragraph[-1], text):
            yield " ".join(paragraph)
            paragraph = []
        if text:
            paragraph.append(text)
        else:
            yield line
    if paragraph:
        yield " ".join(paragraph)


def _goes_on(line: str, following: str) -> bool:
    words = following.split(maxsplit=1)
    return bool(words) and not HEADER.match(following) and len(line) + 1 + len(words[0]) > NARROWEST


def _part_after_farewells(lines: Iterable[str]) -> Iterator[str]:
    """Put `BOUNDARY` after the last farewell of a parting in which both speakers took part."""
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
