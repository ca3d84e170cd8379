"""LAMB by hand, against a plain reference in float64, and which parameters it decays."""

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import nn
from toy_encoder import ToyEncoder

from palenka import optimizers
from palenka.optimizers import Hyperparameters, Optimizer


def built(module: nn.Module, knobs: dict[str, Any] | None = None, **changes: Any) -> Optimizer:
    values = {"optimizer": {"name": "lamb"} | (knobs or {}), "lr": 0.1, "weight_decay": 0.5} | changes
    return optimizers.build(Hyperparameters.model_validate(values), module)


def decayed(module: nn.Module, **knobs: Any) -> set[str]:
    names = {parameter: name for name, parameter in module.named_parameters()}
    return {names[p] for group in built(module, knobs).param_groups if group["weight_decay"] for p in group["params"]}


def test_by_hand() -> None:
    """Without momentum Adam's step is the gradient's sign: u = (1, -1) + 0.5 (3, 4), |u| = √(2.5² + 1²), |w| = 5."""
    module = nn.Linear(2, 1)
    module.weight.data, module.bias.data = torch.tensor([[3.0, 4.0]]), torch.tensor([1.0])
    module.weight.grad, module.bias.grad = torch.tensor([[7.0, -0.2]]), torch.tensor([3.0])
    built(module, adam_beta1=0.0, adam_beta2=0.0, adam_epsilon=1e-12).step()
    ratio = 5 / (2.5**2 + 1**2) ** 0.5
    assert module.weight.tolist()[0] == pytest.approx([3 - 0.1 * ratio * 2.5, 4 - 0.1 * ratio * 1.0])
    assert module.bias.item() == pytest.approx(1 - 0.1)


@pytest.mark.parametrize(
    ("weight", "gradient", "expected"), [((0.0, 0.0), (2.0, -2.0), (-0.1, 0.1)), ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))]
)
def test_a_ratio_is_1_where_a_norm_is_0(weight: Any, gradient: Any, expected: Any) -> None:
    module = nn.Linear(2, 1, bias=False)
    module.weight.data, module.weight.grad = torch.tensor([weight]), torch.tensor([gradient])
    built(module).step()
    assert module.weight.tolist()[0] == pytest.approx(expected, rel=1e-5)


def test_without_decay_it_is_adam() -> None:
    """The trust ratio goes with the decay."""
    modules = [nn.Linear(3, 2) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    values = {"lr": 0.1, "weight_decay": 0.0}
    pair = [optimizers.build(Hyperparameters.model_validate(values | {"optimizer": {"name": name}}), module)
            for name, module in zip(("lamb", "adamw"), modules, strict=True)]  # fmt: skip
    for _ in range(3):
        for module in modules:
            module.weight.grad, module.bias.grad = torch.ones(2, 3), -torch.ones(2)
        for optimizer in pair:
            optimizer.step()
    assert torch.equal(modules[0].weight, modules[1].weight) and torch.equal(modules[0].bias, modules[1].bias)


def reference(weight: Any, gradients: Any, decay: float, lr: float, betas: Any, epsilon: float) -> Any:
    mean, square = np.zeros_like(weight), np.zeros_like(weight)
    for step, gradient in enumerate(gradients, 1):
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        update = mean / (1 - betas[0] ** step) / (np.sqrt(square / (1 - betas[1] ** step)) + epsilon)
        update = update + decay * weight
        ratio = np.linalg.norm(weight) / np.linalg.norm(update) if decay else 1.0
        weight = weight - lr * ratio * update
    return weight


def test_several_steps_are_those_of_a_plain_reference() -> None:
    """Of all kinds of parameter, at LTG-BERT's hyperparameters; a large epsilon tells where it stands."""
    torch.manual_seed(0)
    module = ToyEncoder()
    optimizer = built(module, lr=1e-2, weight_decay=0.1, adam_beta1=0.9, adam_beta2=0.98, adam_epsilon=0.1)
    initial = {name: p.detach().double().numpy().copy() for name, p in module.named_parameters()}
    gradients = {name: np.random.default_rng(1).normal(size=(6, *p.shape)) for name, p in module.named_parameters()}
    for step in range(6):
        for name, parameter in module.named_parameters():
            parameter.grad = torch.tensor(gradients[name][step], dtype=torch.float32)
        optimizer.step()
    with_ratio = decayed(module)
    for name, parameter in module.named_parameters():
        decay = 0.1 if name in with_ratio else 0.0
        expected = reference(initial[name], gradients[name], decay, 1e-2, (0.9, 0.98), 0.1)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_gpt_bert_decays_all_but_biases_and_norm_gains() -> None:
    module = ToyEncoder()
    dense = {"dense_weights.0", "dense_weights.1"}
    matrices = {"in_proj_qk.weight", "out_proj.weight"}
    assert decayed(module) == {"embedding.weight", "relative_embedding"} | matrices | dense


def test_ltg_bert_decays_no_table_and_thereby_no_tied_head() -> None:
    module = ToyEncoder()
    tables = {"embedding.weight", "relative_embedding"}
    assert decayed(module, decay_embeddings=False) == decayed(module) - tables


@pytest.mark.parametrize("name", ["ltg_bert", "gpt_bert"])
def test_both_systems_as_they_are_built(name: str) -> None:
    keys = {"architecture": name, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
            "num_attention_heads": 2}  # fmt: skip
    module = tiny.model(keys)
    names = {name for name, _ in module.named_parameters()}
    tables = {"body.embedding.weight", "body.relative_embedding.weight"}
    plain = {name for name in names if name.endswith("bias") or "_norm." in name}
    assert tables <= names and plain
    assert decayed(module) == names - plain
    assert decayed(module, decay_embeddings=False) == names - plain - tables


@pytest.mark.parametrize(
    ("keys", "tables"),
    [
        (tiny.GPT2, {"transformer.wte.weight", "transformer.wpe.weight"}),
        (tiny.LLAMA, {"model.embed_tokens.weight"}),  # its head is a matrix of its own
        ({**tiny.LLAMA, "tie_word_embeddings": True}, {"model.embed_tokens.weight"}),
    ],
)
def test_embeddings_of_other_models(keys: Any, tables: set[str]) -> None:
    module = tiny.model(keys)
    matrices = {name for name, parameter in module.named_parameters() if parameter.ndim > 1}
    assert decayed(module) == matrices
    assert decayed(module, decay_embeddings=False) == matrices - tables
