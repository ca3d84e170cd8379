"""Kills: at every kind of change of the disk, in the middle of a write, at any time; and signals that ask to stop."""

import os
import random
import re
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from torture.cases import RIGHT, TRACEBACK, UNCLEAR, Case, Verdict, judge_end, last_line, shown, worst
from torture.programs import Ended, Fault, at_change, die, in_the_middle_of_a_write
from torture.world import STORIES, Place, World

PHASES = (  # the first that is found in a change of the disk
    (r"doomed", "while checkpoints are cleared away"),
    (r"checkpoint-", "while a checkpoint is written"),
    (r"revision", "while a milestone is written"),
    (r"export|tokenizer|model\.safetensors|config\.json|README", "while the model is written"),
    (r"metrics\.jsonl", "in training, at a record"),
    (r"result\.json", "at the result"),
    (r"identity|config\.yaml|environment|lock", "at the first start"),
    (r"grid\.json", "at the selection"),
    (r"evaluation/", "while results are written"),
    (r"partial/(train|dev)/", "while text is tokenised"),
    (r"partial/text", "while text is cleaned"),
)
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
ENDS = {
    signal.SIGTERM: (75, -signal.SIGTERM), signal.SIGUSR1: (75, -signal.SIGUSR1), signal.SIGINT: (130, -signal.SIGINT),
}  # fmt: skip
MOST_POINTS = 60
POINTS = {"dskd": 20, "cached-student": 20, "distill": 40, "prepare": 50}
"""How many points at most, evenly over all kinds of changes."""
WRITES = (6_000, 14_000, 40_000)
TIMES = {"train": 10, "distill": 8, "dskd": 4, "grid": 12, "prepare": 6, "cache-logits": 6, "cached-student": 3,
         "evaluate": 4, "report": 2, "submission": 1}  # fmt: skip


def cases(world: World) -> Iterator[Case]:
    for story in world.stories:
        kinds = list(points(world.changes(story)))
        for number, label in kinds[:: -(-len(kinds) // POINTS.get(story, MOST_POINTS))]:
            name = f"{story} at change {number}: {label}"
            yield Case(f"SIGKILL {phase(label)}", name, shown(story), partial(kill_at, story, number))
        for size in WRITES:
            judge = partial(kill_in_a_write, story, size)
            yield Case("killed in the middle of a write", f"{story}, at byte {size} of a file", shown(story), judge)
        for number in range(TIMES.get(story, 0)):
            judge = partial(kill_at_any_time, story, number)
            yield Case("SIGKILL at any time, three times over", f"{story}, no. {number}", shown(story), judge)
    for story in (name for name in ("train", "distill", "grid") if name in world.stories):
        for one in SIGNALS:
            for share in (0.0, 0.4, 0.7, 0.95):
                number = 1 + int(share * (len(world.changes(story)) - 1))
                judge = partial(ask_to_stop, story, number, one)
                name = f"{story} at change {number}, {one.name}"
                yield Case(f"{one.name}", name, shown(story), judge)


def points(changes: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Of each kind of change one, by number from 1: the first of its kind, of the next kind the last, and so on."""
    kinds: dict[str, list[int]] = {}
    for number, change in enumerate(changes, start=1):
        kinds.setdefault(re.sub(r"\d+", "N", change), []).append(number)
    for place, (kind, numbers) in enumerate(kinds.items()):
        yield numbers[-(place % 2)], kind


def phase(change: str) -> str:
    """What was going on at a change of the disk, in words."""
    return next((words for pattern, words in PHASES if re.search(pattern, change)), "at another change of the disk")


def kill_at(story: str, number: int, world: World, folder: Path) -> Verdict:
    place = world.copy(STORIES[story].after, folder)
    ended = place.run(STORIES[story].command, at_change(number, place.folder, die))
    if ended.code == 0:
        return Verdict(UNCLEAR, "it made fewer changes than before, and was not killed")
    return after_kill(world, place, story, ended)


def kill_in_a_write(story: str, size: int, world: World, folder: Path) -> Verdict:
    place = world.copy(STORIES[story].after, folder)
    ended = place.run(STORIES[story].command, in_the_middle_of_a_write(size))
    if ended.code == 0:
        return judge_end(ended, place, world.right(story))
    return after_kill(world, place, story, ended)


def kill_at_any_time(story: str, seed: int, world: World, folder: Path, kills: int = 3) -> Verdict:
    chance = random.Random(f"{story} {seed}")
    place = world.copy(STORIES[story].after, folder)
    moments = []
    for _ in range(kills):
        program = place.start(STORIES[story].command)
        moment = chance.uniform(0, 0.9 * world.seconds(story))
        time.sleep(moment)
        program.kill()
        ended = program.wait()
        if ended.has_traceback:
            return Verdict(TRACEBACK, last_line(ended))
        moments.append(f"{moment:.2f} s")
    verdict = after_kill(world, place, story, ended)
    return Verdict(verdict.name, f"killed after {', '.join(moments)}; {verdict.detail}")


def after_kill(world: World, place: Place, story: str, killed: Ended) -> Verdict:
    """What is left must not stop others from being seen, and the same command must come to the same end."""
    if killed.has_traceback:
        return Verdict(TRACEBACK, last_line(killed))
    seen = place.run(("palenka", "status"))
    if seen.has_traceback or seen.code:
        return Verdict(TRACEBACK if seen.has_traceback else UNCLEAR, f"status: {seen.brief()}")
    return judge_end(place.run(STORIES[story].command), place, world.right(story))


def ask_to_stop(story: str, number: int, one: signal.Signals, world: World, folder: Path) -> Verdict:
    place = world.copy(STORIES[story].after, folder)
    fault: Fault = at_change(number, place.folder, lambda: os.kill(os.getpid(), one))
    ended = place.run(STORIES[story].command, fault)
    if ended.code == 0:  # it came too late to stop anything
        return judge_end(ended, place, world.right(story))
    verdict = after_kill(world, place, story, ended)
    if verdict.name == RIGHT and ended.code not in ENDS[one]:
        return worst(verdict, Verdict(UNCLEAR, ended.brief()))
    return verdict


