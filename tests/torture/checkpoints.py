"""Damage to what a run needs to go on: checkpoints, records, identity, result; and what others see of such a run."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from torture import damage
from torture.cases import (
    RIGHT,
    TRACEBACK,
    UNCLEAR,
    WRONG,
    Case,
    Verdict,
    judge_damage,
    last_line,
    shown,
)
from torture.damage import Damage, change_json, name_of
from torture.programs import at_change, die
from torture.world import STORIES, Place, World

FILES = ("distiller.safetensors", "optimizer.pt", "state.json")
DAMAGES: tuple[Damage, ...] = (
    damage.cut, damage.empty, damage.missing, damage.nul_tail, damage.garbage, damage.bit_flip, damage.a_folder,
)  # fmt: skip
RECORDS = ("identity.json", "metrics.jsonl", "config.yaml", "environment.json")
BRIEF: tuple[Damage, ...] = (damage.cut, damage.empty, damage.missing, damage.nul_tail, damage.garbage)
HALF = "train-half"
RESULT = "baseline/result.json"
Change = Callable[[Path], None]


def half_way(world: World, folder: Path) -> Place:
    """A place with a run that was killed with its best and its last checkpoint on the disk."""

    def kill_late(place: Place) -> None:
        changes = world.changes("train")
        last = [number for number, change in enumerate(changes, start=1) if change.endswith("/.checkpoint-6.tmp")]
        place.run(STORIES["train"].command, at_change(last[0], place.folder, die))

    made = world.once(HALF, "", kill_late)
    shutil.copytree(made.folder, folder / "place", symlinks=True)
    return Place(folder / "place", folder / "logs")


def checkpoints_of(run: Path) -> list[Path]:
    """Oldest first."""
    found = [path for path in run.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def cases(world: World) -> Iterator[Case]:
    for file in FILES:
        for what in DAMAGES:
            name = f"{file}: {name_of(what)}"
            change = partial(in_checkpoint, -1, file, what)
            yield Case("a damaged newest checkpoint", f"newest {name}", shown("train"), partial(goes_on, change))
        for what in (damage.cut, damage.bit_flip, damage.missing):
            name = f"{file}: {name_of(what)}"
            older = partial(in_checkpoint, 0, file, what)
            yield Case("a damaged older checkpoint", f"older {name}", shown("train"), partial(goes_on, older))
            every = partial(in_all_checkpoints, file, what)
            yield Case("all checkpoints damaged", f"all {name}", shown("train"), partial(goes_on, every))
    for change in (a_future_step, no_step_in_state, another_ones_checkpoint, empty_checkpoint):
        judge = partial(goes_on, change)
        yield Case("a damaged newest checkpoint", f"newest: {name_of(change)}", shown("train"), judge)
    for file in RECORDS:
        for what in BRIEF:
            judge = partial(goes_on, partial(in_run, file, what))
            yield Case(f"a damaged {file}", f"{file}: {name_of(what)}", shown("train"), judge)
    for change in (a_broken_line, two_records_of_a_step, a_half_line):
        judge = partial(goes_on, change)
        yield Case("a damaged metrics.jsonl", f"metrics.jsonl: {name_of(change)}", shown("train"), judge)
    for what in BRIEF:
        judge = partial(finished, partial(in_run, "result.json", what))
        yield Case("a damaged result.json", f"result.json: {name_of(what)}", shown("train"), judge)
    for file in (*RECORDS, "result.json"):
        for what in BRIEF:
            for command in (("palenka", "status"), ("palenka", "report", "runs", "--out", "report.html")):
                name = f"{command[1]} beside a broken run, {file}: {name_of(what)}"
                judge = partial(others_are_seen, command, file, what)
                yield Case("one broken run among others", name, " ".join(command), judge)


def in_run(file: str, what: Damage, run: Path) -> None:
    what(run / file)


def in_checkpoint(number: int, file: str, what: Damage, run: Path) -> None:
    what(checkpoints_of(run)[number] / file)


def in_all_checkpoints(file: str, what: Damage, run: Path) -> None:
    for folder in checkpoints_of(run):
        what(folder / file)


def a_future_step(run: Path) -> None:
    checkpoints_of(run)[-1].rename(run / "checkpoint-999")


def no_step_in_state(run: Path) -> None:
    change_json(checkpoints_of(run)[-1] / "state.json", lambda state: state["progress"].pop("step") and None)


def another_ones_checkpoint(run: Path) -> None:
    """The weights of the older one under the newer one's name."""
    older, newer = checkpoints_of(run)[0], checkpoints_of(run)[-1]
    shutil.copy(older / FILES[0], newer / FILES[0])


def empty_checkpoint(run: Path) -> None:
    newest = checkpoints_of(run)[-1]
    shutil.rmtree(newest)
    newest.mkdir()


def a_broken_line(run: Path) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[0] = b"\0" * (len(lines[0]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))


def two_records_of_a_step(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[-1].replace(b'"step"', b'"stop"'))


def a_half_line(run: Path) -> None:
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 5, "spl')


def goes_on(change: Change, world: World, folder: Path) -> Verdict:
    """It falls back, and comes to the same end; or says what is damaged. Lost records must at least be told."""
    place = half_way(world, folder)
    change(place.runs / "baseline")
    before = place.tree()
    ended = place.run(STORIES["train"].command, seconds=120)
    verdict = judge_damage(ended, place, before, world.right("train"), "runs/", "runs/baseline")
    if verdict.name == WRONG and "is lost" in ended.output and "lost_best" in (place.runs / RESULT).read_text():
        return Verdict(RIGHT, "the best step was damaged: told, and recorded in result.json")
    only_records = verdict == Verdict(WRONG, "differs: runs/baseline/metrics.jsonl")
    if only_records and "metrics.jsonl" in ended.output:
        return Verdict(RIGHT, "a damaged record was dropped, and it was told")
    return verdict


def finished(change: Change, world: World, folder: Path) -> Verdict:
    """A finished run started again: nothing of it may be lost."""
    place = world.copy("train", folder)
    change(place.runs / "baseline")
    before = place.tree()
    ended = place.run(STORIES["train"].command, seconds=120)
    return judge_damage(ended, place, before, world.right("train"), "runs/", "runs/baseline")


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


