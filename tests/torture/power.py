"""Power that fails: a disk as the kernel has written it by then, mounted again, and the same command started again.

The disk is ext4 in a file, of which any instant can be kept as a power loss would leave it: what the kernel has not
written by then, since nobody flushed it, is not in the copy. A copy's journal is replayed, as by a machine that starts.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from torture.cases import LOSS, UNTRIED, Case, Verdict, judge_end, judge_files, shown
from torture.programs import at_change, die
from torture.world import STORIES, Place, World

SIZE = 32 << 20
UNWILLING = "commit=300"  # seconds until the journal is written without being asked
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
        disk.lose()
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
        disk.lose()
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


class Disk:
    """A file system in `folder`/image."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.image = folder / "image"
        with self.image.open("wb") as file:
            file.truncate(SIZE)
        _call("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", self.image)

    def lose(self) -> None:
        """Keep it as it is, in the file `folder`/0."""
        _call("cp", "--sparse=always", self.image, self.image.with_name("0"))


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """The folder of a file system in a file."""
    folder = image.with_name(f"{image.name}-mounted")
    folder.mkdir(exist_ok=True)
    _call("mount", "-o", f"loop,{UNWILLING}", image, folder)
    try:
        yield folder
    finally:
        _call("umount", "--lazy", folder)


def _call(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def is_possible(folder: Path) -> str | None:
    """Why no power can be lost here; None where it can."""
    if os.geteuid() != 0:
        return "to mount a file system needs root"
    try:
        with mounted(Disk(folder).image):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no file system can be mounted here ({error})"
