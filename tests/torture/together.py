"""Two at once: the second command begins at a chosen moment of the first, and both are let go on."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torture.cases import LOSS, TRACEBACK, UNCLEAR, Case, Verdict, judge_end, last_line, shown
from torture.programs import at_change, freeze
from torture.world import STORIES, World

MOMENTS = {"prepare": (2, 14, 30), "train": (2, 6, 60, -8), "distill": (4, -3), "grid": (3, 40, -2),
           "cache-logits": (3, 9), "evaluate": (1, 5, -1), "report": (1, -1), "submission": (1, -1)}  # fmt: skip
SECONDS = 120


def cases(world: World) -> Iterator[Case]:
    for story, moments in MOMENTS.items():
        if story not in world.stories:
            continue
        changes = len(world.changes(story))
        for moment in moments:
            number = min(moment if moment > 0 else changes + 1 + moment, changes)
            name = f"{story}, the second at change {number} of the first"
            yield Case("the same command twice at once", name, shown(story), partial(twice, story, number))


def twice(story: str, number: int, world: World, folder: Path) -> Verdict:
    """Freeze the first, start the second, thaw the first; then the command once more, which must find all as it is."""
    place = world.copy(STORIES[story].after, folder)
    command = STORIES[story].command
    first = place.start(command, at_change(number, place.folder, freeze))
    os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    second = place.start(command)
    try:
        ended = [second.wait(20)] if story not in ("prepare", "cache-logits") else []
        first.send(signal.SIGCONT)
        ended += [first.wait(SECONDS)] + ([] if ended else [second.wait(SECONDS)])
    finally:
        first.kill()
        second.kill()
    for one in ended:
        if one.has_traceback:
            return Verdict(TRACEBACK, last_line(one))
        if one.code not in (0, 2):
            return Verdict(UNCLEAR, one.brief())
    if all(one.code for one in ended):
        return Verdict(LOSS, "; ".join(one.brief() for one in ended))
    return judge_end(place.run(command), place, world.right(story))
