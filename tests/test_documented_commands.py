"""Every command of the README and of the pages runs as it stands there, or says what it needs that no test has.

A block is one of commands if a program begins one of its lines. A page's are run from top to bottom, in a folder that
has the repository's files, a tiny text under the names of the published ones, and tiny runs; what takes long has few
steps. What cannot be run is marked for the reader, behind the command or in a line above those that it holds for: `#
needs GPUs`. The commands in the heads of configs are those of `test_study_configs.py`.
"""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import glue_items
import pytest
import tiny
import yaml
from accelerate.state import AcceleratorState
from made_items import write_lines, write_official, write_pairs, write_words
from made_runs import made_result, write_metrics

from palenka.cli import main
from palenka.models.folder import weights_sha256
from palenka.runs.ledger import LEDGER, Ledger
from palenka.runs.milestones import TRACKS, milestone_name
from palenka.util.config import compose
from palenka.util.files import write_json
from palenka.util.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEEDS = ("a network", "GPUs", "a cluster", "a pipeline's checkout", "the file above", "trackio")
NOT_RUN = re.compile(rf"#.*\b(?:needs (?:{'|'.join(NEEDS)})|takes (?:minutes|hours)|until Ctrl-C)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = r"palenka|python|bash|make|torchrun|git|pip|wandb|tensorboard|trackio|source|export|for|sbatch|qsub"
PROGRAM = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{PROGRAMS}) ")
ACTIVATION = "source .venv/bin/activate"  # the tests have done it


@dataclass(frozen=True)
class Command:
    text: str
    is_run: bool


def blocks(page: Path) -> list[str]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if not language and any(map(PROGRAM.match, text.splitlines()))]


def commands(block: str) -> Iterator[Command]:
    """A mark in a line of its own holds up to the next empty line."""
    marked = False
    for line in block.replace("\\\n", " ").splitlines():
        if not line:
            marked = False
        elif line.startswith("#"):
            marked = marked or bool(NOT_RUN.match(line))
        else:
            yield Command(line, not (marked or NOT_RUN.search(line)))


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_blocks_of_commands_hold_commands_alone() -> None:
    """What no test would run as a command is not among them, and a mark is understood."""
    for page in PAGES:
        for block in blocks(page):
            odd = [command.text for command in commands(block) if command.is_run and not PROGRAM.match(command.text)]
            assert not odd, page_name(page)


# The folder that a page's reader has

OF_THE_REPOSITORY = ("palenka", "config", "scripts", "train.py", "distill.py", "dskd_noaux.py")
RUNS = ("study/kd", "study/control", "study/mix", "entry/student")
LEFT_BY_RUNS = (1, 2, 3, 5, 10)  # million words: of a track with fewer milestones than the challenge's
CONTEXTS = {"dog": [{"context": "the cat sees a"}], "boat": [{"context": "a"}], "river": [{"context": "the"}]}
FEW_STEPS = (
    "training.max_steps=6", "training.warmup_steps=2", "training.eval_steps=3", "training.batch_size=4",
    "data.seq_length=16", "data.dev_samples=8",
)  # fmt: skip
PLACEHOLDERS = {"FILE": "config/demo/student-kd.yaml", "NAME": "study/kd", "RUN": "study/kd", "STUDY": "study"}
ON_PAGE = {
    "docs/cached_logits.md": {"FILE": "cached.yaml"},
    "docs/grid.md": {"FILE": "config/demo/grid.yaml"},
    "docs/architectures.md": {"RUN": "study/mix"},
}
ENVIRONMENT = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1", "WANDB_MODE": "offline"}


@dataclass(frozen=True)
class Place:
    """A checkout, as far as commands ask for it, and what lies beside it."""

    folder: Path
    tokenizer: Path

    def add_run(self, name: str) -> None:
        """A finished run with milestones, unless there is one of that name."""
        folder = self.folder / "runs" / name
        if folder.exists():
            return
        number = RUNS.index(name) if name in RUNS else 9
        tiny.write_finished_run(folder, tiny.LLAMA, self.tokenizer, seed=number)
        config = tiny.train_values(name=name, model=dict(tiny.LLAMA))
        if name == "study/mix":
            config["paradigm"] = {"name": "mix", "rows": {"mntp": 1, "causal": 1}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        write_json(folder / LEDGER, asdict(Ledger({"a" * 64: {"name": "tiny/text", "words": 1234}})))
        result = made_result(name, False, 3.0, 16) | {"weights_sha256": weights_sha256(folder)}
        write_json(folder / "result.json", result)
        write_metrics(folder, ["cross_entropy"], 3.0, 16, 400)
        for seed, words in enumerate(LEFT_BY_RUNS, start=5):
            milestone = folder / "revisions" / milestone_name(words * 10**6)
            tiny.write_finished_run(milestone, tiny.LLAMA, self.tokenizer, seed)
            (milestone / "result.json").unlink()


@pytest.fixture
def place(tmp_path: Path, prepared_once: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    folder = tmp_path / "palenka"
    folder.mkdir()
    for name in OF_THE_REPOSITORY:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("CORPORA", "DATA", "RUNS", "SIGNALS"):
        monkeypatch.setenv(f"PALENKA_{name}", str(folder / name.lower()))
    monkeypatch.setenv("PALENKA_EVAL", str(folder / "evaluation_data"))
    monkeypatch.setitem(TRACKS, "strict-small", tuple(words * 10**6 for words in LEFT_BY_RUNS))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    write_texts(folder)
    write_tasks(folder / "evaluation_data")
    found = Place(folder, prepared_once / "tokenizer")
    shutil.copytree(prepared_once, folder / "data" / "tiny")
    for name in RUNS:
        found.add_run(name)
    tiny.write_finished_run(folder / "runs" / "study" / "kd" / "ema", tiny.LLAMA, found.tokenizer)
    tiny.write_finished_run(folder / "some" / "model" / "folder", tiny.GPT2, found.tokenizer)
    return found


def write_texts(folder: Path) -> None:
    """BabyLM's folders, and files of one's own."""
    tiny.write_raw_text(folder / "raw")
    babylm = folder / "corpora" / "babylm-2024-10M"
    for name, split in (("train_10M", "train"), ("dev", "dev")):
        shutil.copytree(folder / "raw" / split, babylm / name)
    (babylm / "test").mkdir()
    for path in sorted((babylm / "dev").iterdir()):
        backwards = reversed(path.read_text(encoding="utf-8").splitlines())
        (babylm / "test" / path.with_suffix(".test").name).write_text("\n".join(backwards), encoding="utf-8")
    lines = (folder / "raw" / "train" / "gutenberg.train").read_text(encoding="utf-8").splitlines()[2:]
    (folder / "my-text").mkdir()
    (folder / "my-text" / "one.txt").write_text("\n\n".join(lines), encoding="utf-8")
    write_lines(folder / "stories.jsonl", [{"text": line} for line in lines])
    cached = {"base": ["config/demo/student-kd.yaml"], "name": "cached", "cached_logits": {"top_k": 8}}
    (folder / "cached.yaml").write_text(yaml.safe_dump(cached), encoding="utf-8")


def write_tasks(root: Path) -> None:
    write_official(root)
    write_pairs(root / "demo_pairs")
    write_words(root, CONTEXTS)
    glue_items.write_tasks(root, *glue_items.KEYS, train=6, valid=3)


# Its commands


@pytest.mark.usefixtures("processes", "fresh_accelerator")
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=page_name)
def test_commands_of_a_page_run(
    page: Path, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text(encoding="utf-8")
    for name in ("demo", "strict-small"):
        if f"--name {name}\n" not in text:
            shutil.copytree(place.folder / "data" / "tiny", place.folder / "data" / name)
    for block in blocks(page):
        for command in commands(block):
            if command.is_run and command.text != ACTIVATION:
                run(command.text, place, PLACEHOLDERS | ON_PAGE.get(page_name(page), {}), monkeypatch, capsys)


def run(
    text: str, place: Place, placeholders: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    AcceleratorState._reset_state(reset_partial_state=True)
    words = [*few_steps(list(words_of(text, placeholders)), place)]
    program, *arguments = words
    code: Any = 0
    try:
        call(program, arguments, monkeypatch)
    except SystemExit as end:
        code = end.code
    shown = capsys.readouterr()
    assert not code, f"$ {text}\n{shown.out}{shown.err}"


def words_of(text: str, placeholders: dict[str, str]) -> Iterator[str]:
    """As bash would split a command, without what is optional: [key.path=value …]."""
    for word in shlex.split(re.sub(r"\[[\w.]+=[^]]*…\]", "", text), comments=True):
        filled = re.sub(r"\b[A-Z]+\b", lambda found: placeholders.get(found[0], found[0]), os.path.expandvars(word))
        yield from map(str, sorted(Path().glob(filled))) if "*" in filled else [filled]


def few_steps(words: list[str], place: Place) -> list[str]:
    """A command as it is given to the program: what would take long has few steps, and what it learns from is there."""
    if "prepare" in words:
        return [*words, "--vocab-size", str(tiny.VOCABULARY)]
    if "finetune" in words:
        return [*words, "training.num_epochs=1"]
    if "--config" in words and "--dry-run" not in words and words[1] not in ("cost", "search"):
        config = compose(place.folder / words[words.index("--config") + 1])
        for teacher in config.get("teachers", []):
            place.add_run(teacher["run"])
        return [*words, *FEW_STEPS, *(["grid.finalists.overrides={}"] if "grid" in config else [])]
    return words


def call(program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if program == "palenka":
        main(arguments)
    elif program == "python":
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(arguments[0], run_name="__main__")
    elif program == "bash":
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        print(done.stdout, done.stderr)
        sys.exit(done.returncode)
    else:
        pytest.fail(f"{program} is no program that the tests can call: mark it")
