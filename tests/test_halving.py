"""Successive halving: who is held against whom, when, and what is left of those that end early."""

import gc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from killing import Killed, kill_at
from optuna.trial import TrialState
from run_files import outcome, records
from shared_fixtures import Call, WriteConfig

from palenka import cli
from palenka.runs.directory import Run
from palenka.search.halving import Halving, HalvingConfig
from palenka.search.storage import Trials
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.files import read_json, write_json

AXES = {"training.lr": [1e-2, 1e-3, 1e-4, 1e-5]}
Started = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("first", "factor", "expected"),
    [(0.25, 2, [0.25, 0.5]), (0.3, 2, [0.3, 0.6]), (0.1, 3, [0.1, 0.3, 0.9]), (0.5, 4, [0.5])],
)
def test_shares_by_hand(first: float, factor: int, expected: list[float]) -> None:
    assert HalvingConfig(first=first, factor=factor).shares == pytest.approx(expected)


def planned(name: str, runs: Path, total: int = 100, every: int = 10) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(name=name), runs=runs, folder=runs / name, total_steps=total, eval_steps=every
    )


@pytest.mark.parametrize(
    ("total", "every", "expected"),
    [(100, 10, [30, 50]), (100, 25, [25, 50]), (8, 3, [3, 6]), (100, 60, [60]), (100, 100, []), (7, 2, [2, 4])],
)
def test_a_trial_is_judged_at_the_first_evaluation_that_has_got_so_far(
    tmp_path: Path, total: int, every: int, expected: list[int]
) -> None:
    halving = Halving(HalvingConfig(), tmp_path / "search")
    plan = planned("search/trial-000", tmp_path, total, every)
    assert [step for step in range(1, total + 1) if halving.is_due(plan, step)] == expected


def reach(runs: Path, number: int, loss: float, step: int = 30) -> Any:
    """A trial that has just been evaluated."""
    plan = planned(f"search/trial-{number:03d}", runs)
    plan.folder.mkdir(parents=True, exist_ok=True)
    run = Run(plan.config.name, runs)
    run.log({"step": step - 10, "split": "dev", "loss": 0.0})
    run.log({"step": step, "split": "dev", "loss": loss})
    run.log({"step": step, "split": "train", "loss": 9.0, "tokens": 1})
    return plan


def test_the_better_half_of_those_that_came_as_far_goes_on(tmp_path: Path) -> None:
    halving = Halving(HalvingConfig(), tmp_path / "search")
    losses = [3.0, 4.0, 3.5, 2.0, 3.2]
    plans = [reach(tmp_path, number, loss) for number, loss in enumerate(losses)]
    verdicts = [halving.judge([plan], 30) for plan in plans]
    # 1 of 1; 2 of 2 ends; 2 of 3 goes on (the better two); 1 of 4; 3 of 5 goes on (the better three).
    assert [list(verdict) for verdict in verdicts] == [[], ["search/trial-001"], [], [], []]
    assert verdicts[1]["search/trial-001"] == "pruned at step 30: dev 4.0000 is number 2 of 2 at 25% of the training"
    expected = {"step": 30, "share": 0.25, "loss": 4.0, "place": 2, "of": 2}
    assert Run("search/trial-001", tmp_path).pruned == expected
    assert Run("search/trial-000", tmp_path).pruned is None
    later = reach(tmp_path, 0, 2.5, step=50)
    assert halving.judge([later], 50) == {}, "at another share it is the first"


def test_those_side_by_side_are_all_counted_before_one_is_judged(tmp_path: Path) -> None:
    halving = Halving(HalvingConfig(factor=4), tmp_path / "search")
    plans = [reach(tmp_path, number, loss) for number, loss in enumerate([3.0, 2.0, 4.0, 3.5])]
    assert sorted(halving.judge(plans, 30)) == ["search/trial-000", "search/trial-002", "search/trial-003"]


@pytest.fixture
def start(call: Call, write_config: WriteConfig, prepared: Path, teacher: Path) -> Started:
    """start(run values, **keys) calls `palenka search`: eight steps, an evaluation at each second."""

    def called(values: dict[str, Any], **keys: Any) -> tuple[int, str, str]:
        values["training"] |= {"eval_steps": 2}
        run = write_config(values, "varied.yaml")
        search = {"name": "search", "run": str(run), "axes": AXES, "sampler": "grid", "pruning": {}} | keys
        return call(cli.main, ["search", "--config", str(write_config(search, "search.yaml"))])

    return called


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize("together", [True, False])
def test_what_is_pruned_keeps_its_records_and_the_others_are_what_they_would_be(
    start: Started, runs_folder: Path, together: bool
) -> None:
    values = tiny.distill_values() if together else tiny.train_values()
    code, output, errors = start(values)
    assert code == 0, errors
    found = {trial["number"]: trial for trial in read_json(runs_folder / "search" / "search.json")["trials"]}
    ends = [(found[number]["state"], found[number].get("step")) for number in range(4)]
    assert ends == [("finished", None), ("pruned", 4 if together else 2), ("pruned", 2), ("pruned", 2)]
    assert "at 25%" in output and "search: 4 of 4 trials are done, 3 pruned" in output
    pruned = runs_folder / "search" / "trial-003"
    assert [record["step"] for record in records(pruned)] == [1, 2, 2]
    assert (pruned / "config.yaml").exists() and not list(pruned.glob("checkpoint-*"))
    trials = Trials("search", runs_folder / "search").all()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, *[TrialState.PRUNED] * 3]
    assert trials[3].value == found[3]["loss"] == records(pruned, "dev")[-1]["loss"]
    schema = DistillConfig if together else TrainConfig
    for number in (0, 3):
        plan = load_plan(runs_folder / "search" / f"trial-00{number}" / "config.yaml", [f"name=alone-{number}"], schema)
        tiny.train(plan)
    mine, other = (outcome(runs_folder / name) for name in ("alone-0", "search/trial-000"))
    assert {key: mine[key] for key in ("weights", "metrics")} == {key: other[key] for key in ("weights", "metrics")}
    assert records(runs_folder / "alone-3", "dev")[0]["loss"] == records(pruned, "dev")[0]["loss"]


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize("together", [True, False])
def test_finalists_are_trained_to_their_end(start: Started, runs_folder: Path, together: bool) -> None:
    """The worst of them is the run's own values, whose learning rate hardly moves it."""
    values = tiny.distill_values() if together else tiny.train_values()
    values["training"] |= {"lr": 1e-7}
    code, _, errors = start(values, finalists={"count": 2, "seeds": [1, 2]})
    assert code == 0, errors
    finalists = runs_folder / "search" / "finalists"
    finished = sorted(path.parent.name for path in finalists.glob("*/result.json"))
    assert finished == ["default-s1", "default-s2", "trial-000-s1", "trial-000-s2"], "one trial is not pruned"
    assert not list(finalists.glob("*/pruned.json")) and not list(finalists.glob("*/rungs.json"))
    assert len(list(runs_folder.glob("search/trial-*/rungs.json"))) == 4


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_worker_that_is_killed_after_a_verdict(
    start: Started, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is in the run directory, and is taken over by whoever looks next."""
    with monkeypatch.context() as patch:
        kill_at(patch, Trials, "prune", 1)
        with pytest.raises(Killed):
            start(tiny.train_values())
    gc.collect()
    code, _, errors = start(tiny.train_values())
    assert code == 0, errors
    states = [trial["state"] for trial in read_json(runs_folder / "search" / "search.json")["trials"]]
    assert states == ["finished", "pruned", "pruned", "pruned"]


def test_status_knows_of_it(runs_folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palenka.cluster.slurm.is_here", lambda: False)
    folder = runs_folder / "search" / "trial-000"
    folder.mkdir(parents=True)
    write_json(folder / "identity.json", {})
    write_json(folder / "pruned.json", {"step": 2})
    assert call(cli.main, ["status"])[1].splitlines()[2].split() == ["search/trial-000", "pruned"]
