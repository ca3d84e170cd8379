"""Power that fails: a disk as the kernel has written it by then, mounted again, and the same command started again."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from power_loss import Disk, is_possible, mounted

from torture.cases import LOSS, UNTRIED, Case, Verdict, judge_end, judge_files, shown
from torture.programs import at_change, die
from torture.world import STORIES, Place, World

LOSSES = {"prepare": 8, "train": 14, "distill": 6, "grid": 12, "cache-logits": 4, "evaluate": 4, "report": 1,
          "submission": 1}  # fmt: skip


def cases(world: World) -> Iterator[Case]:
    for story, count in LOSSES.items():
        if story not in world.stories:
            continue
        changes = world.changes(story)
        for place in range(count):
            number = 1 + (2 * place + 1) * len(changes) // (2 * count)
            name = f"{story} at change {number}: {changes[number - 1]}"
            yield Case("power fails", name, shown(story), partial(loses_power, story, number))
        judge = partial(loses_power_afterwards, story)
        yield Case("power fails right after exit code 0", story, shown(story), judge)


def on_disk(world: World, story: str, folder: Path, image: Path) -> Place:
    """The place before a story, on a mounted disk, and written to it."""
    shutil.copytree(world.behind(STORIES[story].after).folder, folder / "place", symlinks=True)
    subprocess.run(["sync", "--file-system", str(folder)], check=True)
    return Place(folder / "place", image.with_name("logs"))


def loses_power(story: str, number: int, world: World, folder: Path) -> Verdict:
    if reason := is_possible(folder / "probe"):
        return Verdict(UNTRIED, reason)
    disk = Disk(folder / "disk")

    def lose() -> None:
        disk.lose("now")
        die()

    with mounted(disk.image) as top:
        place = on_disk(world, story, top, disk.image)
        place.run(STORIES[story].command, at_change(number, place.folder, lose))
    return goes_on(world, story, disk.image.with_name("0"))


def loses_power_afterwards(story: str, world: World, folder: Path) -> Verdict:
    """What a command has finished is there."""
    if reason := is_possible(folder / "probe"):
        return Verdict(UNTRIED, reason)
    disk = Disk(folder / "disk")
    with mounted(disk.image) as top:
        place = on_disk(world, story, top, disk.image)
        place.run(STORIES[story].command)
        disk.lose("afterwards")
    with mounted(disk.image.with_name("0")) as top:
        again = Place(top / "place", folder / "logs", former=place.folder)
        verdict = judge_files(again.tree(), world.right(story))
    return Verdict(LOSS, verdict.detail) if verdict.name == "silent wrong" else verdict


def goes_on(world: World, story: str, image: Path) -> Verdict:
    if not image.exists():
        return Verdict("unclear", "it made fewer changes than before, and power did not fail")
    with mounted(image) as top:
        place = Place(top / "place", image.with_name("logs"))
        return judge_end(place.run(STORIES[story].command), place, world.right(story))
