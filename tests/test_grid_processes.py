"""Grids as real processes: killed in the middle of a cohort, and shared by two."""

import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import WriteConfig
from run_files import outcome, records
from test_processes import TORCHRUN, finish, latest_step, start, stop_while_writing, wait_until

from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig
from palenka.util.files import read_json
from palenka.util.paths import ROOT

TRIALS = ["L0-H0.5", "L0.1-H0.5", "L1-H0.5"]
AXES = {"objective.logit.weight": [0.0, 0.1, 1.0], "objective.hidden_state.weight": [0.5]}


def grid_values(**training: Any) -> dict[str, Any]:
    values = tiny.distill_values(name="grid", grid={"axes": AXES, "finalists": {"count": 1}})
    return values | {"training": {**values["training"], "logging_steps": 3, **training}}


def test_a_grid_killed_in_a_cohort_equals_solo_runs(
    teacher: Path, write_config: WriteConfig, runs_folder: Path
) -> None:
    config = write_config(grid_values(max_steps=30, eval_steps=5, checkpoint_steps=1))
    command = ("-m", "palenka", "grid", "--config", config, "--part", "0/1")
    runs = [runs_folder / "grid" / trial for trial in TRIALS]
    for goal in (4, 11):
        process = start(*command)
        wait_until(lambda goal=goal: latest_step(runs[-1]) >= goal, process)
        stop_while_writing(process, runs[1])
        process.kill()
        assert finish(process)[0] == -9
        first, second, third = (latest_step(run) for run in runs)
        assert first == second + 1 == third + 1, "killed between the members' checkpoints of one step"
    code, errors = finish(start(*command))
    assert code == 0, errors
    assert errors.count("resuming from step") == 3
    for trial, run in zip(TRIALS, runs, strict=True):
        alone = outcome(tiny.train(load_plan(run / "config.yaml", [f"name=alone/{trial}"], DistillConfig)))
        assert outcome(run) == alone | {"files": sorted([*alone["files"], "README.md"])}


def test_two_processes_train_a_grid_as_they_train_each_trial(
    teacher: Path, write_config: WriteConfig, runs_folder: Path
) -> None:
    """Two cohorts and a finalist in one life of the processes; a trial is, bit by bit, what distill.py makes of it."""
    values = grid_values(micro_batch_size=2, adam_epsilon=1e-3)
    values["grid"] |= {"cohort_size": 2, "axes": {**AXES, "objective.logit.weight": [0.0, 0.1, 1e300]}}
    code, errors = finish(start(*TORCHRUN, "-m", "palenka", "grid", "--config", write_config(values)))
    grid = runs_folder / "grid"
    assert code == 1, errors
    assert re.search(r"L1e300-H0\.5: the loss is (nan|inf) at step 1", errors), errors
    selection = read_json(grid / "grid.json")
    assert [trial["rank"] for trial in selection["cells"]] == [1, 2, None]
    assert (grid / "finalists" / selection["cells"][0]["cell"] / "result.json").exists()
    config = grid / TRIALS[1] / "config.yaml"
    code, errors = finish(start(*TORCHRUN, ROOT / "distill.py", "--config", config, "name=alone"))
    assert code == 0, errors
    assert outcome(runs_folder / "alone") == outcome(grid / TRIALS[1])
    one = tiny.train(load_plan(grid / TRIALS[1] / "config.yaml", ["name=one"], DistillConfig))
    for single, double in zip(records(one, "train"), records(grid / TRIALS[1], "train"), strict=True):
        assert single["loss"] == pytest.approx(double["loss"], rel=1e-5)
