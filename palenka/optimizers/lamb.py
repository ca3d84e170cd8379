r"""LAMB: Adam's step, made as long for each matrix as that matrix is large.

    u = m' / (sqrt(v') + epsilon) + weight_decay w,    m' and v' as in AdamW
    w <- w - lr r u,    r = |w| / |u|, or 1 where one of the norms is 0

Biases and norm gains do not decay, and have r = 1: theirs are Adam's own steps, at the same rate. Where `weight_decay`
is 0, so are all.

You et al. 2020, arXiv 1904.00962; in the form that LTG-BERT (arXiv 2303.09859) and GPT-BERT (arXiv 2410.24159) use.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from palenka.optimizers import Hyperparameters, Optimizer, OptimizerConfig
from palenka.optimizers._adam import adam_keys, adam_state_bytes, adam_step, with_gradient
from palenka.optimizers._layers import embeddings, gains_and_biases


class Lamb(Optimizer):
    """The host never waits for the device: not for a norm, and not to know whether a step is taken."""

    _step_supports_amp_scaling = True

    class Config(OptimizerConfig):
        decay_embeddings: bool = Field(
            default=True, description="and give them a trust ratio, as GPT-BERT does; LTG-BERT does not"
        )

        def idle(self, training: Hyperparameters) -> Iterator[tuple[str, str]]:
            if not training.weight_decay:
                yield "optimizer", "training.weight_decay above 0: all steps are AdamW's"

    def __init__(self, config: Config, training: Hyperparameters, module: nn.Module) -> None:
        plain = gains_and_biases(module) | (set() if config.decay_embeddings else embeddings(module))
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p not in plain], "weight_decay": training.weight_decay},
            {"params": [p for p in trained if p in plain], "weight_decay": 0.0},
        ]
        super().__init__(groups, {"lr": training.lr, **adam_keys(training)})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = with_gradient(group)
            if weights and group["weight_decay"] > 0:
                self._step(group, weights)
            elif weights:
                adam_step(self, group, weights, weights, lr=group["lr"], decay=0.0)

    def _step(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        moves = [torch.zeros_like(weight) for weight in weights]
        adam_step(self, group, weights, moves, lr=1.0, decay=0.0)  # 0 moved by Adam at rate 1
        torch._foreach_add_(moves, weights, alpha=-group["weight_decay"])
        rates = group["lr"] * _trust_ratios(weights, moves)
        if hasattr(self, "found_inf"):
            rates = rates * (1 - self.found_inf)
        torch._foreach_mul_(moves, list(rates.unbind()))
        torch._foreach_add_(weights, moves)

    def state_bytes(self) -> int:
        return adam_state_bytes(list(self.parameters()))


def _trust_ratios(weights: list[Tensor], updates: list[Tensor]) -> Tensor:
    """(weights,): the norm of each weight over that of its update."""
    sizes, lengths = (torch.stack(torch._foreach_norm(tensors)) for tensors in (weights, updates))
    return torch.where((sizes > 0) & (lengths > 0), sizes / lengths, 1.0)
