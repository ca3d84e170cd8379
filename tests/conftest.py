"""Shared fixtures. Data is prepared once per session; every test has runs of its own.

    prepared       the data folder `tiny`: a few thousand generated words, prepared; found through PALENKA_DATA
    runs_folder    an empty folder that PALENKA_RUNS points to
    teacher        a finished run `teacher` in it: a GPT-2 that was never trained
    call           a function of the command line -> its exit code, output and errors
    write_config   values, file name -> the path of a YAML file

Models, text and configurations themselves come from `tiny.py`.
"""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from accelerate.state import AcceleratorState

from palenka.data.prepare import prepare

WriteConfig = Callable[..., Path]
Call = Callable[..., tuple[int, str, str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest comes first: workers get a file at a time, and are to end together."""
    items.sort(key=lambda item: item.path.name != "test_slurm.py")


def pytest_collection_finish() -> None:
    """Trainings collect garbage. What is imported by now is none, and looking through it took most of their time."""
    gc.collect()
    gc.freeze()


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
def fresh_accelerator() -> Iterator[None]:
    """accelerate keeps the first precision it was given for the life of the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
