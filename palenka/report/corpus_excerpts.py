"""What the corpus notebook looks at: lines that show what cleaning does, ends of documents, positions of windows."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palenka.data.clean import Effects, clean_text
from palenka.data.documents import BOUNDARY, split_documents
from palenka.data.tokens import TrainWindows
from palenka.data.windows import IGNORED, Positions
from palenka.report.corpus_figures import KINDS

SAMPLE = 4000
"""Lines of a text, evenly spread, that examples are chosen from."""
TYPICAL_LENGTH = 80
"""Characters: among much shorter lines, length does not decide which are shown."""

_PIECE = re.compile(r"\s+|[^\W_]+|.", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def changed_lines(domain: str, lines: Sequence[str], number: int) -> list[tuple[str, str]]:
    """Up to `number` lines that cleaning changes, each in another way, with what becomes of them ("": nothing).

    Each line is cleaned alone. Blank lines and headers, which tell where documents end, are no examples.
    """
    pairs = []
    for line in lines[:: max(1, len(lines) // SAMPLE)]:
        if BOUNDARY in split_documents(domain, [line]):
            continue
        raw, clean = line.rstrip("\n"), "\n".join(clean_text(domain, [line], Effects()))
        if clean != raw:
            pairs.append((raw, clean))
    return _varied(pairs, number)


def _varied(pairs: list[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    """Greedily the pair that shows the most kinds of change not shown yet for its length, as long as there are any."""
    kinds = {pair: _kinds(*pair) for pair in pairs}
    chosen: list[tuple[str, str]] = []
    shown: set[str] = set()
    while kinds and len(chosen) < number:
        best = max(kinds, key=lambda pair: len(kinds[pair] - shown) / (len(pair[0]) + TYPICAL_LENGTH))
        if kinds[best] <= shown:
            break
        shown |= kinds.pop(best)
        chosen.append(best)
    return chosen


def _kinds(raw: str, clean: str) -> set[str]:
    """The sorts of pieces that only one side has, and whether anything was left."""
    before, after = Counter(_PIECE.findall(raw)), Counter(_PIECE.findall(clean))
    gone, new = {_sort(piece) for piece in before - after}, {_sort(piece) for piece in after - before}
    return {f"-{sort}" for sort in gone} | {f"+{sort}" for sort in new} | ({"nothing left"} if not clean else set())


def _sort(piece: str) -> str:
    if piece.isspace():
        return "space"
    if piece.isupper():
        return "capitals"
    return "word" if piece.isalnum() else piece


def document_end(
    domain: str, lines: Sequence[str], before: int = 6, behind: int = 2
) -> tuple[list[str], list[str]] | None:
    """Raw lines around the first end of a document, and what becomes of them; None where the text has no such place."""
    if not _has_end(domain, lines):
        return None
    needed = bisect_left(range(len(lines)), True, key=lambda number: _has_end(domain, lines[:number]))
    clean = list(clean_text(domain, lines[: needed + behind], Effects()))
    end = clean.index(BOUNDARY) if BOUNDARY in clean else len(clean)
    raw = lines[max(needed - before, 0) : needed + behind]
    return [line.rstrip("\n") for line in raw], clean[max(end - before // 2, 0) : end + before // 2 + 1]


def _has_end(domain: str, lines: Sequence[str]) -> bool:
    """Whether a document ends in these lines and another begins."""
    in_text = ended = False
    for line in split_documents(domain, lines):
        if ended and line != BOUNDARY:
            return True
        ended = ended or in_text and line == BOUNDARY
        in_text = in_text or line != BOUNDARY
    return False


def count_words(file: Path) -> Counter[str]:
    """Words of a text as a reader sees them: letters, with apostrophes and hyphens inside."""
    found: Counter[str] = Counter()
    with file.open(encoding="utf-8", newline="\n") as text:
        for line in text:
            found.update(_WORD.findall(line))
    return found


def window_kinds(windows: TrainWindows, positions: Positions, entries: list[str]) -> NDArray[np.int64]:
    """What is at each position of windows with `bos: window`: (windows, positions), numbers in `KINDS`.

    `entries` is the vocabulary.
    """
    inputs, labels = windows.batch(positions)
    starts, _ = windows.bounds(positions)
    number = {kind: place for place, kind in enumerate(KINDS)}
    begins_word = np.array([entry.startswith("Ġ") for entry in entries])
    begins_line = np.isin(starts[:, None] - 1 + np.arange(inputs.shape[1]), windows.split.lines)
    is_label = np.insert(labels[:, :-1] != IGNORED, 0, True, axis=1)
    kinds = np.where(begins_word[inputs], number["begins a word"], number["goes on with a word"])
    kinds[begins_line] = number["begins a line"]
    kinds[inputs == entries.index("Ċ")] = number["newline"]
    kinds[inputs == entries.index("</s>")] = number["</s>"]
    kinds[~is_label] = number["shown, but a label of the next window"]
    kinds[inputs == entries.index("<s>")] = number["<s>"]
    kinds[inputs == entries.index("<pad>")] = number["padding"]
    return kinds
