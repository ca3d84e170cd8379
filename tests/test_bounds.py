"""Values, names and files far beyond what is meant are refused at once, with what would be right."""

import os
from pathlib import Path
from typing import Any

import pytest
import tiny
from shared_fixtures import Call, WriteConfig

from palenka import cli
from palenka.data.readers import find_texts
from palenka.data.rows import TEXT_COLUMN
from palenka.evaluation.results import read_records
from palenka.evaluation.tasks.choices import Choices
from palenka.evaluation.tasks.reading import Reading
from palenka.report.results import read_run
from palenka.runs.directory import Run, find_run
from palenka.training import session
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.errors import UserError
from palenka.util.files import sha256


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"max_steps": 100_000_000}, "training.max_steps: 100,000,000 steps of 8 sequences are more than 100,000,000"),
        (
            {"max_steps": None, "num_epochs": 10_000, "batch_size": 1},
            "training.num_epochs: 10000 epochs are more than 1,000 windows",
        ),
    ],
)
def test_more_text_than_any_run_sees(
    prepared: Path, runs_folder: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch,
    training: dict[str, Any], expected: str,
) -> None:  # fmt: skip
    if "num_epochs" in training:
        monkeypatch.setattr("palenka.training.course.MOST_WINDOWS", 1000)
    values = tiny.train_values()
    values["training"] |= training
    with pytest.raises(UserError, match="epochs$") as refused:
        load_plan(write_config(values), [], TrainConfig)
    assert expected in str(refused.value)


def test_a_model_beyond_the_machine_is_refused_before_it_is_built(
    prepared: Path, runs_folder: Path, write_config: WriteConfig, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load_plan(write_config(tiny.train_values()), [], TrainConfig)
    monkeypatch.setattr(session, "total_memory", lambda device: 16 * plan.parameters["total"] - 1)
    with pytest.raises(UserError, match="parameters take .* GiB in training, and cpu has"):
        tiny.train(plan)
    assert not list(runs_folder.iterdir())


@pytest.mark.parametrize("name", ["../elsewhere", "/nowhere", "./x", "~nobody-of-this-name/x"])
def test_what_begins_like_a_path_is_a_path_and_not_a_name(runs_folder: Path, name: str) -> None:
    (runs_folder.parent / "elsewhere").mkdir()
    with pytest.raises(UserError, match="no such folder"):
        find_run(name, base=runs_folder / "deeper")


def test_a_path_is_meant_from_its_base(runs_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "a").mkdir(parents=True)
    assert find_run("./models/a", base=tmp_path) == tmp_path / "models/a"
    assert find_run("models/a", base=tmp_path) == tmp_path / "models/a"
    assert find_run(str(tmp_path / "models" / "a"), base=runs_folder) == tmp_path / "models/a"
    for name in ("a/../../x", ""):
        with pytest.raises(UserError, match="neither a run's name, which stays within .*, nor a path"):
            find_run(name)


def test_a_teacher_outside_of_the_runs_is_named_as_a_path(
    teacher: Path, runs_folder: Path, write_config: WriteConfig
) -> None:
    moved = teacher.rename(runs_folder.parent / "moved")
    file = write_config(tiny.distill_values(teachers=[{"run": "x/../../moved"}]))
    with pytest.raises(UserError, match="neither a run's name"):
        load_plan(file, [], DistillConfig)
    file = write_config(tiny.distill_values(teachers=[{"run": str(moved)}]))
    assert load_plan(file, [], DistillConfig).teachers[0].folder == moved


@pytest.mark.parametrize("text", ['"\\ud800"', '"a \\udc00 b"'])
def test_half_a_character_in_an_item_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    good = '{"sentence_good": "a\\ud83d\\ude00", "sentence_bad": "b"}\n'  # a pair is a character
    (tmp_path / "a.jsonl").write_text(good + good.replace('"b"', text))
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: 'sentence_bad' holds '\\ud[c8]00', half of a surrogate"):
        Choices.read(tmp_path)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"sentence_good": 1' + "0" * 5000 + "}"])
def test_json_without_bounds_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(UserError, match="line 1: not a JSON object"):
        Choices.read(tmp_path)
    with pytest.raises(UserError, match="line 1"):
        find_texts(tmp_path / "a.jsonl", "train", TEXT_COLUMN)


def test_pipes_are_refused_and_not_waited_for(tmp_path: Path, call: Call) -> None:
    (tmp_path / "task").mkdir()
    for name in ("task/a.jsonl", "text.txt", "config.yaml", "run.yaml"):
        os.mkfifo(tmp_path / name)
    for read in (
        lambda: Choices.read(tmp_path / "task"),
        lambda: find_texts(tmp_path / "text.txt", "train", TEXT_COLUMN),
        lambda: find_texts(tmp_path / "task", "train", TEXT_COLUMN),
        lambda: read_run(tmp_path),
    ):
        with pytest.raises(UserError, match="not a regular file"):
            read()
    for name in ("runs/a/metrics.jsonl", "items/reading/reading_data.csv", "task.items.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(tmp_path / name)
    for read in (
        lambda: Run("a", tmp_path / "runs").read_log(),
        lambda: Reading.read(tmp_path / "items" / "reading"),
        lambda: read_records(tmp_path / "task.json", {}, lambda records: {}),
        lambda: sha256(tmp_path / "task.items.jsonl"),
    ):
        with pytest.raises(UserError, match="not a regular file"):
            read()
    code, _, errors = call(cli.main, ["cost", "--config", str(tmp_path / "run.yaml")])
    assert code == 2 and "not a regular file" in errors
