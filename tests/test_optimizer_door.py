"""An optimizer is one new file: the one of docs/optimizers.md, in a folder of its own, and nothing else is touched."""

import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from killing import Killed, kill_at
from run_files import outcome
from safetensors.torch import load_file
from shared_fixtures import WriteConfig
from torch import nn

from palenka import optimizers
from palenka.cost.estimate import memory, step_seconds
from palenka.models.huggingface import build_model
from palenka.runs.directory import Run
from palenka.runs.identity import Identity
from palenka.training.plan import Plan, make_plan
from palenka.training.schema import DistillConfig
from palenka.util.config import load
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

PAGE = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
[EXAMPLE] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

pytestmark = pytest.mark.usefixtures("fresh_accelerator", "signum")


@pytest.fixture
def signum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's optimizer, where the package looks for its files."""
    folder = tmp_path / "optimizers"
    folder.mkdir()
    (folder / "signum.py").write_text(EXAMPLE, encoding="utf-8")
    monkeypatch.setattr(optimizers, "__path__", [*optimizers.__path__, str(folder)])
    yield
    sys.modules.pop("palenka.optimizers.signum", None)


def plan_for(name: str = "student", optimizer: dict[str, Any] | None = None, **training: Any) -> Plan:
    values = tiny.distill_values(name=name)
    values["training"] |= {"optimizer": {"name": "signum"} | (optimizer or {}), "checkpoint_steps": 2, **training}
    return make_plan(DistillConfig.model_validate(values), "test")


def test_by_hand() -> None:
    """A matrix of rate 0.5 and a gain of rate 0.25: against the sign of the mean 0.1 · 2, then 0.9 · 0.2 - 0.1 · 3."""
    module = nn.ModuleDict({"matrix": nn.Linear(1, 1, bias=False), "gain": nn.RMSNorm(1)})
    nn.init.ones_(module["matrix"].weight)
    values = {"optimizer": {"name": "signum", "vector_lr": 0.25}, "lr": 0.5, "weight_decay": 0.5}
    optimizer = optimizers.build(optimizers.Hyperparameters.model_validate(values), module)
    for gradient, matrix, gain in ((2.0, 0.75 - 0.5, 0.75), (-3.0, 0.25 * 0.75 + 0.5, 1.0)):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        assert [parameter.item() for parameter in module.parameters()] == pytest.approx([matrix, gain])
    assert optimizer.state_bytes() == 8 == sum(held["mean"].nbytes for held in optimizer.state.values())


def test_each_group_moves_at_its_own_rate_along_the_schedule(teacher: Path) -> None:
    """One step of a warm-up of two."""
    plan = plan_for(max_steps=1, lr=1e-2, optimizer={"vector_lr": 1e-3})
    run = tiny.train(plan)
    initial = dict(build_model(plan.model, plan.config.seed, tiny.CPU).named_parameters())
    for name, after in load_file(run / "model.safetensors").items():
        moved = (after - initial[name]).abs().max().item()
        assert moved == pytest.approx(1e-2 / 2 if after.ndim > 1 else 1e-3 / 2, rel=1e-3), name


@pytest.mark.parametrize(("optimizer", "call"), [("signum", 1), ("signum", 3), ("lamb", 2), ("muon", 2)])
def test_it_resumes_bit_by_bit(optimizer: str, call: int, teacher: Path) -> None:
    unbroken = outcome(tiny.train(plan_for("unbroken", {"name": optimizer}, weight_decay=0.1)))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Run, "save_checkpoint", call + 1)
        tiny.train(plan_for("student", {"name": optimizer}, weight_decay=0.1))
    gc.collect()
    assert outcome(tiny.train(plan_for("student", {"name": optimizer}, weight_decay=0.1))) == unbroken


def test_another_optimizer_is_another_run_and_adamw_by_name_is_not(teacher: Path) -> None:
    def identity(**training: Any) -> Identity:
        values = tiny.distill_values()
        values["training"] |= training
        return make_plan(DistillConfig.model_validate(values), "test").identity()

    assert identity() == identity(optimizer={"name": "adamw"}, schedule="cosine", min_lr_ratio=0.0, ema=None)
    signum, slower = (identity(optimizer={"name": "signum", **knobs}) for knobs in ({}, {"momentum": 0.99}))
    assert identity().differences(signum.given) == ["config.training.optimizer.name: 'signum' there, 'adamw' here"]
    assert signum.differences(slower.given) == ["config.training.optimizer.momentum: 0.99 there, 0.9 here"]


def test_it_is_costed(teacher: Path) -> None:
    """Adam holds two moments and a count of each parameter, this one a mean."""
    signum, adamw = plan_for(), plan_for(optimizer={"name": "adamw"})
    trained = signum.parameters["total"] + signum.owned_parameters
    tensors = len(list(tiny.trainer(signum).loss.parameters()))
    assert memory(adamw, "cpu").students - memory(signum, "cpu").students == 4 * trained + 4 * tensors


def test_its_products_take_time(teacher: Path) -> None:
    """Those of Muon do; what else it does is less than AdamW's."""
    muon, adamw = (plan_for(optimizer={"name": name}) for name in ("muon", "adamw"))
    more = step_seconds(muon, tiny.MACHINE, share=0.5).student - step_seconds(adamw, tiny.MACHINE, share=0.5).student
    assert more == pytest.approx(muon.optimizer.flops() / (0.5 * tiny.MACHINE.matrix_rate(muon.precision)))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["name=signun"], "unknown optimizer 'signun'; did you mean 'signum'?"),
        (["name=signum", "momentun=1"], "unknown key 'momentun' of 'signum'; did you mean 'momentum'?"),
        (["name=signum", "momentum=2"], "training.optimizer.momentum (command line): input should be less than 1"),
        (["momentum=0.5"], "training.optimizer (command line): expected the name of a file in palenka/optimizers/"),
    ],
)
def test_what_is_wrong_is_named(overrides: list[str], expected: str, write_config: WriteConfig) -> None:
    with pytest.raises(UserError) as caught:
        load(write_config(tiny.distill_values()), [f"training.optimizer.{each}" for each in overrides], DistillConfig)
    assert expected in str(caught.value)
