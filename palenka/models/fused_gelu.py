r"""GPT-2's GELU in training on a CPU, with its gradient written out by hand.

    gelu(x) = x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))) = x σ(u),   u = x (a + b x²),  a = 2√(2/π), b = 0.044715 a
    gelu'(x) = σ(u) + x σ(u) (1 − σ(u)) (a + 3 b x²)

Source: Hendrycks and Gimpel 2016, arXiv 1606.08415. Hugging Face makes eight passes of it, and autograd as many again.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import NewGELUActivation

A = 2 * math.sqrt(2 / math.pi)
B = 0.044715 * A


def use_fused_gelu(model: nn.Module) -> None:
    """Let all of a model's activations of this kind choose the faster function where it serves."""
    for module in model.modules():
        if type(module) is NewGELUActivation:  # exactly: a subclass may compute something else
            module.__class__ = FusedGELU


class FusedGELU(NewGELUActivation):
    """An activation that becomes one by its class alone."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that it has in Hugging Face's)
        """(…,) → (…,)"""
        is_plain = input.device.type == "cpu" and input.dtype == torch.float32 and not torch.compiler.is_compiling()
        output: Tensor = _Gelu.apply(input) if is_plain and torch.is_grad_enabled() else super().forward(input)
        return output


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        gate = (states * states).mul_(B).add_(A).mul_(states).sigmoid_()
        ctx.save_for_backward(states, gate)
        return states * gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        states, gate = ctx.saved_tensors
        slope = (states * states).mul_(3 * B).add_(A).mul_(states)
        slope.mul_(torch.addcmul(gate, gate, gate, value=-1)).add_(gate)
        return slope.mul_(gradient)
