"""Every objective that exists keeps its contract.

The tests run over `objectives.available()`: a new file in `palenka/objectives/` is tested by them as it stands. What
each term's equation says is tested in `test_objective_<name>.py`.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import terms
import tiny
import torch
from commands import TORCHRUN, succeed
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from palenka import objectives
from palenka.data.batch import Batch
from palenka.models.huggingface import quiet_transformers
from palenka.models.outputs import Attention
from palenka.objectives import StateObjective, States, TokenObjective
from palenka.objectives.hidden_state import HiddenState
from palenka.optimizers import parameter_groups
from palenka.training.loss_module import LossModule
from palenka.util.errors import UserError

HERE = Path(__file__).parent
ALL = objectives.available()
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {  # of knobs that change how a term is computed
    "auxiliary": ({"own_heads": True}, {"feature_weight": 0.0}),
    "hidden_state": ({"distance": "cosine"},),
    "logit": ({"divergence": "jensen_shannon"}, {"reduction": "sequence_sum"}, {"combine": "probabilities"}),
}
CASES = [pytest.param(name, {}, id=name) for name in ALL] + [
    pytest.param(name, knobs, id=f"{name}-{next(iter(knobs))}")
    for name, variants in VARIANTS.items()
    for knobs in variants
]
every_objective = pytest.mark.parametrize(("name", "knobs"), CASES)
Knobs = dict[str, Any]


def run(model: LossModule, inputs: Tensor, labels: Tensor) -> Tensor:
    loss: Tensor = model(Batch(inputs, labels), terms.whole(labels))[0]
    return loss


def value_and_gradients(model: LossModule, inputs: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    loss = run(model, inputs, labels)
    loss.backward()
    return loss.detach(), terms.gradients(model)


@every_objective
def test_a_gradient_reaches_the_student_and_all_that_the_objective_owns_and_no_teacher(
    name: str, knobs: Knobs
) -> None:
    model = terms.loss_module(name, **knobs)
    _, reached = value_and_gradients(model, *tiny.batch())
    assert {f"objectives.{key}" for key, _ in model.objectives.named_parameters()} <= reached.keys()
    assert {"student.model.embed_tokens.weight", "student.model.layers.0.mlp.up_proj.weight"} <= reached.keys()
    for teacher in model.teachers.models:
        assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())


@every_objective
def test_ignored_positions_do_not_count(name: str, knobs: Knobs) -> None:
    model = terms.loss_module(name, **knobs)
    inputs, labels = tiny.batch(ignored=3)
    changed = inputs.clone()
    changed[0, -3:] = (changed[0, -3:] + 7) % tiny.VOCABULARY
    with torch.no_grad():
        torch.testing.assert_close(run(model, changed, labels), run(model, inputs, labels), rtol=1e-6, atol=0)
        counted = changed.clone()
        counted[1, -3:] = inputs[0, -3:]
        assert run(model, counted, labels) != run(model, inputs, labels)


@every_objective
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_the_value_is_finite_and_close_in_half_precision(name: str, knobs: Knobs, precision: torch.dtype) -> None:
    model = terms.loss_module(name, **knobs)
    batch = tiny.batch()
    full = run(model, *batch)
    with torch.autocast("cpu", precision):
        rounded = run(model, *batch)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, full, rtol=0.03, atol=0)
    rounded.backward()
    assert all(gradient.isfinite().all() for gradient in terms.gradients(model).values())


@every_objective
def test_the_value_is_the_same_without_autograd(name: str, knobs: Knobs) -> None:
    model = terms.loss_module(name, **knobs)
    with torch.no_grad():
        value = run(model, *tiny.batch())
    torch.testing.assert_close(value, run(model, *tiny.batch()).detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_the_returned_value_is_not_weighted(name: str) -> None:
    shapes = [terms.teacher_shape(5, pairs=((3, 2),), layers=3)]
    inputs: Any
    if issubclass(objectives.find(name), TokenObjective):
        inputs = (torch.randn(7, 11), [torch.randn(7, 11)], torch.randint(11, (7,)))
    else:
        inputs = (states(6, 2), [states(5, 3)], terms.counting(torch.ones(2, 4, dtype=torch.bool)))
    values = []
    for weight in (1.0, 10.0):
        torch.manual_seed(0)
        values.append(terms.objective(name, terms.student_shape(6), shapes, weight=weight)(*inputs))
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_one_that_maps_layers_says_so(name: str) -> None:
    """`layer_mapping` without such a term is told to have no effect."""
    kind, values = objectives.find(name), []
    if issubclass(kind, TokenObjective):
        return
    student, teacher = states(6, 2), states(5, 3)
    for pairs in (((3, 2),), ((1, 1),)):
        torch.manual_seed(0)
        term = terms.objective(name, terms.student_shape(6), [terms.teacher_shape(5, pairs=pairs, layers=3)])
        values.append(term(student, [teacher], terms.counting(torch.ones(2, 4, dtype=torch.bool))))
    assert torch.equal(*values) != (kind.teacher_states == "mapped")


@pytest.mark.parametrize("name", ALL)
def test_one_looks_at_no_teacher_states_but_those_that_it_names(name: str) -> None:
    """`teacher_cache` keeps no others: here, those that are not named are empty."""
    kind, values = objectives.find(name), []
    if issubclass(kind, TokenObjective) or kind.teacher_states == "all":
        return
    student, teacher = states(6, 2), states(5, 3)
    named = {3, 1} if kind.teacher_states == "mapped" else {3}
    few = [of if layer in named else torch.empty(0) for layer, of in enumerate(teacher.hidden)]
    for shown in (teacher, States(few, {}, teacher.head)):
        torch.manual_seed(0)
        term = terms.objective(name, terms.student_shape(6), [terms.teacher_shape(5, pairs=((1, 1), (3, 2)), layers=3)])
        values.append(term(student, [shown], terms.counting(torch.ones(2, 4, dtype=torch.bool))))
    assert torch.equal(*values)


def states(width: int, layers: int) -> States:
    """Random states of a model, two windows of four tokens, with one attention head."""
    hidden = [torch.randn(2, 4, width) for _ in range(layers + 1)]
    attention = {layer: Attention(*torch.randn(3, 2, 1, 4, width)) for layer in range(1, layers + 1)}
    return States(hidden, attention, torch.nn.Linear(width, 11, bias=False))


@every_objective
def test_the_order_of_the_windows_does_not_matter(name: str, knobs: Knobs) -> None:
    model = terms.loss_module(name, **knobs)
    inputs, labels = terms.uneven_batch(5)
    order = torch.tensor([3, 0, 4, 2, 1])
    value, gradients = value_and_gradients(model, inputs, labels)
    permuted_value, permuted = value_and_gradients(model, inputs[order], labels[order])
    torch.testing.assert_close(permuted_value, value)
    terms.assert_close(permuted, gradients)


@every_objective
def test_windows_and_positions_that_only_fill_up_a_batch_change_nothing(name: str, knobs: Knobs) -> None:
    model = terms.loss_module(name, **knobs)
    inputs, labels = terms.uneven_batch(3)
    value, gradients = value_and_gradients(model, inputs, labels)
    filled_inputs, filled_labels = torch.full((5, 16), 7), torch.full((5, 16), -100)
    filled_inputs[1:4, :12], filled_labels[1:4, :12] = inputs, labels
    loss, _ = model(Batch(filled_inputs, filled_labels), terms.whole(labels))
    loss.backward()
    torch.testing.assert_close(loss.detach(), value)
    terms.assert_close(terms.gradients(model), gradients)


@every_objective
def test_micro_batches_add_up_to_the_whole_batch(name: str, knobs: Knobs) -> None:
    """In value and in every gradient, cut behind every second window; tokens of two parts are never compared."""
    model = terms.loss_module(name, **terms.ADDITIVE.get(name, {}), **knobs)
    inputs, labels = terms.uneven_batch(5)
    value, gradients = value_and_gradients(model, inputs, labels)
    total = torch.zeros(())
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
        loss, _ = model(Batch(inputs[rows], labels[rows]), terms.whole(labels))
        loss.backward()
        total += loss.detach()
    torch.testing.assert_close(total, value)
    terms.assert_close(terms.gradients(model), gradients)


@every_objective
def test_a_micro_batch_in_which_nothing_counts_adds_nothing(name: str, knobs: Knobs) -> None:
    model = terms.loss_module(name, **knobs)
    inputs, labels = tiny.batch()
    loss, reported = model(Batch(inputs, torch.full_like(labels, -100)), terms.whole(labels))
    loss.backward()
    assert loss.item() == 0
    assert reported.tolist() == [0]
    assert terms.gradients(model) == {}


@pytest.mark.usefixtures("processes")
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    succeed(*TORCHRUN, HERE / "rank_gradients.py", tmp_path)
    ranks = [load_file(tmp_path / f"rank-{rank}.safetensors") for rank in range(2)]
    assert ranks[0].keys() == ranks[1].keys()
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in ranks[0])
    for name in ALL:
        model = terms.loss_module(name, **terms.ADDITIVE.get(name, {}))
        _, expected = value_and_gradients(model, *terms.uneven_batch(4))
        prefix = f"{name}/"
        ours = {key.removeprefix(prefix): value for key, value in ranks[0].items() if key.startswith(prefix)}
        terms.assert_close(ours, expected)


@every_objective
def test_what_an_objective_owns_is_trained_once_and_not_exported(name: str, knobs: Knobs, tmp_path: Path) -> None:
    model = terms.loss_module(name, **knobs)
    trained = [id(parameter) for group in parameter_groups(model, 0.1) for parameter in group["params"]]
    assert len(trained) == len(set(trained))
    owners = [model.student, model.objectives]
    assert set(trained) == {id(parameter) for owner in owners for parameter in owner.parameters()}
    plain = tiny.model({**tiny.LLAMA, **terms.SPREAD}, seed=1)
    with quiet_transformers():
        model.student.save_pretrained(tmp_path / "student")
        plain.save_pretrained(tmp_path / "plain")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "student" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


@pytest.mark.parametrize("name", ALL)
def test_an_objective_is_of_one_kind_and_its_knobs_are_checked(name: str) -> None:
    objective = objectives.find(name)
    assert issubclass(objective, TokenObjective) != issubclass(objective, StateObjective)
    for bad in ({"weight": -1}, {"weight": math.nan}, {}, {"weight": 1, "no_such_knob": 1}):
        with pytest.raises(ValidationError):
            objective.Config.model_validate(bad)


def test_a_file_is_found_by_its_name() -> None:
    assert {"hard_target", "logit", "hidden_state"} <= set(ALL)
    assert objectives.find("hidden_state") is HiddenState
    with pytest.raises(UserError, match="unknown objective 'hiden_state'; did you mean 'hidden_state'"):
        objectives.find("hiden_state")
