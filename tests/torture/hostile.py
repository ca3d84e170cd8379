"""Input that is meant to break something, or looks so: refused at once, by name, with bounded time and memory.

What is merely wrong in a config or in items is refused in test_config.py, test_items.py and test_bounds.py.
"""

import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import yaml

from torture.cases import RIGHT, TRACEBACK, UNCLEAR, Case, Verdict, judge_refusal, last_line
from torture.world import Place, World, configs

SECONDS = 30
MEMORY = 12 << 30  # of addresses, of which PyTorch takes some GiB at once
LINES = "\n".join
Change = Callable[[Place], None]


def bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def yaml_bomb(width: int = 10, depth: int = 12) -> str:
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return LINES(lines)


def mapping_bomb(width: int = 9, depth: int = 13) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(width))}}}" for n in range(1, depth)]
    return LINES(lines)


TEXTS: dict[str, str | bytes] = {
    "an alias bomb": yaml_bomb(),
    "an alias bomb of mappings": mapping_bomb(),
    "nesting of 10,000 lists": "name: " + "[" * 10_000 + "]" * 10_000,
    "nesting of 2,000 mappings": "name: " + "{a: " * 2_000 + "1" + "}" * 2_000,
    "a list that holds itself": "name: &a [*a]",
    "a mapping that holds itself": "model: &a {architecture: llama, again: *a}",
    "a Python object": "name: !!python/object/apply:os.system [\"touch pwned\"]",
    "NUL bytes": b"name: a\0b\n",
    "bytes that are no text": b"\xff\xfe\x00\x01 name",
    "a very long line": "name: " + "a" * 1_000_000,
    "an integer of 5,000 digits": "seed: " + "9" * 5_000,
}
TRAINING = ("train.py", "--config", "hostile.yaml")
COMMANDS = {
    "a vocabulary of 10^12": ("palenka", "prepare", "--train", "raw/train", "--dev", "raw/dev", "--name", "x",
                              "--vocab-size", str(10**12)),
    "prepared data that leave their root": ("palenka", "prepare", "--train", "raw/train", "--dev", "raw/dev", "--name",
                                            "../x"),
    "prepared data of 5,000 letters": ("palenka", "prepare", "--train", "raw/train", "--dev", "raw/dev", "--name",
                                       "a" * 5_000),
    "a config that is a folder": ("train.py", "--config", "runs"),
    "a config that is not there": ("train.py", "--config", "nowhere.yaml"),
    "an override without a key": ("train.py", "--config", "train.yaml", "=1"),
    "an override of YAML that is none": ("train.py", "--config", "train.yaml", "name=[", ),
    "an override with a surrogate": ("train.py", "--config", "train.yaml", "name=a\udc80"),
    "a model of 5,000 letters": ("palenka", "evaluate", "a" * 5_000),
    "a model that leaves the runs and is none": ("palenka", "evaluate", "../raw"),
    "a report of nothing": ("palenka", "report", "nowhere", "--out", "r.html"),
    "a report into a folder": ("palenka", "report", "teacher", "--out", "runs"),
    "a submission of nothing": ("palenka", "submission", "nowhere", "--format", "2024", "--out", "x.json.gz"),
}  # fmt: skip


def cases(world: World) -> Iterator[Case]:
    for name, text in TEXTS.items():
        judge = partial(refused, TRAINING, partial(write, text), ("hostile.yaml", "place/runs"))
        yield Case("a hostile config", f"config: {name}", " ".join(TRAINING), judge)
    for name, command in COMMANDS.items():
        judge = partial(refused, command, nothing, ())
        yield Case("an absurd argument", f"argument: {name}", f"{command[0]} {command[1]}", judge)
    for command in (("palenka", "status"), ("palenka", "report", "teacher", "--out", "r.html"), TRAINING):
        name = f"an ASCII terminal: {command[0]} {command[1]}"
        yield Case("an ASCII terminal", name, " ".join(command), partial(in_ascii, command))
    for variables in ({"WORLD_SIZE": "2"}, {"RANK": "1"}, {"WORLD_SIZE": "2", "RANK": "0"}, {"LOCAL_RANK": "0"},
                      {"WORLD_SIZE": "goat"}, {"OMP_NUM_THREADS": "goat"}):  # fmt: skip
        told = " ".join(f"{name}={value}" for name, value in variables.items())
        judge = partial(left_over, variables)
        yield Case("a leftover environment", f"environment: {told}", "train.py --config train.yaml", judge)


def write(text: str | bytes, place: Place) -> None:
    content = text.encode() if isinstance(text, str) else text
    (place.folder / "hostile.yaml").write_bytes(content)


def nothing(place: Place) -> None:
    """The argument is the fault."""


def refused(command: tuple[str, ...], change: Change, names: tuple[str, ...], world: World, folder: Path) -> Verdict:
    place = world.copy("", folder)
    change(place)
    before = place.tree()
    ended = place.run(command, bounded, seconds=SECONDS)
    verdict = judge_refusal(ended, *names)
    if verdict.name == RIGHT and len(ended.output) > 20_000:
        return Verdict(UNCLEAR, f"a message of {len(ended.output):,} characters")
    if {path.name for path in folder.iterdir()} != {"place", "logs"}:
        return Verdict(UNCLEAR, "something was made outside")
    if verdict.name == RIGHT and place.tree() != before:
        return Verdict(UNCLEAR, "something was written before the refusal")
    return verdict


def in_ascii(command: tuple[str, ...], world: World, folder: Path) -> Verdict:
    """A terminal that knows no ü: nothing may end for it."""
    import sys

    def ascii_terminal() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding="ascii", errors="strict" if stream is sys.stdout else "backslashreplace")

    place = world.copy("", folder)
    write(yaml.safe_dump(configs()["train.yaml"] | {"name": "größe"}, allow_unicode=True), place)
    place.runs.joinpath("teacher").rename(place.runs / "teächer")
    command = tuple(word.replace("teacher", "teächer") for word in command)
    ended = place.run(command, ascii_terminal)
    if ended.has_traceback:
        return Verdict(TRACEBACK, last_line(ended))
    return Verdict(RIGHT) if ended.code in (0, 2) else Verdict(UNCLEAR, ended.brief())


def left_over(variables: dict[str, str], world: World, folder: Path) -> Verdict:
    """What a launcher left in the shell: one sentence that names it, or no harm."""
    place = world.copy("", folder)
    ended = place.run(("train.py", "--config", "train.yaml"), seconds=SECONDS, **variables)
    if ended.code == 0 and not ended.has_traceback:
        return Verdict(RIGHT)
    return judge_refusal(ended, *variables)
