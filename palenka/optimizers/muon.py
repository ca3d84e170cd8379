r"""Muon: a matrix of a model's body moves by the running mean of its gradients, made orthogonal.

    m <- b m + (1 - b) g
    w <- w - lr ( 0.2 sqrt(max(rows, columns)) O(b m + (1 - b) g) + weight_decay w )

O(M) is near U V^T for M = U S V^T: five times x <- a x + (b y + c y y) x with y = x x^T, from x = M / |M|, after which
most singular values are near 1. With its factor an update is about as large as one of AdamW, so that `lr` and
`weight_decay` carry over. A layer that is several matrices beside each other (queries, keys, values) is made orthogonal
part by part.

Embeddings, the head, biases, norm gains and what objectives own move by AdamW.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; Liu et al. 2025, arXiv 2502.16982 (the factor).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from palenka.optimizers import Hyperparameters, Optimizer, OptimizerConfig, parameter_groups
from palenka.optimizers._adam import adam_keys, adam_state_bytes, adam_step, gradients, with_gradient
from palenka.optimizers._layers import body_matrices
from palenka.util.hardware import DTYPES, fast_precision

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steep at 0; what is not tiny ends between about 0.7 and 1.2
RMS_OF_ADAMW = 0.2
AT_ONCE = 2**26  # entries that are made orthogonal together, which takes memory


class Muon(Optimizer):
    """Not PyTorch's, which multiplies in bf16 everywhere, takes fused layers for one matrix and knows nothing else."""

    class Config(OptimizerConfig):
        momentum: float = Field(default=0.95, ge=0, lt=1, description="b: what stays of the mean at a step")
        adam_lr: float | None = Field(
            default=None, gt=0, description="peak learning rate of what moves by AdamW; lr unless given"
        )

    def __init__(self, config: Config, training: Hyperparameters, module: Any) -> None:
        body = {weight: place for weight, place in body_matrices(module.student).items() if weight.requires_grad}
        groups: list[dict[str, Any]] = [
            group | {"params": [p for p in group["params"] if p not in body], "lr": config.adam_lr or training.lr}
            for group in parameter_groups(module, training.weight_decay)
        ]
        for axis, parts in sorted(set(body.values())):
            alike = [weight for weight, place in body.items() if place == (axis, parts)]
            shape = {"axis": axis, "parts": parts, "momentum": config.momentum}
            groups.append({"params": alike, "weight_decay": training.weight_decay, "lr": training.lr} | shape)
        super().__init__(groups, adam_keys(training))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = with_gradient(group)
            if weights and "momentum" in group:
                self._step(group, weights)
            elif weights:
                adam_step(self, group, weights, weights, lr=group["lr"], decay=group["weight_decay"])

    def _step(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        means = [self.state[weight].setdefault("mean", torch.zeros_like(weight)) for weight in weights]
        torch._foreach_lerp_(means, gradients(weights), 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients(weights), means, group["momentum"])
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for parts, directions in _stacks(_parts(group, weights), _parts(group, updates)):
            size = RMS_OF_ADAMW * max(directions.shape[1:]) ** 0.5
            torch._foreach_add_(parts, list(orthogonal(directions)), alpha=-group["lr"] * size)

    def state_bytes(self) -> int:
        of_groups = (
            sum(4 * weight.numel() for weight in group["params"]) if "momentum" in group
            else adam_state_bytes(group["params"])
            for group in self.param_groups
        )  # fmt: skip
        return sum(of_groups)

    def flops(self) -> float:
        bodies = (_parts(group, group["params"]) for group in self.param_groups if "momentum" in group)
        shapes = [part.shape for parts in bodies for part in parts]
        return sum(ITERATIONS * (4.0 * rows**2 * columns + 2.0 * rows**3) for rows, columns in shapes)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices near U V^T, where these are U S V^T.

    Args:
        matrices: float32 (n, rows, columns), no more rows than columns. Products are in bf16 where that is fast.
    """
    a, b, c = COEFFICIENTS
    is_bf16_fast = fast_precision(matrices.device) == "bf16"
    x = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(DTYPES["bf16" if is_bf16_fast else "fp32"])
    for _ in range(ITERATIONS):
        y = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(y, y, y, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


def _parts(group: dict[str, Any], matrices: Sequence[Tensor]) -> list[Tensor]:
    """Views of all parts of all matrices, each with no more rows than columns."""
    parts = [part for matrix in matrices for part in matrix.chunk(group["parts"], dim=group["axis"])]
    return [part.mT if part.shape[0] > part.shape[1] else part for part in parts]


def _stacks(weights: list[Tensor], updates: list[Tensor]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Weights of one shape and a stack of their updates, of at most AT_ONCE entries where there are several."""
    by_shape = defaultdict(list)
    for weight, update in zip(weights, updates, strict=True):
        by_shape[weight.shape].append((weight, update))
    for shape, alike in by_shape.items():
        count = max(1, AT_ONCE // shape.numel())
        for first in range(0, len(alike), count):
            some, theirs = zip(*alike[first : first + count], strict=True)
            yield list(some), torch.stack(theirs)
