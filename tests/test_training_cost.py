"""What a training cost, on record: by hand, with what its teachers cost, from every program that trains; and how to
have it once more."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from shared_fixtures import Call, WriteConfig
from trainings import plan_for, train_run

from palenka import cli
from palenka.cost.record import COST, record_cost
from palenka.models.folder import weights_sha256
from palenka.report.page import page_content
from palenka.report.results import read_runs
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json
from palenka.util.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerator")]
TOKENS = 8 * 8 * 16  # steps, sequences, tokens of each
# What a token costs. The student: two layers of 4 · 16² + 3 · 16 · 32 weights, a head of 320 · 16, attention over 16
# tokens, forward and backward. Its teacher: three layers of 4 · 24² + 2 · 24 · 48, a head of 320 · 24, forward alone.
LLAMA = 6 * (2 * (4 * 16**2 + 3 * 16 * 32) + 320 * 16) + 12 * 2 * 16 * 16
GPT2 = 2 * (3 * (4 * 24**2 + 2 * 24 * 48) + 320 * 24) + 4 * 3 * 24 * 16
PROJECTIONS = 6 * 2 * 16 * 24  # of two layers' hidden states


def recorded(values: dict[str, Any], **training: Any) -> dict[str, Any]:
    """cost.json of a run that is trained by these values."""
    plan = plan_for(values, **training)
    tiny.train(plan)
    record_cost(plan)
    return read_json(plan.folder / COST)


def test_a_baseline_by_hand(prepared: Path, runs_folder: Path) -> None:
    expected = {"student": TOKENS * LLAMA, "teachers": 0, "trainings": {}, "unknown": {}}
    assert recorded(tiny.train_values()) == expected


def test_a_run_says_what_it_was_trained_on(prepared: Path, runs_folder: Path) -> None:
    found = read_json(train_run(tiny.train_values()) / "environment.json")
    assert found["device"] and (found["processes"], found["watts"]) == (1, 12 * torch.get_num_threads())


def test_a_student_by_hand_and_what_is_not_known_of_its_teacher(teacher: Path) -> None:
    found = recorded(tiny.distill_values())
    assert found["student"] == TOKENS * (LLAMA + PROJECTIONS)
    assert found["teachers"] == TOKENS * GPT2
    assert found["trainings"] == {} and "it has no cost.json" in found["unknown"]["teacher"]


def test_trainings_of_teachers_count_once_and_those_of_theirs(teacher: Path) -> None:
    """A student of a teacher and of an assistant, who learned from that teacher itself."""
    write_json(teacher / COST, {"student": 5e9, "teachers": 0.0, "trainings": {}, "unknown": {}})
    assistant = tiny.distill_values(name="assistant")
    of_assistant = recorded(assistant)
    both = {"teachers": [{"run": "teacher"}, {"run": "assistant", "layer_mapping": "last"}]}
    found = recorded(tiny.distill_values(**both))
    teacher_sha, assistant_sha = (weights_sha256(teacher.parent / name) for name in ("teacher", "assistant"))
    assert found["unknown"] == {}
    assert found["trainings"] == {
        teacher_sha: {"name": "teacher", "flops": 5e9},
        assistant_sha: {"name": "assistant", "flops": TOKENS * (LLAMA + PROJECTIONS + GPT2)},
    }
    assert of_assistant["trainings"] == {teacher_sha: {"name": "teacher", "flops": 5e9}}


def test_who_is_asked_nothing_cost_nothing(teacher: Path) -> None:
    """A grid's control names the teachers that the others learn from."""
    control = tiny.distill_values(objective={"hard_target": {"weight": 1.0}, "logit": {"weight": 0.0}})
    expected = {"student": TOKENS * LLAMA, "teachers": 0, "trainings": {}, "unknown": {}}
    assert recorded(control) == expected


def test_a_damaged_record_is_named(teacher: Path) -> None:
    write_json(teacher / COST, {"student": 5e9})
    with pytest.raises(UserError, match=r"teacher/cost\.json: damaged: a figure is missing"):
        recorded(tiny.distill_values())


def test_an_unfinished_run_has_none(prepared: Path, runs_folder: Path) -> None:
    record_cost(plan_for(tiny.train_values()))
    assert not (runs_folder / "baseline").exists()


def test_each_student_of_a_grid_costs_what_it_costs_alone(
    teacher: Path, write_config: WriteConfig, call: Call
) -> None:
    alone = recorded(tiny.distill_values())
    grid = {"axes": {"objective.logit.weight": [0.0, 0.5]}, "finalists": {"count": 0}, "tasks": []}
    values = tiny.distill_values(name="grid", grid=grid)
    code, _, errors = call(cli.main, ["grid", "--config", str(write_config(values))])
    assert code == 0, errors
    trials = {path.parent.name: read_json(path) for path in teacher.parent.glob("grid/*/cost.json")}
    assert trials.pop("L0.5") == alone
    [without_logits] = trials.values()
    assert alone["teachers"] - without_logits["teachers"] == TOKENS * 2 * 320 * 24


def test_a_run_from_before_is_given_its_record_when_it_is_started_again(
    prepared: Path, runs_folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_run(tiny.train_values())
    assert not (run / COST).exists()
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(run / "config.yaml")])
    code, output, _ = call(runpy.run_path, str(ROOT / "train.py"), run_name="__main__")
    assert code == 0 and "finished already" in output
    assert read_json(run / COST)["student"] == TOKENS * LLAMA

    path = run / COST
    found, written = path.read_text(), path.stat().st_mtime_ns
    assert call(runpy.run_path, str(ROOT / "train.py"), run_name="__main__")[0] == 0
    assert path.stat().st_mtime_ns == written  # the same is not written again
    path.write_text(found[:20])
    assert call(runpy.run_path, str(ROOT / "train.py"), run_name="__main__")[0] == 0
    assert path.read_text() == found


def test_of_several_processes_the_first_writes_what_all_know(
    prepared: Path, runs_folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_run(tiny.train_values())
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(run / "config.yaml")])
    launched = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    written = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    assert call(runpy.run_path, str(ROOT / "train.py"), run_name="__main__")[0] == 0
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == written


def test_the_command_on_the_page_trains_the_same_weights_once_more(
    prepared: Path, runs_folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_run(tiny.train_values())
    [made] = page_content(read_runs(["baseline"]))["made"]
    [command] = [line for line in made["again"].splitlines() if line.startswith("python ")]
    program, *arguments = command.replace("runs/baseline/", f"{run}/").split()[1:]
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    code, _, errors = call(runpy.run_path, str(ROOT / program), run_name="__main__")
    assert code == 0, errors
    again = runs_folder / "again" / "baseline"
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
