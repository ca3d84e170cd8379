"""Disks that refuse: full, over quota, read-only, forbidden; folders that vanish. What was there must be kept."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from torture.cases import RIGHT, TRACEBACK, UNCLEAR, UNTRIED, Case, Verdict, judge_end, judge_refusal, last_line, shown
from torture.programs import Ended, at_change, no_larger_files
from torture.world import STORIES, Place, World

ROOM = (8, 40, 90, 180)
"""KiB that are free when a command begins: it gets so far, and no farther."""
QUOTAS = (3_000, 9_000, 30_000)
WRITING = ("prepare", "train", "distill", "dskd", "grid", "cache-logits", "evaluate", "report", "submission")
NOBODY = 65534
SECONDS = 120


def cases(world: World) -> Iterator[Case]:
    for story in WRITING:
        for room in ROOM:
            judge = partial(on_full_disk, story, room)
            yield Case("a full disk", f"{story}, {room} KiB free", shown(story), judge)
        for size in QUOTAS:
            judge = partial(over_quota, story, size)
            yield Case("a write refused for a file's size", f"{story}, {size} bytes", shown(story), judge)
        yield Case("a read-only disk", story, shown(story), partial(read_only, story))
        yield Case("a folder that may not be written", story, shown(story), partial(forbidden, story, 0o555))
    for name in ("status", "report-to-elsewhere"):
        yield Case("a read-only disk", name, "palenka status", partial(only_read, name))
    for story in ("train", "distill", "evaluate"):
        yield Case("a folder that may not be read", story, shown(story), partial(forbidden, story, 0o000))
    for story in ("train", "grid", "prepare", "evaluate", "cache-logits"):
        for share in (0.3, 0.8):
            judge = partial(vanished, story, share)
            yield Case("a folder that vanishes", f"{story}, at {share:.0%} of its changes", shown(story), judge)


@contextmanager
def small_disk(world: World, story: str, folder: Path, room: int) -> Iterator[Place]:
    """A place on a disk of its own with so many KiB to spare. Raises PermissionError where none can be mounted."""
    (folder / "place").mkdir()
    _mount("-t", "tmpfs", "-o", "size=64M", "tmpfs", str(folder / "place"))
    try:
        shutil.copytree(world.behind(story).folder, folder / "place", symlinks=True, dirs_exist_ok=True)
        used = shutil.disk_usage(folder / "place").used
        _mount("-o", f"remount,size={used + room * 1024}", str(folder / "place"))
        yield Place(folder / "place", folder / "logs")
    finally:
        subprocess.run(["umount", "--lazy", str(folder / "place")], check=False)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(done.stderr.strip())


def judge_stop(ended: Ended, place: Place) -> Verdict:
    """The system refused: one sentence that names a place on that disk, and no exit code 0."""
    codes = tuple(code for code in range(1, 128) if code != 124)
    return judge_refusal(ended, str(place.folder), "runs/", "data/", "signals/", "report", "out.json", codes=codes)


def stopped_and_on(world: World, place: Place, story: str, ended: Ended, free: Callable[[], None]) -> Verdict:
    """Refused as it should be; and where the disk takes files again, the same command goes on to the same end."""
    if ended.code == 0:
        return judge_end(ended, place, world.right(story))
    verdict = judge_stop(ended, place)
    free()
    again = judge_end(place.run(STORIES[story].command, seconds=SECONDS), place, world.right(story))
    return again if again.name != RIGHT else verdict


def on_full_disk(story: str, room: int, world: World, folder: Path) -> Verdict:
    try:
        with small_disk(world, STORIES[story].after, folder, room) as place:
            ended = place.run(STORIES[story].command, seconds=SECONDS)
            free = partial(_mount, "-o", "remount,size=64M", str(place.folder))
            return stopped_and_on(world, place, story, ended, free)
    except PermissionError as error:
        return Verdict(UNTRIED, str(error))


def over_quota(story: str, size: int, world: World, folder: Path) -> Verdict:
    """Python ignores SIGXFSZ, so that a write fails with an errno, as over a quota."""
    place = world.copy(STORIES[story].after, folder)
    ended = place.run(STORIES[story].command, no_larger_files(size), seconds=SECONDS)
    return stopped_and_on(world, place, story, ended, lambda: None)


def read_only(story: str, world: World, folder: Path) -> Verdict:
    try:
        with small_disk(world, STORIES[story].after, folder, 1024) as place:
            _mount("-o", "remount,ro", str(place.folder))
            ended = place.run(STORIES[story].command, seconds=SECONDS)
            free = partial(_mount, "-o", "remount,rw,size=64M", str(place.folder))
            return stopped_and_on(world, place, story, ended, free)
    except PermissionError as error:
        return Verdict(UNTRIED, str(error))


def only_read(name: str, world: World, folder: Path) -> Verdict:
    """What writes nothing there must not mind."""
    command = ["palenka", "status"] if name == "status" else ["palenka", "report", "baseline", "--out",
                                                              str(folder / "report.html")]  # fmt: skip
    try:
        with small_disk(world, "evaluate", folder, 1024) as place:
            _mount("-o", "remount,ro", str(place.folder))
            ended = place.run(command)
            if ended.has_traceback:
                return Verdict(TRACEBACK, last_line(ended))
            return Verdict(RIGHT) if ended.code == 0 else Verdict(UNCLEAR, ended.brief())
    except PermissionError as error:
        return Verdict(UNTRIED, str(error))


def forbidden(story: str, mode: int, world: World, folder: Path) -> Verdict:
    """As a user to whom nothing there belongs: `mode` is that of runs, data and signals."""
    if os.geteuid() != 0:
        return Verdict(UNTRIED, "to become another user needs root")
    place = world.copy(STORIES[story].after, folder)
    for parent in (world.folder, folder, folder / "place"):
        parent.chmod(0o755)
    place.logs.chmod(0o777)
    (place.folder / "signals").mkdir(exist_ok=True)
    places = [place.folder / name for name in ("runs", "data", "signals")]
    for path in [one for top in places for one in (top, *top.rglob("*"))]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in places:
        path.chmod(mode)
    ended = place.run(STORIES[story].command, lambda: os.setuid(NOBODY), seconds=SECONDS)
    return judge_stop(ended, place)


def vanished(story: str, share: float, world: World, folder: Path) -> Verdict:
    """Somebody moves the folder away under the command, and back later."""
    place = world.copy(STORIES[story].after, folder)
    top = {"train": "runs/baseline", "grid": "runs/grid", "prepare": "data", "evaluate": "runs/baseline",
           "cache-logits": "signals"}[story]  # fmt: skip
    number = max(4, int(share * len(world.changes(story))))
    away = folder / "away"

    def move() -> None:
        if (place.folder / top).exists():
            (place.folder / top).rename(away)

    ended = place.run(STORIES[story].command, at_change(number, place.folder, move), seconds=SECONDS)

    def back() -> None:
        if away.exists():
            shutil.rmtree(place.folder / top, ignore_errors=True)
            away.rename(place.folder / top)

    return stopped_and_on(world, place, story, ended, back)
