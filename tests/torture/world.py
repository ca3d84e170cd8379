"""The small world in which faults happen, and what its commands leave where nothing happens.

    place/  raw/ data/ runs/ items/ signals/ *.yaml    text, prepared data, the run `teacher`, minimal pairs, configs

A *story* is one command in that world, started from what an earlier one left. Each case gets a copy.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from torture import programs
from torture.programs import Ended, Fault, Program

TIMINGS = ("seconds", "tokens_per_second", "log", "host", "commit", "command")
UNCOMPARED = ("environment.json",)
PAIRS = {
    "agreement": [("The cat sees a dog.", "The cat see a dog."), ("Every child.", "Every childs.")],
    "order": [("One farmer likes the river.", "Farmer one likes the river.")],
}


@dataclass(frozen=True)
class Story:
    """One command: `after` is the story whose end it begins with, "" for the bare world."""

    name: str
    command: tuple[str, ...]
    after: str = ""


STORIES = {
    story.name: story
    for story in (
        Story("prepare", ("palenka", "prepare", "--train", "raw/train", "--dev", "raw/dev", "--name", "again",
                          "--vocab-size", "300")),
        Story("train", ("train.py", "--config", "train.yaml")),
        Story("distill", ("distill.py", "--config", "distill.yaml")),
        Story("dskd", ("dskd_noaux.py", "--config", "dskd.yaml")),
        Story("grid", ("palenka", "grid", "--config", "grid.yaml")),
        Story("cache-logits", ("palenka", "cache-logits", "--config", "cached.yaml")),
        Story("cached-student", ("distill.py", "--config", "cached.yaml"), "cache-logits"),
        Story("evaluate", ("palenka", "evaluate", "baseline"), "train"),
        Story("report", ("palenka", "report", "baseline", "--out", "report.html"), "evaluate"),
        Story("submission", ("palenka", "submission", "baseline", "--format", "2024", "--out", "out.json.gz"),
              "evaluate"),
        Story("evaluate-teacher", ("palenka", "evaluate", "teacher", "--tasks", "blimp_filtered")),
    )
}  # fmt: skip


def configs() -> dict[str, dict[str, Any]]:
    """By name of the file."""
    import tiny

    training: dict[str, Any] = tiny.train_values()["training"]
    often = training | {"max_steps": 6, "eval_steps": 2, "checkpoint_steps": 1, "logging_steps": 2}
    milestones = {"words": [100, 300], "tasks": ["blimp_filtered"]}
    few = often | {"max_steps": 4, "eval_steps": 4, "checkpoint_steps": 2}
    trials = {"axes": {"objective.logit.weight": [0.1, 1.0], "seed": [1]}, "finalists": {"count": 1}}
    kd = {"hard_target": {"weight": 1.0}, "logit": {"weight": 0.5}}
    dskd = {"hard_target": {"weight": 1.0}, "hidden_state": {"weight": 0.5}}
    return {
        "train.yaml": tiny.train_values(training=often, evaluation=milestones),
        "distill.yaml": tiny.distill_values(training=often),
        "dskd.yaml": tiny.distill_values(name="dskd", objective=dskd, training=few),
        "grid.yaml": tiny.distill_values(name="grid", training=few, grid=trials),
        "cached.yaml": tiny.distill_values(name="read", objective=kd, training=few, cached_logits={"top_k": 8}),
    }


class Place:
    """A folder with everything the commands touch."""

    fake: Callable[[Path], None] | None = None
    """A program that is started in place of every command: to see that the judges can say no."""

    def __init__(self, folder: Path, logs: Path, former: Path | None = None) -> None:
        """`former`: where the folder was when the commands wrote to it, if it was elsewhere."""
        self.folder, self.logs, self.former = folder, logs, former or folder
        logs.mkdir(parents=True, exist_ok=True)
        self._started = 0

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def data(self) -> Path:
        return self.folder / "data" / "tiny"

    def environment(self, **more: str) -> dict[str, str]:
        from palenka.util.paths import ROOT

        here = str(self.folder)
        return {
            "PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.logs), "LANG": "C.UTF-8",
            "TMPDIR": str(self.logs), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "PALENKA_DATA": f"{here}/data",
            "PALENKA_RUNS": f"{here}/runs", "PALENKA_EVAL": f"{here}/items", "PALENKA_SIGNALS": f"{here}/signals",
        } | more  # fmt: skip

    def start(self, command: Sequence[str | Path], *faults: Fault, **environment: str) -> Program:
        """Start `palenka …`, or a script of the repository's root."""
        from palenka.util.paths import ROOT

        self._started += 1
        first, *others = map(str, command)
        arguments = ["-m", first, *others] if first == "palenka" else [str(ROOT / first), *others]
        log = self.logs / f"{self._started}-{Path(first).stem}.log"
        if fake := Place.fake:
            return programs.fork(lambda: fake(self.folder), self.environment(**environment), self.folder, log, faults)
        return programs.start(arguments, self.environment(**environment), self.folder, log, faults)

    def run(self, command: Sequence[str | Path], *faults: Fault, seconds: float = programs.SECONDS,
            **environment: str) -> Ended:  # fmt: skip
        return self.start(command, *faults, **environment).wait(seconds)

    def tree(self) -> dict[str, str]:
        """What there is, by path: a hash of each file's content, but for times and for this folder's own name."""
        paths = [path for path in self.folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
        found = ((str(path.relative_to(self.folder)), path) for path in paths if path.name not in UNCOMPARED)
        return {name: self._digest(path) for name, path in sorted(found)}

    def _digest(self, path: Path) -> str:
        content = path.read_bytes().replace(os.fsencode(self.former), b"PLACE")
        if path.suffix in (".json", ".jsonl") and path.name != "tokenizer.json":
            content = _without_timings(content)
        elif path.name == "README.md":
            content = b"\n".join(line for line in content.splitlines() if b"tokens/s" not in line)
        return hashlib.sha256(content).hexdigest()


def _without_timings(content: bytes) -> bytes:
    try:
        values = [json.loads(content)]
    except (ValueError, RecursionError):
        try:
            values = [json.loads(line) for line in content.splitlines()]
        except (ValueError, RecursionError):
            return content
    kept = [{k: v for k, v in value.items() if k not in TIMINGS} if isinstance(value, dict) else value
            for value in values]  # fmt: skip
    return json.dumps(kept).encode()


class World:
    """The bare place, and, for each story, the place behind it and the changes of the disk on the way."""

    def __init__(self, folder: Path, stories: Sequence[str]) -> None:
        self.folder, self.stories = folder, tuple(stories)

    @classmethod
    def build(cls, folder: Path, stories: Sequence[str] = tuple(STORIES)) -> "World":
        """Make the bare place; stories are told when they are asked for, or with `tell_all`. Cases are of `stories`."""
        world = cls(folder, stories)
        if not (folder / "bare" / "done").exists():
            shutil.rmtree(folder / "bare", ignore_errors=True)
            place = Place(folder / "bare" / "place", folder / "bare" / "logs")
            place.folder.mkdir(parents=True)
            _succeed(programs.fork(lambda: _write_bare(place.folder), place.environment(), folder, folder / "bare.log"))
            prepare = ("palenka", "prepare", "--train", "raw/train", "--dev", "raw/dev", "--name", "tiny",
                       "--vocab-size", "320")  # fmt: skip
            _succeed(place.start(prepare))
            work = lambda: _write_teacher(place)  # noqa: E731
            _succeed(programs.fork(work, place.environment(), folder, folder / "bare.log"))
            (folder / "bare" / "done").touch()
        return world

    def tell_all(self) -> None:
        for name in self.stories:
            self.behind(name)

    def behind(self, name: str) -> Place:
        """The place as it is after a story, told once without any fault."""

        def tell(place: Place) -> None:
            begun = time.monotonic()
            whole = place.folder.parent
            _succeed(place.start(STORIES[name].command, programs.noted(place.folder, whole / "changes")))
            (whole / "seconds").write_text(f"{time.monotonic() - begun}")

        return self.once(name, STORIES[name].after, tell) if name else Place(*self._folders("bare"))

    def once(self, name: str, after: str, make: Callable[[Place], None]) -> Place:
        """A place that is made of the one behind a story by whoever needs it first."""
        place = Place(*self._folders(name))
        whole = place.folder.parent
        fake, Place.fake = Place.fake, None  # what is right is told by the real program
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (whole / "done").exists():
                make(self.copy(after, whole))
                (whole / "done").touch()
        Place.fake = fake
        return place

    def _folders(self, name: str) -> tuple[Path, Path]:
        return self.folder / name / "place", self.folder / name / "logs"

    def changes(self, story: str) -> list[str]:
        """The changes of the disk that a story makes, in order."""
        if story in STORIES:
            self.behind(story)
        return (self.folder / story / "changes").read_text(encoding="utf-8").splitlines()

    def seconds(self, story: str) -> float:
        """How long a story takes."""
        self.behind(story)
        return float((self.folder / story / "seconds").read_text())

    @cached_property
    def _right(self) -> dict[str, dict[str, str]]:
        return {}

    def right(self, story: str) -> dict[str, str]:
        """The tree behind a story."""
        if story not in self._right:
            self._right[story] = self.behind(story).tree()
        return self._right[story]

    def copy(self, name: str, to: Path) -> Place:
        """A place of a case's own, as it is behind a story ("": the bare one)."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.behind(name).folder, to / "place", symlinks=True)
        return Place(to / "place", to / "logs")


def _succeed(program: Program) -> None:
    ended = program.wait()
    if ended.code:
        raise SystemExit(f"the undisturbed world does not stand: {ended.output[-3000:]}")


def _write_bare(folder: Path) -> None:
    import tiny

    tiny.write_raw_text(folder / "raw")
    for name, pairs in PAIRS.items():
        labels = {"linguistics_term": name, "field": "syntax", "UID": name}
        records = [{"sentence_good": good, "sentence_bad": bad, **labels} for good, bad in pairs]
        path = folder / "items" / "blimp_filtered" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    for name, values in configs().items():
        write_config(folder / name, values)


def _write_teacher(place: Place) -> None:
    import tiny

    from palenka.models.folder import EXPORTED, weights_sha256
    from palenka.util.files import read_json, write_json

    place.runs.mkdir()
    folder = tiny.write_finished_run(place.runs / "teacher", tiny.GPT2, place.data / "tokenizer")
    (folder / "environment.json").write_text("{}", encoding="utf-8")
    write_json(folder / "result.json", read_json(folder / "result.json") | {EXPORTED: weights_sha256(folder)})


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")


def differences(found: Mapping[str, str], right: Mapping[str, str]) -> list[str]:
    """What stands otherwise than it should, a line each."""
    return [
        f"{'missing' if name not in found else 'left over' if name not in right else 'differs'}: {name}"
        for name in sorted({*found, *right})
        if found.get(name) != right.get(name)
    ]
