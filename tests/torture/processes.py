"""Two processes that train one run: one killed, the other, both, the launcher; told to stop. Also by torchrun."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from palenka.util.paths import ROOT
from torture import programs
from torture.cases import RIGHT, TRACEBACK, UNCLEAR, Case, Verdict, judge_end, judge_files, last_line, shown
from torture.programs import Ended, Fault, Program, at_change, die
from torture.world import STORIES, Place, World

STORIES_OF_TWO = ("train", "distill", "grid")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--signals_to_handle=SIGTERM,SIGUSR1")
SHARES = {"train": 8, "distill": 5, "grid": 9}
SECONDS = 120


def cases(world: World) -> Iterator[Case]:
    for story, count in SHARES.items():
        for number in range(count):
            share = (number + 0.5) / count
            for rank in (0, 1):
                judge = partial(kill_one, story, rank, share)
                name = f"{story}, process {rank} at {share:.0%}"
                yield Case("SIGKILL of one of two processes", name, shown(story), judge)
    for story in STORIES_OF_TWO:
        judge = partial(kill_one, story, None, 0.5)
        yield Case("SIGKILL of both processes", f"{story}, both", shown(story), judge)
    for fault, victim, number in (
        ("SIGKILL of one of two processes, torchrun", 0, signal.SIGKILL),
        ("SIGKILL of one of two processes, torchrun", 1, signal.SIGKILL),
        ("SIGKILL of torchrun itself", None, signal.SIGKILL),
        ("SIGTERM of torchrun", None, signal.SIGTERM),
        ("SIGUSR1 of torchrun", None, signal.SIGUSR1),
    ):
        for story, late in (("train", 1), ("train", 4)):
            judge = partial(under_torchrun, story, victim, number, late)
            name = f"torchrun {story}, process {victim}, {number.name} at checkpoint {late}"
            yield Case(fault, name, f"torchrun --nproc_per_node=2 {shown(story)}", judge)


def command_of(story: str) -> list[str]:
    first, *others = STORIES[story].command
    return ["-m", first, *others] if first == "palenka" else [str(ROOT / first), *others]


def start_two(place: Place, story: str, faults: tuple[list[Fault], list[Fault]] = ([], [])) -> list[Program]:
    """The two processes as torchrun starts them, without torchrun."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    number = len(list(place.logs.iterdir()))
    return [
        programs.start(command_of(story), place.environment(RANK=str(rank), LOCAL_RANK=str(rank), **common),
                       place.folder, place.logs / f"{number}-rank{rank}.log", faults[rank])
        for rank in (0, 1)
    ]  # fmt: skip


def run_two(place: Place, story: str) -> Ended:
    """Both to their end; the first one's exit code, or the other's where it is worse."""
    first, second = (one.wait(SECONDS) for one in start_two(place, story))
    return Ended(first.code or second.code, first.output + second.output, first.seconds)


def behind_two(world: World, story: str) -> Place:
    """The place as two processes leave it where nothing happens."""

    def tell(place: Place) -> None:
        noted = [programs.noted(place.folder, place.folder.parent / "changes")]
        ended = [one.wait(SECONDS) for one in start_two(place, story, (noted, []))]
        assert not any(one.code for one in ended), ended[0].output + ended[1].output

    return world.once(f"two-{story}", STORIES[story].after, tell)


def kill_one(story: str, rank: int | None, share: float, world: World, folder: Path) -> Verdict:
    """Process 0 is killed at a change of the disk, which it alone makes; the other, or both, when that one freezes."""
    right = behind_two(world, story).tree()
    place = world.copy(STORIES[story].after, folder)
    number = 1 + int(share * len(world.changes(f"two-{story}")))
    stop = die if rank == 0 else programs.freeze
    two = start_two(place, story, ([at_change(number, place.folder, stop)], []))
    try:
        if rank != 0:
            os.waitid(os.P_PID, two[0].pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            for victim in two if rank is None else two[1:]:
                victim.kill()
            two[0].send(signal.SIGCONT)
        ended = [one.wait(60) for one in two]
    finally:
        for one in two:
            one.kill()
    return judge_two(ended, place, story, right)


def judge_two(ended: list[Ended], place: Place, story: str, right: dict[str, str]) -> Verdict:
    """The survivor must end, with a sentence; and started again, both must come to the right end."""
    for one in ended:
        if one.code == 124:
            return Verdict(UNCLEAR, "the other process did not end")
    again = judge_end(run_two(place, story), place, right)
    if again.name != RIGHT:
        return again
    for one in ended:
        if own_traceback(one.output):
            return Verdict(TRACEBACK, f"of the surviving process: {last_line(one)}")
    return again


def own_traceback(output: str) -> bool:
    """Whether a traceback goes through the project: a launcher prints one of its own of every process that failed."""
    blocks = output.split("Traceback (most recent call last)")[1:]
    return any(re.search(rf'{re.escape(str(ROOT))}/(palenka/|\w+\.py")', block) for block in blocks)


def under_torchrun(
    story: str, victim: int | None, number: signal.Signals, late: int, world: World, folder: Path
) -> Verdict:
    right = behind_two(world, story).tree()
    place = world.copy(STORIES[story].after, folder)
    launcher = start_torchrun(place, story)
    try:
        wait_for_checkpoint(place, late, launcher)
        workers = ranks_of(launcher.pid)
        if victim is None:
            launcher.send(number)
        elif victim in workers:
            os.kill(workers[victim], number)
        ended = launcher.wait(SECONDS)
        wait_for_end(list(workers.values()))
    finally:
        launcher.kill()
    if own_traceback(ended.output):
        return Verdict(TRACEBACK, last_line(ended))
    if ended.code == 0:
        return judge_files(place.tree(), right)
    again = start_torchrun(place, story).wait(SECONDS)
    if own_traceback(again.output):
        return Verdict(TRACEBACK, last_line(again))
    return judge_end(Ended(again.code, "", 0.0) if again.code == 0 else again, place, right)


def start_torchrun(place: Place, story: str) -> Program:
    """The launcher is forked; it starts its two processes itself, from nothing."""
    log = place.logs / f"torchrun-{len(list(place.logs.iterdir()))}.log"
    arguments = [*TORCHRUN, *command_of(story)]
    return programs.start(arguments, place.environment(), place.folder, log)


def wait_for_checkpoint(place: Place, late: int, launcher: Program) -> None:
    deadline = time.monotonic() + SECONDS
    while launcher.poll() is None and time.monotonic() < deadline:
        steps = [path.name.removeprefix("checkpoint-") for path in place.runs.glob("*/checkpoint-*")]
        if any(step.isdecimal() and int(step) >= late for step in steps):
            return
        time.sleep(0.002)


def ranks_of(launcher: int) -> dict[int, int]:
    """Process ids of a launcher's processes, by rank."""
    found = {}
    for children in Path(f"/proc/{launcher}/task").glob("*/children"):
        for pid in map(int, children.read_text().split()):
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            found |= {int(one[5:]): pid for one in variables if one.startswith(b"RANK=")}
    return found


def wait_for_end(pids: list[int]) -> None:
    """Those that a killed launcher leaves behind go on by themselves."""
    deadline = time.monotonic() + SECONDS
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not only its exit code, which nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
