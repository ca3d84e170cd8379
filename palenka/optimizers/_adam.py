"""Adam's step, for optimizers that have one in them."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from palenka.optimizers import Hyperparameters, Optimizer


def adam_keys(training: Hyperparameters) -> dict[str, Any]:
    """What a group says of Adam."""
    return {"betas": (training.adam_beta1, training.adam_beta2), "epsilon": training.adam_epsilon}


def adam_state_bytes(weights: list[Tensor]) -> int:
    """Bytes of two moments, and of a count of steps for each tensor."""
    return sum(8 * weight.numel() + 4 for weight in weights)


def adam_step(
    optimizer: Optimizer, group: dict[str, Any], weights: list[Tensor], moved: list[Tensor], lr: float, decay: float
) -> None:
    """Move `moved`, the weights or others of their shapes, by AdamW along the gradients of the weights.

    It is torch's fused one: a single pass, and left out on the device where `found_inf` says so.
    """
    for weight in weights:
        if not optimizer.state[weight]:
            mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
            count = torch.zeros((), device=weight.device)
            optimizer.state[weight] = {"mean": mean, "square": square, "count": count}
    held = [optimizer.state[weight] for weight in weights]
    means, squares, counts = ([state[key] for state in held] for key in ("mean", "square", "count"))
    adamw(
        moved, gradients(weights), means, squares, [], counts, fused=True,
        found_inf=getattr(optimizer, "found_inf", None), amsgrad=False, beta1=group["betas"][0],
        beta2=group["betas"][1], lr=lr, weight_decay=decay, eps=group["epsilon"], maximize=False,
    )  # fmt: skip


def with_gradient(group: dict[str, Any]) -> list[Tensor]:
    """The weights of a group that have one; the others are left alone."""
    return [weight for weight in group["params"] if weight.grad is not None]


def gradients(weights: list[Tensor]) -> list[Tensor]:
    """Of weights that have one."""
    return [weight.grad for weight in weights if weight.grad is not None]
