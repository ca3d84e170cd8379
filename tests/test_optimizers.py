"""What holds for every optimizer, and AdamW by hand."""

import copy
from typing import Any

import pytest
import terms
import tiny
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Trainer

from palenka import optimizers
from palenka.optimizers import Hyperparameters, Optimizer
from palenka.training.gradients import StepGuard

ALL = optimizers.available()
every_optimizer = pytest.mark.parametrize("name", ALL)


def hyperparameters(name: str, **changes: Any) -> Hyperparameters:
    return Hyperparameters.model_validate({"optimizer": {"name": name}, "lr": 1e-2} | changes)


def built(name: str, **changes: Any) -> tuple[nn.Module, Optimizer]:
    """A student with the projections of `hidden_state`, equal in each call, and its optimizer."""
    torch.manual_seed(0)
    module = terms.loss_module("hidden_state")
    return module, optimizers.build(hyperparameters(name, **changes), module)


def give_gradients(module: nn.Module, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)


def take_steps(module: nn.Module, optimizer: Optimizer, seeds: range) -> None:
    for seed in seeds:
        give_gradients(module, seed)
        optimizer.step()
        optimizer.zero_grad()


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def state(optimizer: Optimizer) -> list[Tensor]:
    return [value.clone() for parameter in optimizer.parameters() for value in optimizer.state[parameter].values()]


def assert_equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


# Laws


@every_optimizer
def test_each_parameter_is_in_one_group_and_moves(name: str) -> None:
    module, optimizer = built(name)
    assert sorted(map(id, optimizer.parameters())) == sorted(map(id, module.parameters()))
    before = weights(module)
    take_steps(module, optimizer, range(1))
    for key, after in weights(module).items():
        assert torch.isfinite(after).all() and not torch.equal(after, before[key]), key


@every_optimizer
def test_a_restored_state_takes_the_same_next_step(name: str) -> None:
    module, optimizer = built(name)
    take_steps(module, optimizer, range(3))
    other, resumed = built(name)
    other.load_state_dict(module.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, its in ((module, optimizer), (other, resumed)):
        take_steps(each, its, range(3, 5))
    assert_equal(weights(other), weights(module))


@every_optimizer
def test_the_bytes_claimed_are_those_of_the_state(name: str) -> None:
    module, optimizer = built(name)
    claimed = optimizer.state_bytes()
    take_steps(module, optimizer, range(1))
    assert claimed == optimizer.state_bytes() == sum(tensor.nbytes for tensor in state(optimizer))
    assert optimizers.build(hyperparameters(name), module.to("meta")).state_bytes() == claimed


@every_optimizer
def test_the_flops_claimed_are_those_of_a_step(name: str) -> None:
    module, optimizer = built(name)
    give_gradients(module, 0)
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    assert counter.get_total_flops() == optimizer.flops()


@every_optimizer
def test_matrices_decay_and_vectors_do_not(name: str) -> None:
    module, optimizer = built(name, weight_decay=0.5)
    before = weights(module)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, after in weights(module).items():
        is_smaller = after.norm() < before[key].norm()
        assert is_smaller if after.ndim > 1 else torch.equal(after, before[key]), key


@every_optimizer
def test_a_rate_of_0_moves_nothing(name: str) -> None:
    """The schedule has all of the step's size."""
    module, optimizer = built(name, weight_decay=0.5)
    before = weights(module)
    for group in optimizer.param_groups:
        assert group["lr"] > 0
        group["lr"] = 0.0
    take_steps(module, optimizer, range(2))
    assert_equal(weights(module), before)


@every_optimizer
def test_a_step_that_is_left_out_leaves_nothing(name: str) -> None:
    module, optimizer = built(name)
    guard = StepGuard(optimizer, tiny.CPU, allowed=1, is_scaled=False)
    for number, norm in enumerate((1.0, float("nan"), 1.0), start=1):
        before = weights(module), state(optimizer)
        guard.judge(number, torch.tensor([norm]), torch.zeros(1))
        take_steps(module, optimizer, range(number, number + 1))
        if number == 2:
            assert_equal((weights(module), state(optimizer)), before)
        else:
            assert not torch.equal(weights(module)["student.model.norm.weight"], before[0]["student.model.norm.weight"])


@every_optimizer
def test_it_learns_a_batch_by_heart(name: str) -> None:
    """Untrained models are near log 320 = 5.77 nats."""
    module, (inputs, labels) = nn.ModuleDict({"student": tiny.model(tiny.LLAMA)}), tiny.batch(ignored=0)
    optimizer = optimizers.build(hyperparameters(name, lr=3e-2, weight_decay=0.1), module)
    for _ in range(60):
        loss = nn.functional.cross_entropy(module["student"](inputs).logits.flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 3


@every_optimizer
def test_knobs_are_read_and_written_by_name(name: str) -> None:
    given = hyperparameters(name).optimizer
    assert type(given) is optimizers.find(name).Config
    assert optimizers.DOOR.read(given.model_dump()) == given
    assert all(field.description for field in type(given).model_fields.values())


@every_optimizer
@pytest.mark.parametrize(
    ("key", "value"), [("adam_beta1", 0.5), ("adam_beta2", 0.5), ("adam_epsilon", 0.1), ("weight_decay", 0.5)]
)
def test_what_it_says_that_it_does_not_use_changes_nothing_and_all_else_does(name: str, key: str, value: float) -> None:
    ends = []
    for changes in ({}, {key: value}):
        module, optimizer = built(name, **changes)
        take_steps(module, optimizer, range(3))
        ends.append(weights(module))
    is_same = all(torch.equal(ends[0][each], ends[1][each]) for each in ends[0])
    assert is_same == (key in optimizers.find(name).unused)


def test_frozen_parameters_are_in_no_group() -> None:
    model = tiny.model(tiny.GPT2)
    model.get_input_embeddings().weight.requires_grad_(False)
    grouped = {id(parameter) for group in optimizers.parameter_groups(model, 0.1) for parameter in group["params"]}
    assert grouped == {id(p) for p in model.parameters()} - {id(model.get_input_embeddings().weight)}


# AdamW


@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA], ids=["gpt2", "llama"])
def test_what_decays_is_what_decays_in_hugging_faces_trainer(keys: Any) -> None:
    """Embeddings and the head, too: published weight decays act on the same weights here."""
    model = tiny.model(keys)
    theirs = {model.get_parameter(name) for name in Trainer.get_decay_parameter_names(None, model)}
    decays, _ = optimizers.parameter_groups(model, 0.1)
    assert set(decays["params"]) == theirs
    assert {model.get_input_embeddings().weight, model.get_output_embeddings().weight} <= theirs


def test_adamw_by_hand() -> None:
    """Of gradients 1 and -2: m = 0.5, then -0.75; v = 0.25, then 1.1875; both corrected by 1 - 1/2 and 1 - 3/4, or 1 -
    3/4 and 1 - 9/16."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    changes = {"lr": 0.1, "weight_decay": 0.5, "adam_beta1": 0.5, "adam_beta2": 0.75, "adam_epsilon": 1e-12}
    optimizer = optimizers.build(hyperparameters("adamw", **changes), module)
    expected = 1.0
    for gradient, move in ((1.0, 1.0), (-2.0, (-0.75 / 0.75) / (1.1875 / (7 / 16)) ** 0.5)):
        module.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * move
        assert module.weight.item() == pytest.approx(expected, rel=1e-6)

