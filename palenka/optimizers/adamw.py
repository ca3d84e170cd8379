r"""AdamW: Adam whose weight decay is no part of the gradient.

    m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
    w <- w - lr ( m' / (sqrt(v') + epsilon) + weight_decay w ),    m' = m / (1 - b1^t),  v' = v / (1 - b2^t)

Loshchilov & Hutter 2019, arXiv 1711.05101. b1, b2 and epsilon are `training.adam_beta1`, `adam_beta2`, `adam_epsilon`.
"""

import torch
from torch import nn

from palenka.optimizers import Hyperparameters, Optimizer, OptimizerConfig, parameter_groups


class AdamW(torch.optim.AdamW, Optimizer):
    """PyTorch's, fused: a step is one pass over the weights, and can be left out without the host waiting for it."""

    def __init__(self, config: OptimizerConfig, training: Hyperparameters, module: nn.Module) -> None:
        betas = (training.adam_beta1, training.adam_beta2)
        groups = parameter_groups(module, training.weight_decay)
        super().__init__(groups, lr=training.lr, betas=betas, eps=training.adam_epsilon, fused=True)

    def state_bytes(self) -> int:
        return sum(8 * parameter.numel() + 4 for parameter in self.parameters())  # two moments; a count of steps
