"""Cached results of evaluations that were damaged or changed: shown, reported, submitted, compared."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torture import damage
from torture.cases import Case, Verdict, judge_damage, shown
from torture.damage import Damage, change_json, name_of
from torture.world import STORIES, World

FILES = ("blimp_filtered.json", "blimp_filtered.items.jsonl", "cross_entropy.json")
DAMAGES: tuple[Damage, ...] = (
    damage.cut, damage.empty, damage.missing, damage.nul_tail, damage.garbage, damage.appended, damage.a_folder,
)  # fmt: skip
SECONDS = 60
Change = Callable[[Path], None]


def changed(file: str, change: Callable[[Any], Any]) -> Change:
    return lambda folder: change_json(folder / file, change)


def first_line(change: Callable[[bytes], bytes]) -> Change:
    """Another first line of the items' scores."""

    def rewrite(folder: Path) -> None:
        path = folder / FILES[1]
        first, *others = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([change(first), *others]))

    return rewrite


CHANGES: dict[str, Change] = {
    "another accuracy": changed(FILES[0], lambda of: of | {"accuracy": 0.999}),
    "an accuracy of 7": changed(FILES[0], lambda of: of | {"accuracy": 7}),
    "an accuracy that is text": changed(FILES[0], lambda of: of | {"accuracy": "high"}),
    "an accuracy of NaN": changed(FILES[0], lambda of: of | {"accuracy": float("nan")}),
    "no accuracy": changed(FILES[0], lambda of: {k: v for k, v in of.items() if k != "accuracy"}),
    "no subtasks": changed(FILES[0], lambda of: {k: v for k, v in of.items() if k != "subtasks"}),
    "another number of items": changed(FILES[0], lambda of: of | {"n": of["n"] + 1}),
    "a list": changed(FILES[0], lambda of: [of]),
    "null": lambda folder: (folder / FILES[0]).write_text("null") and None,
    "one item less": first_line(lambda line: b""),
    "one item twice": first_line(lambda line: line + line),
    "an item with three scores": first_line(lambda line: line.replace(b'"scores": [', b'"scores": [1.0, ')),
    "an item with NaN": first_line(lambda line: line.replace(b'"scores": [-', b'"scores": [NaN, -')),
    "an item whose scores are swapped": first_line(lambda line: line.replace(b'"scores": [-', b'"scores": [-9')),
    "an item of NUL bytes": first_line(lambda line: b"\0" * (len(line) - 1) + b"\n"),
    "a cross-entropy of another number": changed(FILES[2], lambda of: of | {"splits": {}}),
}


def cases(world: World) -> Iterator[Case]:
    changes = dict(CHANGES)
    for file in FILES:
        changes |= {f"{file}: {name_of(what)}": partial(do_to, file, what) for what in DAMAGES}
    for name, change in changes.items():
        judge = partial(evaluated_again, change)
        yield Case("a damaged result, evaluated again", f"evaluate: {name}", shown("evaluate"), judge)
        if "cross_entropy" in name:
            continue
        for story in ("report", "submission"):
            read = partial(read_by, story, change)
            yield Case("a damaged result, reported and submitted", f"{story}: {name}", shown(story), read)


def do_to(file: str, what: Damage, folder: Path) -> None:
    what(folder / file)


def evaluated_again(change: Change, world: World, folder: Path) -> Verdict:
    """Scored anew, with the right figures; or refused by name."""
    place = world.copy("evaluate", folder)
    change(place.runs / "baseline" / "evaluation")
    before = place.tree()
    ended = place.run(STORIES["evaluate"].command, seconds=SECONDS)
    return judge_damage(ended, place, before, world.right("evaluate"), "runs/baseline/evaluation", "evaluation")


def read_by(story: str, change: Change, world: World, folder: Path) -> Verdict:
    """A page or submission with the right figures, or none; a result that is left out must be named."""
    place = world.copy("evaluate", folder)
    change(place.runs / "baseline" / "evaluation")
    before = place.tree()
    ended = place.run(STORIES[story].command, seconds=SECONDS)
    if ended.code == 0 and not ended.has_traceback and any(f"/{file}" in ended.output for file in FILES):
        return Verdict("right", "told, and left out")
    made = "report.html" if story == "report" else "out.json.gz"
    return judge_damage(ended, place, before, world.right(story), made, "blimp_filtered")
