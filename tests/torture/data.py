"""Prepared data that has rotted: under a new run, under one that goes on, and at another `prepare`."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torture import damage
from torture.cases import Case, Verdict, judge_damage, shown
from torture.checkpoints import half_way
from torture.damage import Damage, change_json, name_of
from torture.world import STORIES, World

SPLITS, NAMES = ("train", "dev"), ("tokens", "words", "lines", "documents")
ARRAYS = tuple(f"{split}/{name}.bin" for split in SPLITS for name in NAMES)
OTHERS = ("train/index.json", "dev/index.json", "prepared.json", "tokenizer/tokenizer.json",
          "tokenizer/tokenizer_config.json")  # fmt: skip
DAMAGES: tuple[Damage, ...] = (
    damage.cut, damage.nul_tail, damage.bit_flip, damage.missing, damage.empty, damage.appended, damage.garbage,
)  # fmt: skip
SECONDS = 60


def one_token_less(folder: Path) -> None:
    path = folder / "train" / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-2])


def splits_swapped(folder: Path) -> None:
    (folder / "train").rename(folder / "kept")
    (folder / "dev").rename(folder / "train")
    (folder / "kept").rename(folder / "dev")


def dev_is_train(folder: Path) -> None:
    shutil.rmtree(folder / "dev")
    shutil.copytree(folder / "train", folder / "dev")


def tokens_beyond_the_vocabulary(folder: Path) -> None:
    path = folder / "train" / "tokens.bin"
    content = bytearray(path.read_bytes())
    content[1000:1002] = b"\xff\xff"
    path.write_bytes(content)


def other_merges(folder: Path) -> None:
    def swap(content: dict[str, Any]) -> None:
        merges = content["model"]["merges"]
        merges[0], merges[1] = merges[1], merges[0]

    change_json(folder / "tokenizer" / "tokenizer.json", swap)


def domains_renamed(folder: Path) -> None:
    path = folder / "train" / "index.json"
    path.write_text(path.read_text(encoding="utf-8").replace("gutenberg", "bible"), encoding="utf-8")


def domains_overlap(folder: Path) -> None:
    change_json(folder / "train" / "index.json", lambda index: index["domains"][1].update(start=0))


def another_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


FOLDERS: tuple[Callable[[Path], None], ...] = (
    one_token_less, splits_swapped, dev_is_train, tokens_beyond_the_vocabulary, other_merges, domains_renamed,
    domains_overlap, another_tokenizer,
)  # fmt: skip


def cases(world: World) -> Iterator[Case]:
    for file in (*ARRAYS, *OTHERS):
        for what in DAMAGES:
            change = partial(do_to, file, what)
            yield from both(f"{file}: {name_of(what)}", change, file.startswith("train/tok") or what is damage.bit_flip)
    for change in FOLDERS:
        yield from both(name_of(change), change, True)
    for file in ("train/tokens.bin", "dev/lines.bin", "tokenizer/tokenizer.json", "prepared.json", "train/index.json"):
        for what in (damage.cut, damage.bit_flip, damage.missing):
            judge = partial(prepared_again, partial(do_to, file, what))
            name = f"prepared again: {file}: {name_of(what)}"
            yield Case("damaged data, prepared again", name, shown("prepare"), judge)


def both(name: str, change: Callable[[Path], None], is_resumed: bool) -> Iterator[Case]:
    yield Case("damaged data, a new run", f"new run: {name}", shown("train"), partial(new_run, change))
    if is_resumed:
        yield Case("damaged data, a run that goes on", f"goes on: {name}", shown("train"), partial(resumed, change))


def do_to(file: str, what: Damage, folder: Path) -> None:
    what(folder / file)


def new_run(change: Callable[[Path], None], world: World, folder: Path) -> Verdict:
    place = world.copy("", folder)
    change(place.data)
    before = place.tree()
    ended = place.run(STORIES["train"].command, seconds=SECONDS)
    return judge_damage(ended, place, before, world.right("train"), "runs/", "data/tiny")


def resumed(change: Callable[[Path], None], world: World, folder: Path) -> Verdict:
    place = half_way(world, folder)
    change(place.data)
    before = place.tree()
    ended = place.run(STORIES["train"].command, seconds=SECONDS)
    return judge_damage(ended, place, before, world.right("train"), "runs/", "data/tiny")


def prepared_again(change: Callable[[Path], None], world: World, folder: Path) -> Verdict:
    """`prepare` with the same text: it says what is damaged, or makes it whole again."""
    place = world.copy("prepare", folder)
    change(place.folder / "data" / "again")
    before = place.tree()
    ended = place.run(STORIES["prepare"].command, seconds=SECONDS)
    return judge_damage(ended, place, before, world.right("prepare"), "data/again", "data/again")


