"""The GELU of models in training is Hugging Face's, and so is its gradient."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import NewGELUActivation

from palenka.models.fused_gelu import FusedGELU, _Gelu, use_fused_gelu


@pytest.fixture
def fused() -> nn.Module:
    module = NewGELUActivation()
    use_fused_gelu(module)
    return module


def of_gradient(function: Callable[[Tensor], Tensor], states: Tensor) -> tuple[Tensor, Tensor]:
    states = states.detach().requires_grad_()
    output = function(states)
    (output * torch.arange(1.0, 1 + states.numel(), dtype=states.dtype)).sum().backward()
    return output.detach(), states.grad  # type: ignore[return-value]


def test_value_and_gradient_are_those_of_hugging_face(fused: nn.Module) -> None:
    states = torch.cat([torch.linspace(-30, 30, 4001), torch.tensor([-1e4, 0.0, 1e4])])
    output, gradient = of_gradient(fused, states)
    expected, slope = of_gradient(NewGELUActivation(), states.double())
    torch.testing.assert_close(output.double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient.double(), slope, atol=1e-2, rtol=1e-5)  # of up to 4,004 times a slope
    assert type(fused(states.requires_grad_()).grad_fn).__name__ == "_GeluBackward"


def test_its_gradient_is_that_of_differences() -> None:
    states = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    assert torch.autograd.gradcheck(_Gelu.apply, states.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_left_to_hugging_face(fused: nn.Module, dtype: torch.dtype) -> None:
    states = torch.randn(9, dtype=dtype).requires_grad_()
    assert torch.equal(fused(states), NewGELUActivation()(states))
    assert "_Gelu" not in type(fused(states).grad_fn).__name__


def test_without_gradients_and_compiled_it_is_hugging_faces(fused: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    states = torch.randn(9, requires_grad=True)
    with torch.no_grad():
        assert torch.equal(fused(states), NewGELUActivation()(states))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(fused(states), NewGELUActivation()(states))


def test_only_this_very_activation_is_taken_over() -> None:
    class Own(NewGELUActivation):
        pass

    model = nn.Sequential(NewGELUActivation(), nn.GELU(), Own())
    use_fused_gelu(model)
    assert [type(module) for module in model] == [FusedGELU, nn.GELU, Own]
