"""Tasks as files: items are read, and checked, whatever their shape.

A *task* is a folder `<data>/<task>/` of `.jsonl` files, a line being an item. A file is a *subtask*, named by its stem,
but for entity tracking, where the number of operations makes subtasks too. The shapes are known by their fields:

    pair              sentence_good, sentence_bad      BLiMP and its supplement
    EWoK              Context1, Target1, Target2       Target1 belongs to Context1, Target2 to Context2. The files hold
                                                       each item twice, the second time with 1 and 2 swapped
    entity tracking   input_prefix, options, numops    which option says what the box holds; the first is right
    COMPS             prefix_acceptable, prefix_unacceptable, property_phrase      of which concept the property holds
    wug               sentences, ratio                 two forms of a made-up word, separated by a tab, and which share
                                                       of people prefer the first
    GlobalPIQA        prompt, solution0, …, label      which solution follows; `label` is the right one's number

What is compared of EWoK, and which items of entity tracking count, the protocol says (`protocols.py`).
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palenka.evaluation.items import LABELS, Choice, Item, Task
from palenka.evaluation.protocols import PROTOCOLS, Protocol
from palenka.util.errors import UserError
from palenka.util.files import require_file

_SURROGATE = re.compile("[\ud800-\udfff]")
SPELLINGS = {"syntax_semantics": "syntax/semantics"}  # BLiMP has both


def read_choice_task(folder: Path, protocol: str = "2024") -> Task:
    """Read and check every item of a task, and keep those that the protocol asks.

    Raises:
        UserError: no such folder, nothing in it, or an item that cannot be used, with its file and line.
    """
    rules = PROTOCOLS[protocol]
    if not folder.is_dir():
        raise UserError(f"no task {folder.name!r}: looked for the folder {folder}")
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise UserError(f"{folder}: no .jsonl files in it")
    lines = [Line(path, number, record) for path in paths for number, record in read_lines(path)]
    asked = [(line, item) for line in lines if (item := _item(line, rules))]
    if not asked:
        raise UserError(f"{folder}: the {protocol} protocol leaves out all of its items: each has an option of nothing")
    first = asked[0][1]
    for line, item in asked:
        if (item.ratio is None, item.per_token) != (first.ratio is None, first.per_token):
            raise UserError(f"{line.place}: has a different shape from the items before it")
    items = [item for _, item in asked]
    return Task(rules.task(folder.name), items, _labels(items, [line.record for line, _ in asked]))


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(1-based line number, record) of each line."""
    require_file(path)
    lines = path.read_bytes().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise UserError(f"{path}: the file is empty")
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not a JSON object on one line ({error})") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: expected a JSON object, found {line[:40]!r}")
        yield number, record


@dataclass(frozen=True)
class Line:
    """A record and where it stands; its fields are read with a check of what they hold."""

    path: Path
    number: int
    record: dict[str, Any]

    @property
    def place(self) -> str:
        return f"{self.path}, line {self.number}"

    def problem(self, key: str, expected: str) -> UserError:
        found = f"is {self.record[key]!r}" if key in self.record else "is missing"
        return UserError(f"{self.place}: {key!r} {found}; expected {expected}")

    def text(self, key: str) -> str:
        return self._checked(key, self.record.get(key))

    def texts(self, key: str) -> list[str]:
        values = self.record.get(key)
        if not isinstance(values, list) or len(values) < 2 or not all(isinstance(v, str) and v.strip() for v in values):
            raise self.problem(key, "a list of two or more texts")
        return [self._checked(key, value) for value in values]

    def _checked(self, key: str, value: Any) -> str:
        """A text with something in it, and no half of a surrogate pair, which JSON can write and UTF-8 cannot."""
        if not isinstance(value, str) or not value.strip():
            raise self.problem(key, "a text")
        if found := _SURROGATE.search(value):
            raise UserError(
                f"{self.place}: {key!r} holds {found[0]!a}, half of a surrogate pair, which is not a character; "
                "expected both halves, or the character itself"
            )
        return value

    def number_in(self, key: str, low: float, high: float) -> float:
        value = self.record.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.problem(key, f"a number from {low} to {high}" if math.isfinite(high) else "a count")
        return value

    def item(self, *choices: Choice, subtask: str | None = None, **others: Any) -> Item:
        return Item(subtask or self.path.stem, self.number, choices, **others)


def _pair(line: Line, rules: Protocol) -> Item:
    return line.item(Choice("", line.text("sentence_good")), Choice("", line.text("sentence_bad")))


def _ewok(line: Line, rules: Protocol) -> Item:
    context, *targets = (line.text(key) for key in ("Context1", "Target1", "Target2"))
    twins = sorted([context, str(line.record.get("Context2"))]) + sorted(targets)
    if rules.ewok == "contexts":
        choices = [Choice(each, f" {targets[0]}") for each in (context, line.text("Context2"))]
    else:
        choices = [Choice(context, f" {target}") for target in targets]
    return line.item(*choices, cluster=hashlib.sha256(json.dumps(twins).encode()).hexdigest()[:16])


def _entity_tracking(line: Line, rules: Protocol) -> Item | None:
    prefix, operations = line.text("input_prefix"), line.number_in("numops", 0, math.inf)
    choices = [Choice(prefix, option) for option in line.texts("options")]
    if not rules.nothing and any("nothing" in choice.text for choice in choices):
        return None
    return line.item(*choices, subtask=f"{line.path.stem}_{operations}_ops")


def _comps(line: Line, rules: Protocol) -> Item:
    prefixes = (line.text("prefix_acceptable"), line.text("prefix_unacceptable"))
    choices = (Choice(f"{prefix} ", line.text("property_phrase")) for prefix in prefixes)
    return line.item(*choices, subtask=line.path.stem.removeprefix("comps_").replace("-", "_"))


def _wug(line: Line, rules: Protocol) -> Item:
    forms = line.text("sentences").split("\t")
    if len(forms) != 2 or not all(form.strip() for form in forms):
        raise line.problem("sentences", "two texts separated by a tab")
    return line.item(*(Choice("", form) for form in forms), ratio=float(line.number_in("ratio", 0, 1)))


def _global_piqa(line: Line, rules: Protocol) -> Item:
    count = sum(key.startswith("solution") and value is not None for key, value in line.record.items())
    prompt, keys = line.text("prompt"), [f"solution{number}" for number in range(max(count, 2))]
    choices = [Choice(prompt, f" {line.text(key)}") for key in keys]
    if line.record.get("label") not in range(count):
        raise line.problem("label", f"the number of the right one of {count} solutions")
    right = choices.pop(int(line.record["label"]))
    return line.item(right, *choices, per_token=True, name=line.text("example_id"))


SHAPES: dict[tuple[str, ...], Callable[[Line, Protocol], Item | None]] = {
    ("sentence_good", "sentence_bad"): _pair,
    ("Context1", "Target1", "Target2"): _ewok,
    ("input_prefix", "options", "numops"): _entity_tracking,
    ("prefix_acceptable", "prefix_unacceptable", "property_phrase"): _comps,
    ("sentences", "ratio"): _wug,
    ("prompt", "solution0", "solution1"): _global_piqa,
}


def _item(line: Line, rules: Protocol) -> Item | None:
    """The item of a line; None where it is not asked."""
    for fields, read in SHAPES.items():
        if not line.record.keys().isdisjoint(fields):
            return read(line, rules)
    shapes = ", or ".join("/".join(fields) for fields in SHAPES)
    raise UserError(f"{line.place}: has the fields {', '.join(line.record)}; expected {shapes}")


def _labels(items: list[Item], records: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """What all items of a subtask agree on."""
    by_subtask: dict[str, list[dict[str, Any]]] = {}
    for item, record in zip(items, records, strict=True):
        by_subtask.setdefault(item.subtask, []).append(record)
    return {name: _common_labels(of_subtask) for name, of_subtask in by_subtask.items()}


def _common_labels(records: list[dict[str, Any]]) -> dict[str, str]:
    found = {}
    for label, key in LABELS.items():
        values = {SPELLINGS.get(str(record[key]), str(record[key])) for record in records if key in record}
        if len(values) == 1:
            found[label] = values.pop()
    return found
