"""The share of it that runs in the test suite; and programs that do everything wrong, of which no judge may approve."""

import importlib
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from torture.cases import RIGHT, Case
from torture.world import Place, World

STORIES = ("prepare", "train", "evaluate")
CHECKPOINT = r"train at change \d+: \w+ .*/\.checkpoint-N\.tmp"
TWICE = r"train, the second at change 6 "
CHOSEN = {
    "kills": (CHECKPOINT, r"train at change \d+: \w+ .*chck_N", "prepare, no. 0",
              r"evaluate at change \d+: \w+ .*blimp_filtered.json"),
    "together": (TWICE,),
    "power": (r"train at change \d+: .*checkpoint-", "prepare$"),
    "files": (r"train on train-half: .*/checkpoint-\d+/optimizer.pt: (cut|missing)", "evaluate .*/cross_.*: missing"),
    "hostile": ("config: an alias bomb$",),
}  # fmt: skip
"""Patterns that the names of cases begin with, by family."""
JUDGED = {
    "kills": CHECKPOINT,
    "together": TWICE,
    "files": "train on bare: data/tiny/train/tokens.bin: ",
    "hostile": "config: ",
    "disks": "train, 3000 bytes",
}


def is_chosen(family: str, name: str) -> bool:
    return any(re.match(pattern, name) for pattern in CHOSEN.get(family, ()))


def careless(folder: Path) -> None:
    """Says that all is well, and does nothing."""
    print(f"{folder}: finished")


def crashing(folder: Path) -> None:
    raise RuntimeError(f"{folder}: goat")


def mute(folder: Path) -> None:
    """Refuses, and does not say what."""
    print("error: something is wrong", file=sys.stderr)
    sys.exit(2)


def destroying(folder: Path) -> None:
    """Names everything, and removes it."""
    print("error:", *(path.relative_to(folder) for path in sorted(folder.rglob("*"))), file=sys.stderr)
    for name in ("runs", "data", "items"):
        shutil.rmtree(folder / name, ignore_errors=True)
    sys.exit(2)


def check_judges(world: World) -> None:
    """Have cases of each family judge programs that are wrong in every way. Ends the process where one is approved."""
    fakes: tuple[Callable[[Path], None], ...] = (careless, crashing, mute, destroying)
    for family, name in JUDGED.items():
        cases = importlib.import_module(f"torture.{family}").cases(world)
        found = [case for case in cases if re.match(name, case.name)]
        assert found, f"{family}: no case is named {name}…"
        for fake in fakes:
            _check(world, family, found[0], fake)


def _check(world: World, family: str, case: Case, fake: Callable[[Path], None]) -> None:
    folder = world.folder / "fake"
    Place.fake = fake
    try:
        folder.mkdir()
        verdict = case.judge(world, folder)
    finally:
        Place.fake = None
        shutil.rmtree(folder)
    if verdict.name == RIGHT:
        sys.exit(f"{family}: the judge of {case.name!r} approves of a {fake.__name__} program: {verdict.detail}")
    print(f"{family}: {fake.__name__} program: {verdict.name}", flush=True)
