"""Every file that a command reads, damaged: refused by name with nothing changed, or the right outcome all the same.

Contents that are made up (other figures, tensors, domains, keys) are refused in test_integrity.py, test_damage.py,
test_results.py and test_model_folder.py.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import damage
from damage import Damage, name_of

from torture.cases import RIGHT, TRACEBACK, UNCLEAR, WRONG, Case, Verdict, judge_damage, last_line, shown
from torture.programs import at_change, die
from torture.world import STORIES, Place, World

HALF = "train-half"
RECORDS = ("identity.json", "metrics.jsonl", "config.yaml", "environment.json", "data.json")
RESULT = ("result.json",)
PREPARED = ("**/*.bin", "**/*.json")
MODEL = ("config.json", "model.safetensors", "tokenizer.json")
SECONDS = 120


@dataclass(frozen=True)
class Reading:
    """The command of a story, begun behind another, on damaged files of a folder; its outcome lies below a path."""

    fault: str
    story: str
    after: str
    folder: str
    files: tuple[str, ...]
    below: str


READINGS = (
    Reading("damaged data, a new run", "train", "", "data/tiny", PREPARED, "runs/"),
    Reading("damaged data, a run that goes on", "train", HALF, "data/tiny", PREPARED, "runs/"),
    Reading("damaged data, prepared again", "prepare", "prepare", "data/again", PREPARED, "data/again"),
    Reading("a damaged checkpoint", "train", HALF, "runs/baseline", ("checkpoint-*/*",), "runs/"),
    Reading("a damaged record of a run", "train", HALF, "runs/baseline", RECORDS, "runs/"),
    Reading("a damaged result.json", "train", "train", "runs/baseline", RESULT, "runs/"),
    Reading("a damaged teacher", "distill", "", "runs/teacher", MODEL, "runs/student/"),
    Reading("a damaged model, evaluated", "evaluate-teacher", "", "runs/teacher", MODEL, "runs/teacher/evaluation/"),
    *(Reading("a damaged evaluation", story, "evaluate", "runs/baseline/evaluation", ("*.json*",), below)
      for story, below in (("evaluate", "runs/"), ("report", "report.html"), ("submission", "out.json.gz"))),
)  # fmt: skip


def cases(world: World) -> Iterator[Case]:
    for reading in (one for one in READINGS if one.story in world.stories):
        folder = behind(reading.after, world).folder / reading.folder
        files = sorted({path for pattern in reading.files for path in folder.glob(pattern)})
        for number, path in enumerate(files):
            for what in damage.ALL[number % 2 :: 2]:  # each has half of them, in turns
                file = str(path.relative_to(folder))
                name = f"{reading.story} on {reading.after or 'bare'}: {reading.folder}/{file}: {name_of(what)}"
                yield Case(reading.fault, name, shown(reading.story), partial(read, reading, file, what))
    for number, file in enumerate((*RECORDS, *RESULT)):
        for what in damage.ALL[number % 2 :: 2]:
            for command in (("palenka", "status"), ("palenka", "report", "runs", "--out", "report.html")):
                name = f"{command[1]} beside a broken run, {file}: {name_of(what)}"
                judge = partial(others_are_seen, command, file, what)
                yield Case("one broken run among others", name, " ".join(command), judge)


def behind(name: str, world: World) -> Place:
    """The place behind a story, or with a run that was killed with its best and its last checkpoint on the disk."""

    def kill_late(place: Place) -> None:
        changes = world.changes("train")
        last = next(number for number, change in enumerate(changes, 1) if change.endswith("/.checkpoint-6.tmp"))
        place.run(STORIES["train"].command, at_change(last, place.folder, die))

    return world.once(HALF, "", kill_late) if name == HALF else world.behind(name)


def read(reading: Reading, file: str, what: Damage, world: World, folder: Path) -> Verdict:
    """Lost records, and results that are left out, must at least be told."""
    shutil.copytree(behind(reading.after, world).folder, folder / "place", symlinks=True)
    place = Place(folder / "place", folder / "logs")
    what(place.folder / reading.folder / file)
    before = place.tree()
    ended = place.run(STORIES[reading.story].command, seconds=SECONDS)
    verdict = judge_damage(ended, place, before, world.right(reading.story), reading.below, reading.folder, file)
    if verdict.name == WRONG and Path(file).name in ended.output:
        lost_best = "is lost" in ended.output and "lost_best" in (place.runs / "baseline/result.json").read_text()
        only_records = verdict.detail == "differs: runs/baseline/metrics.jsonl"
        if lost_best or only_records or reading.story in ("report", "submission"):
            return Verdict(RIGHT, "what was damaged was left out, and it was told")
    return verdict


def others_are_seen(command: tuple[str, ...], file: str, what: Damage, world: World, folder: Path) -> Verdict:
    place = world.copy("evaluate", folder)
    shutil.copytree(place.runs / "baseline", place.runs / "broken")
    what(place.runs / "broken" / file)
    ended = place.run(command)
    if ended.has_traceback:
        return Verdict(TRACEBACK, last_line(ended))
    if ended.code or "baseline" not in ended.output:
        return Verdict(UNCLEAR, f"hides the others; {ended.brief()}")
    return Verdict(RIGHT)
