"""Trainings in this process, in float32. Tests that train ask for the fixture `fresh_accelerator`."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from run_files import records
from safetensors.torch import load_file

from palenka.training.plan import Plan, make_plan
from palenka.training.schema import DistillConfig, TrainConfig


def plan_for(values: dict[str, Any], **training: Any) -> Plan:
    """A plan with `training` changed."""
    values = values | {"training": {**values["training"], "precision": "fp32", **training}}
    schema = DistillConfig if "student" in values else TrainConfig
    return make_plan(schema.model_validate(values), "test")


def train_run(values: dict[str, Any], **training: Any) -> Path:
    return tiny.train(plan_for(values, **training))


def assert_alike_to_rounding(one: Path, other: Path, tolerance: float) -> None:
    """Two runs have the same weights, and recorded the same along the way."""
    assert largest_difference(*(load_file(run / "model.safetensors") for run in (one, other))) < tolerance
    for first, second in zip(records(one), records(other), strict=True):
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
        assert first["words"] == second["words"]


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Between weights of the same names."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)
