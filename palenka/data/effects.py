"""What cleaning did to a text: how much of it each rule took away.

Each byte that comes in goes out again or is counted under the name of what took it: bytes_in = bytes_out + the sum of
`removed`. A rule that writes more than it takes has a negative number.
"""

from dataclasses import asdict, dataclass, field
from os.path import commonprefix
from typing import Any

LINE_ENDS, BLANK_LINES, MARKS = "line_ends", "blank_lines_and_headers", "document_marks"
SPACES, ENTITIES = "spaces", "entities"
MOST_RULES = 3
NO_TEXT = frozenset({LINE_ENDS, BLANK_LINES, MARKS, SPACES, ENTITIES})
"""Names for what goes without being text. All others are rules of `cleaning`."""
EXAMPLE_LENGTH = 100
NOTEWORTHY = 0.05
"""The share of a text's bytes above which `prepare` says what its cleaning removed."""


@dataclass
class Mark:
    """How often a mark of another corpus occurs in a text, and where first: line, and row (from 1)."""

    count: int
    line: int
    row: int


@dataclass
class Effects:
    """What cleaning did to a text. Blank lines and headers count as lines, but not as dropped or changed ones.

    `removed`: bytes by what took them. `examples`: the most that each rule took out of one line, shortened. `marks`:
    what looks like the end of a document, whether it was asked for or not.
    """

    lines: int = 0
    dropped: int = 0
    changed: int = 0
    documents: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict, compare=False)
    marks: dict[str, Mark] = field(default_factory=dict)
    _most: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def count(self, name: str, size: int) -> None:
        self.removed[name] = self.removed.get(name, 0) + size

    def note(self, rule: str, before: str, after: str) -> None:
        """Count what a rule took out of a text; spaces, which it takes along, by themselves."""
        size = len(before) - len(after)
        if not (before.isascii() and after.isascii()):
            size = len(before.encode()) - len(after.encode())
        removed = self.removed
        spaces = before.count(" ") - after.count(" ")
        if spaces:
            removed[SPACES] = removed.get(SPACES, 0) + spaces
            size -= spaces
        if size:
            removed[rule] = removed.get(rule, 0) + size
            if size > self._most.get(rule, 0):
                self._most[rule] = size
                self.examples[rule] = _shortened(_taken(before, after))

    def add(self, other: "Effects") -> None:
        """Add what cleaning did to the lines that follow: lines dropped and changed, bytes removed, and examples."""
        self.dropped += other.dropped
        self.changed += other.changed
        for name, size in other.removed.items():
            self.count(name, size)
        for rule, size in other._most.items():
            if size > self._most.get(rule, 0):
                self._most[rule], self.examples[rule] = size, other.examples[rule]

    @property
    def shares(self) -> dict[str, float]:
        """The part of the bytes that each rule took, the largest first."""
        taken = {rule: size for rule, size in self.removed.items() if rule not in NO_TEXT}
        return {rule: taken[rule] / self.bytes_in for rule in sorted(taken, key=lambda rule: (-taken[rule], rule))}

    @property
    def share(self) -> float:
        """The part of the bytes that all rules took together."""
        return sum(self.shares.values())

    def told(self) -> str:
        """What a reader should know: nothing, or the rules that took most of a text, with an example of each."""
        if self.share < NOTEWORTHY:
            return ""
        rules = [(rule, share) for rule, share in self.shares.items() if share >= NOTEWORTHY / 10][:MOST_RULES]
        examples = {rule: f", such as: {text}" for rule, text in self.examples.items() if text.strip()}
        lines = [f"  {100 * share:4.1f} % {spoken(rule)}{examples.get(rule, '')}" for rule, share in rules]
        return "\n".join([f"cleaning removed {100 * self.share:.1f} % of the text", *lines])

    def record(self) -> dict[str, Any]:
        """For prepared.json: all numbers and `share`, no text."""
        kept = {name: value for name, value in asdict(self).items() if name not in ("examples", "_most", "marks")}
        return {**kept, "share": round(self.share, 4), "removed": dict(sorted(self.removed.items()))}


def spoken(rule: str) -> str:
    """A rule's name as words."""
    return rule.replace("_", " ")


def utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _taken(before: str, after: str) -> str:
    """What stands between the beginning and the end that both texts share."""
    start = len(commonprefix([before, after]))
    end = len(commonprefix([before[start:][::-1], after[start:][::-1]]))
    return before[start : len(before) - end]


def _shortened(text: str) -> str:
    text = text.strip()
    return text if len(text) <= EXAMPLE_LENGTH else f"{text[: EXAMPLE_LENGTH - 30]} … {text[-27:]}"
