"""Input that is meant to break something, or looks so: refused at once, by name, with bounded time and memory."""

import json
import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

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
    "a merge of itself": "model: &a {<<: *a}",
    "a Python object": "name: !!python/object/apply:os.system [\"touch pwned\"]",
    "an unknown tag": "name: !goat 1",
    "two documents": "name: a\n---\nname: b",
    "a list": "- name: a",
    "a scalar": "goat",
    "nothing": "",
    "NUL bytes": b"name: a\0b\n",
    "bytes that are no text": b"\xff\xfe\x00\x01 name",
    "a tab": "name:\n\t- a",
    "the same key twice": "name: a\nname: b",
    "a base of itself": "base: [hostile.yaml]",
    "a base that is not there": "base: [nowhere.yaml]",
    "a base that is a folder": "base: [runs]",
    "a number for a key": "1: 2",
    "a very long line": "name: " + "a" * 1_000_000,
    "an integer of 5,000 digits": "seed: " + "9" * 5_000,
}
VALUES: dict[str, dict[str, Any]] = {
    "10^9 epochs": {"training.num_epochs": 1e9, "training.max_steps": None},
    "10^30 steps": {"training.max_steps": 10**30},
    "10^9 layers": {"model.num_hidden_layers": 10**9},
    "a hidden size of 10^9": {"model.hidden_size": 10**9, "model.num_attention_heads": 1},
    "a batch of 10^12": {"training.batch_size": 10**12},
    "a sequence of 10^12": {"data.seq_length": 10**12},
    "a negative learning rate": {"training.lr": -1},
    "a learning rate of infinity": {"training.lr": float("inf")},
    "a learning rate that is no number": {"training.lr": float("nan")},
    "a seed of 10^30": {"seed": 10**30},
    "a negative seed": {"seed": -1},
    "a name of 5,000 letters": {"name": "a" * 5_000},
    "a name that leaves the runs": {"name": "../outside"},
    "a name that is a path": {"name": "/tmp/outside"},
    "a name of dots": {"name": ".."},
    "an empty name": {"name": ""},
    "a name with a NUL": {"name": "a\0b"},
    "a name with a line": {"name": "a\nb"},
    "a name with a lone surrogate": {"name": "a\udc80b"},
    "a name of a lock": {"name": "a/.lock"},
    "data that leave their root": {"data.name": "../runs/teacher"},
    "data of 5,000 letters": {"data.name": "a" * 5_000},
    "data with a NUL": {"data.name": "a\0b"},
    "a list for a number": {"training.lr": [1, 2]},
    "a mapping for a name": {"name": {"a": 1}},
    "truth for a number": {"training.batch_size": True},
}
LABELS = '"field": "f", "linguistics_term": "t"'
ITEMS: dict[str, str | bytes] = {
    "a lone surrogate": f'{{"sentence_good": "a \\ud800 b", "sentence_bad": "a b", {LABELS}}}\n',
    "no JSON": "{goat}\n",
    "NUL bytes": b"\0" * 64 + b"\n",
    "not UTF-8": b'{"sentence_good": "\xff", "sentence_bad": "b", "field": "f", "linguistics_term": "t"}\n',
    "a list": "[1, 2]\n",
    "a number for a sentence": '{"sentence_good": 1, "sentence_bad": "b", "field": "f", "linguistics_term": "t"}\n',
    "no bad sentence": '{"sentence_good": "a", "field": "f", "linguistics_term": "t"}\n',
    "nesting of 100,000": "[" * 100_000 + "\n",
    "a text of a megabyte": json.dumps({"sentence_good": "cat " * 250_000, "sentence_bad": "b", "field": "f",
                                        "linguistics_term": "t"}) + "\n",
    "nothing": "",
}  # fmt: skip
TRAINING = ("train.py", "--config", "hostile.yaml")
EVALUATION = ("palenka", "evaluate", "teacher", "--tasks", "blimp_filtered")
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
    for name, values in VALUES.items():
        keys = tuple(key.rpartition(".")[2] for key in values)
        judge = partial(refused, TRAINING, partial(set_values, values), keys)
        yield Case("an absurd value", f"value: {name}", " ".join(TRAINING), judge)
    for name, content in ITEMS.items():
        judge = partial(refused, EVALUATION, partial(write_items, content), ("hostile.jsonl", "hostile, line 1"))
        yield Case("hostile evaluation items", f"items: {name}", " ".join(EVALUATION), judge)
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


def write_items(content: str | bytes, place: Place) -> None:
    path = place.folder / "items" / "blimp_filtered" / "hostile.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def nothing(place: Place) -> None:
    """The argument is the fault."""


def set_values(values: dict[str, Any], place: Place) -> None:
    config = configs()["train.yaml"]
    for key, value in values.items():
        *sections, last = key.split(".")
        section = config
        for name in sections:
            section = section[name]
        section[last] = value
        if value is None:
            del section[last]
    (place.folder / "hostile.yaml").write_text(yaml.safe_dump(config, allow_unicode=False), encoding="utf-8")


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
