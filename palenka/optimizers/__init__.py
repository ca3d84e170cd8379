"""How weights move: an optimizer is a file of its own.

A new optimizer is one file here: `my_rule.py` defines `class MyRule(Optimizer)`, and the YAML key
`training.optimizer: {name: my_rule}` finds it by the file's name. Its knobs are its own `Config`, beside its equation.

It is one of torch's: a `step` that moves the parameters of its groups, and a `state` of tensors, which checkpoints
hold. The `lr` that a group is born with is its peak; a schedule (`_schedules.py`) scales all groups alike. It knows
nothing of losses, clipping, devices or processes.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import nn

from palenka.util.doors import Door, Named
from palenka.util.section import Section


class OptimizerConfig(Named):
    """Knobs every optimizer has: its name; each file adds its own."""

    def idle(self, training: "Hyperparameters") -> Iterator[tuple[str, str]]:
        """Keys of `training` that change nothing as the others stand, each with what it needs."""
        yield from ()


DOOR: Door["Optimizer"] = Door(__name__, "optimizer")
available, find = DOOR.available, DOOR.find


class Hyperparameters(Section):
    """Keys of `training` that every optimizer is given."""

    optimizer: Annotated[SerializeAsAny[OptimizerConfig], BeforeValidator(DOOR.read)] = Field(
        default=OptimizerConfig(name="adamw"), description="how weights move: its name, and its own knobs"
    )
    lr: float = Field(gt=0, description="peak learning rate")
    weight_decay: float = Field(default=0.0, ge=0, description="of matrices; biases and norm gains do not decay")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="of Adam, wherever an optimizer has one in it")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="of Adam, wherever an optimizer has one in it")
    adam_epsilon: float = Field(default=1e-8, gt=0, description="of Adam, wherever an optimizer has one in it")


class Optimizer(torch.optim.Optimizer):
    """Base of all optimizers.

    Made of (`config`, its own `Config`; `training`, what all are given; `module`, whose `student` and `objectives` are
    trained), it hands its groups of parameters to torch's `__init__`. One that says, as torch's fused ones do, that it
    obeys `found_inf` leaves out a step on the device; of the others the host takes the gradients away, which waits.
    `unused` are the `Hyperparameters` that it does not read.
    """

    Config: type[OptimizerConfig] = OptimizerConfig
    unused: tuple[str, ...] = ()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of all groups."""
        for group in self.param_groups:
            yield from group["params"]

    def state_bytes(self) -> int:
        """Bytes of the state of all parameters, once there was a step; they may be on no device yet."""
        raise NotImplementedError

    def flops(self) -> float:
        """Of the matrix products of a step, which each process computes."""
        return 0.0


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices, which decay; biases and norm gains, which do not."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def build(training: Hyperparameters, module: nn.Module) -> Optimizer:
    """The optimizer of a training.

    Args:
        training: what it is, and its knobs.
        module: the loss module, or anything else with a `student` and `objectives`.
    """
    make: Callable[..., Optimizer] = find(training.optimizer.name)
    return make(training.optimizer, training, module)
