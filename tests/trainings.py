"""Trainings in this process, in float32. Tests that train ask for the fixture `fresh_accelerator`."""

from pathlib import Path
from typing import Any

import tiny
import torch

from palenka.training.plan import Plan, make_plan
from palenka.training.schema import DistillConfig, TrainConfig


def plan_for(values: dict[str, Any], **training: Any) -> Plan:
    """A plan with `training` changed."""
    values = values | {"training": {**values["training"], "precision": "fp32", **training}}
    schema = DistillConfig if "student" in values else TrainConfig
    return make_plan(schema.model_validate(values), "test")


def train_run(values: dict[str, Any], **training: Any) -> Path:
    return tiny.train(plan_for(values, **training))


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Between weights of the same names."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)
