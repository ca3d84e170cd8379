"""Averages of weights: by hand, and what a run leaves of them."""

import gc
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from killing import Killed, kill_at
from poison import poison
from run_files import outcome, records
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from palenka.evaluation.models import EvaluatedModel
from palenka.optimizers._averaging import WeightAverage
from palenka.runs.directory import Run
from palenka.training.plan import Plan, make_plan
from palenka.training.schema import DistillConfig
from palenka.util.files import read_json

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def averaged(values: list[float], taken: list[bool], decay: float) -> float:
    """The average of one weight that had these values behind each step."""
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay)
    for value, is_taken in zip(values, taken, strict=True):
        nn.init.constant_(model.weight, value)
        average.update(torch.tensor(is_taken))
    with average.in_place():
        found = model.weight.item()
    assert model.weight.item() == values[-1]
    return found


def test_by_hand() -> None:
    """Ages 2, 1, 0 weigh 1/4, 1/2 and 1: (1/4 · 4 + 1/2 · 8 + 1 · 2) / (7/4)."""
    assert averaged([4.0, 8.0, 2.0], [True] * 3, decay=0.5) == pytest.approx(4.0)
    assert averaged([4.0], [True], decay=0.999) == 4.0, "initial weights have no part in it"
    assert averaged([7.0, 4.0, 9.0, 8.0, 2.0], [False, True, False, True, True], decay=0.5) == pytest.approx(4.0)


# Of a run


def plan_for(name: str = "student", **training: Any) -> Plan:
    values = tiny.distill_values(name=name)
    values["training"] |= {"ema": 0.5, **training}
    return make_plan(DistillConfig.model_validate(values), "test")


@pytest.mark.usefixtures("kept_checkpoints")
def test_the_average_is_a_model_of_its_own_beside_the_plain_one(teacher: Path) -> None:
    run = tiny.train(plan := plan_for(checkpoint_steps=1))
    result = read_json(run / "result.json")
    best = result["best_step"]
    found, age_weights = load_file(run / "ema" / "model.safetensors"), [0.5 ** (best - s) for s in range(1, best + 1)]
    behind = [load_file(run / f"checkpoint-{step}" / "distiller.safetensors") for step in range(1, best + 1)]
    assert found.keys() == load_file(run / "model.safetensors").keys()
    for name, average in found.items():
        mean = sum(a * w[f"student.{name}"] for a, w in zip(age_weights, behind, strict=True)) / sum(age_weights)
        torch.testing.assert_close(average, mean)
    assert EvaluatedModel.find("student/ema").config == plan.resolved
    model = AutoModelForCausalLM.from_pretrained(run / "ema", dtype=torch.float32, attn_implementation="eager")
    windows = plan.dev_windows()
    inputs, labels = (torch.from_numpy(array) for array in windows.batch(range(len(windows))))
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(inputs).logits.flatten(0, 1), labels.flatten()).item()
    assert loss == pytest.approx(result["dev"]["ema"]["cross_entropy"], rel=1e-5)
    assert loss == pytest.approx(next(r["ema_loss"] for r in records(run, "dev") if r["step"] == best), rel=1e-5)
    assert loss != pytest.approx(result["dev"]["cross_entropy"], rel=1e-5)


def with_average(run: Path) -> dict[str, Any]:
    return outcome(run) | {"ema": (run / "ema" / "model.safetensors").read_bytes()}


def test_it_changes_nothing_of_the_run_beside_it(teacher: Path) -> None:
    plain, beside = outcome(tiny.train(plan_for("plain", ema=None))), outcome(tiny.train(plan_for()))
    assert plain["weights"] == beside["weights"]
    assert set(beside["files"]) - set(plain["files"]) == {"ema"}


@pytest.mark.parametrize("call", [2, 3])
def test_a_resumed_run_has_the_average_of_the_unbroken_one(
    call: int, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a step that was not taken, which is none of the average's."""
    poison(monkeypatch.setattr, "logit", [3])
    settings = {"skip_bad_steps": 1, "checkpoint_steps": 2}
    unbroken = with_average(tiny.train(plan_for("unbroken", **settings)))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Run, "save_checkpoint", call)
        tiny.train(plan_for(**settings))
    gc.collect()
    assert with_average(tiny.train(plan_for(**settings))) == unbroken


def test_a_run_killed_while_it_writes_the_average_is_finished(teacher: Path) -> None:
    unbroken = with_average(tiny.train(plan_for("unbroken")))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Run, "save_average", 1)
        tiny.train(plan_for())
    gc.collect()
    assert with_average(tiny.train(plan_for())) == unbroken


def test_it_has_its_bytes_told(teacher: Path) -> None:
    plain, beside = plan_for(ema=None), plan_for()
    assert beside.state_bytes - plain.state_bytes == 4 * plain.parameters["total"]
