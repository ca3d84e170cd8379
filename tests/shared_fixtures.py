"""What tests share, and a watch on the fast lane. Data is prepared once per session; every test has runs of its own.

    prepared       the data folder `tiny`: a few thousand generated words, prepared; found through PALENKA_DATA
    data           a copy of it that a test may change
    runs_folder    an empty folder that PALENKA_RUNS points to
    teacher        a finished run `teacher` in it: a GPT-2 that was never trained
    call           a function of the command line -> its exit code, output and errors
    write_config   values, file name -> the path of a YAML file

Models, text and configurations themselves come from `tiny.py`.

In the fast lane, a test that starts a process, trains or leaves this machine without having asked for it fails.
"""

import multiprocessing.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from accelerate.state import AcceleratorState
from hypothesis import settings

from palenka.data.prepare import prepare
from palenka.runs.directory import Run

WriteConfig = Callable[..., Path]
Call = Callable[..., tuple[int, str, str]]

settings.register_profile("fast", max_examples=10, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    if config.option.fast:
        settings.load_profile("fast")


# What a test of the fast lane may do


LOCAL = ("127.0.0.1", "::1", "localhost")
QUERIES = ("git", "fc-list", "uname")  # by which Palenka and libraries ask what there is
_is_watched = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _is_watched
    _is_watched = item.config.option.fast
    done = yield
    _is_watched = False
    return done


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    done = yield
    if _is_watched and AcceleratorState._shared_state:
        AcceleratorState._reset_state(reset_partial_state=True)
        pytest.fail("it trains: have it ask for the fixture `fresh_accelerator`")
    return done


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _is_watched:
        return
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"):
        program = os.fsdecode(arguments[0] or arguments[1][0]) if arguments else "itself"
        if Path(program).name not in QUERIES:
            pytest.fail(f"it starts {program}: have it ask for the fixture `processes`")
    elif event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in LOCAL:
        pytest.fail(f"it connects to {arguments[1]}")


def _spawn(path: bytes, *others: Any) -> int:
    _watch("subprocess.Popen", (path,))
    return spawn(path, *others)


sys.addaudithook(_watch)
spawn, multiprocessing.util.spawnv_passfds = multiprocessing.util.spawnv_passfds, _spawn  # which is not audited


@pytest.fixture(scope="session")
def processes() -> None:
    """Leave to start processes, which no test of the fast lane has."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared data folder, without anything pointing to it; its parent is what PALENKA_DATA should be."""
    root = tmp_path_factory.mktemp("data")
    tiny.write_raw_text(root / "raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_DATA", str(root))
        return prepare(root / "raw" / "train", root / "raw" / "dev", None, "tiny", tiny.VOCABULARY)


@pytest.fixture
def prepared(prepared_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/tiny, where configurations with `data.name: tiny` find it. Never change it: it is shared by all tests."""
    monkeypatch.setenv("PALENKA_DATA", str(prepared_once.parent))
    return prepared_once


@pytest.fixture
def data(prepared_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, in a copy of the test's own."""
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    return Path(shutil.copytree(prepared_once, tmp_path / "data" / "tiny"))


@pytest.fixture
def runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for runs."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("PALENKA_RUNS", str(folder))
    return folder


@pytest.fixture
def teacher(prepared: Path, runs_folder: Path) -> Path:
    """The finished run `teacher`: tiny.GPT2 over the vocabulary of the prepared data."""
    return tiny.write_finished_run(runs_folder / "teacher", tiny.GPT2, prepared / "tokenizer")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """call(main, *arguments) calls what a command line calls; returns exit code, output and errors."""

    def run(main: Callable[..., object], *arguments: Any, **options: Any) -> tuple[int, str, str]:
        code: Any = 0
        try:
            main(*arguments, **options)
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code or 0, captured.out, captured.err

    return run


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    """write_config(values, file="run.yaml") writes a YAML file into the test's folder and returns its path."""

    def write(values: dict[str, Any], file: str = "run.yaml") -> Path:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def kept_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint is dropped."""
    monkeypatch.setattr(Run, "drop_checkpoints", lambda self, keep: None)


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """accelerate keeps the first precision it was given for the life of the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
