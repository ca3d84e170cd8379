"""Student, teachers and objectives put together: the loss that is trained, and what is kept out of it."""

from dataclasses import asdict
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palenka import objectives
from palenka.data.batch import Batch
from palenka.models.folder import load_frozen
from palenka.models.outputs import model_shape
from palenka.objectives import TeacherShape
from palenka.teachers.live import Teachers
from palenka.training.loss_module import LossModule, StepSize
from palenka.training.validation import token_cross_entropy

WEIGHTS = {"hard_target": 0.5, "logit": 0.25, "hidden_state": 2.0}
PAIRS = ((1, 1), (3, 2))


def loss_module(weights: dict[str, float] = WEIGHTS, **knobs: Any) -> LossModule:
    """A Llama student and a GPT-2 teacher; `knobs` are those of `logit`."""
    student, teacher = tiny.model(tiny.LLAMA, seed=1), tiny.model(tiny.GPT2, seed=2).eval().requires_grad_(False)
    shapes = [TeacherShape(**asdict(model_shape(teacher.config)), share=1.0, layer_pairs=PAIRS)]
    terms = {}
    for name, weight in weights.items():
        torch.manual_seed(0)
        config = objectives.find(name).Config(weight=weight, **(knobs if name == "logit" else {}))
        terms[name] = objectives.find(name)(config, model_shape(student.config), shapes)
    return LossModule(student, terms, Teachers([teacher]))


def whole(labels: Tensor) -> StepSize:
    return StepSize(predicted=int((labels != -100).sum()), sequences=len(labels))


def test_the_loss_is_the_weighted_sum_of_the_terms_it_reports() -> None:
    model = loss_module()
    batch, labels = tiny.batch()
    loss, terms = model(Batch(batch, labels), whole(labels))
    assert model.term_names == ["hard_target", "logit", "hidden_state"]
    assert not terms.requires_grad
    weights = torch.tensor([WEIGHTS[name] for name in model.term_names])
    torch.testing.assert_close(loss.detach(), (weights * terms).sum())


def test_the_terms_are_what_the_models_own_logits_and_states_give() -> None:
    model = loss_module(temperature=3.0)
    batch, labels = tiny.batch()
    counts = labels != -100
    with torch.no_grad():
        _, terms = model(Batch(batch, labels), whole(labels))
        student = model.student(batch, output_hidden_states=True)
        teacher = model.teachers.models[0](batch, output_hidden_states=True)
    p, q = (output.logits[counts].double() / 3 for output in (teacher, student))
    kl = 9 * (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1).mean()
    distances = []
    for (i, j), projection in zip(PAIRS, model.objectives["hidden_state"].projections[0], strict=True):
        a = F.layer_norm(projection(student.hidden_states[j][counts]), (24,))
        distances.append(F.mse_loss(a, F.layer_norm(teacher.hidden_states[i][counts], (24,))))
    expected = [F.cross_entropy(student.logits[counts], labels[counts]), kl.float(), torch.stack(distances).mean()]
    torch.testing.assert_close(terms, torch.stack(expected).detach(), rtol=1e-4, atol=1e-5)


def test_the_last_state_is_the_one_behind_the_final_norm() -> None:
    """Layer numbers mean what Hugging Face's `hidden_states` mean, in both architectures."""
    for keys in (tiny.LLAMA, tiny.GPT2):
        model = tiny.model(keys).eval()
        output = model(tiny.batch()[0], output_hidden_states=True)
        assert len(output.hidden_states) == keys["num_hidden_layers"] + 1
        torch.testing.assert_close(model.get_output_embeddings()(output.hidden_states[-1]), output.logits)


def test_reported_terms_do_not_depend_on_weights() -> None:
    batch, labels = tiny.batch()
    _, light = loss_module()(Batch(batch, labels), whole(labels))
    _, heavy = loss_module({name: 10 * weight for name, weight in WEIGHTS.items()})(Batch(batch, labels), whole(labels))
    torch.testing.assert_close(light, heavy, rtol=0, atol=0)


def test_sequence_sum_is_the_token_mean_times_tokens_per_sequence() -> None:
    batch, labels = tiny.batch(sequences=4, length=10, ignored=2)
    token, _ = loss_module({"logit": 1.0}, reduction="token")(Batch(batch, labels), whole(labels))
    summed, reported = loss_module({"logit": 1.0}, reduction="sequence_sum")(Batch(batch, labels), whole(labels))
    assert (summed / token).item() == pytest.approx((4 * 10 - 2) / 4)
    assert reported.item() == pytest.approx(summed.item())


def test_sequence_sum_is_batchmean_over_batch_time_and_vocabulary() -> None:
    batch, labels = tiny.batch(ignored=0)
    model = loss_module({"logit": 1.0}, reduction="sequence_sum", temperature=2.0)
    ours, _ = model(Batch(batch, labels), whole(labels))
    with torch.no_grad():
        student, teacher = (m(batch).logits / 2 for m in (model.student, model.teachers.models[0]))
    theirs = nn.KLDivLoss(reduction="batchmean")(student.log_softmax(-1), teacher.softmax(-1)) * 2**2
    torch.testing.assert_close(ours.detach(), theirs, rtol=1e-4, atol=0)


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    """Values and gradients, although the micro-batches differ in size and in how many positions count."""
    batch, labels = tiny.batch(sequences=5, ignored=6)
    labels[1, 2:9] = -100
    size = whole(labels)
    model = loss_module()
    loss, terms = model(Batch(batch, labels), size)
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    sums = torch.zeros(1 + len(model.term_names))
    for rows in (slice(0, 1), slice(1, 4), slice(4, 5)):
        part, part_terms = model(Batch(batch[rows], labels[rows]), size)
        part.backward()
        sums += torch.cat([part.detach().reshape(1), part_terms])
    torch.testing.assert_close(sums, torch.cat([loss.detach().reshape(1), terms]))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_micro_batch_in_which_nothing_counts_adds_nothing() -> None:
    batch, labels = tiny.batch()
    model = loss_module()
    loss, terms = model(Batch(batch, torch.full_like(labels, -100)), whole(labels))
    loss.backward()
    assert loss.item() == 0
    assert terms.tolist() == [0, 0, 0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


def test_teachers_are_no_part_of_the_module() -> None:
    model = loss_module()
    assert [name for name, _ in model.named_children()] == ["student", "objectives"]
    owners = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert owners == {name.split(".")[0] for name in model.state_dict()} == {"student", "objectives"}
    teachers = {id(module) for teacher in model.teachers.models for module in teacher.modules()}
    assert not teachers & {id(module) for module in model.modules()}


def test_teachers_stay_frozen_and_in_evaluation_while_the_student_trains(teacher: Any) -> None:
    """A teacher loaded with dropout gives the same states every time, and no gradient, after train() and backward()."""
    frozen = load_frozen(teacher, torch.float32, tiny.CPU)
    model = LossModule(tiny.model(tiny.LLAMA), {}, Teachers([frozen]))
    model.train()
    assert model.student.training
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


class Counter:
    """Counts the calls of a model's body."""

    def __init__(self, model: nn.Module) -> None:
        self.calls: list[dict[str, Any]] = []
        model.base_model.register_forward_hook(self.note, with_kwargs=True)  # type: ignore[operator, union-attr]

    def note(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        self.calls.append({"states": output.hidden_states is not None, "grad": torch.is_grad_enabled()})


@pytest.mark.parametrize(
    ("weights", "teacher_calls", "states"),
    [
        ({"hard_target": 1.0}, 0, False),
        ({"hard_target": 1.0, "logit": 1.0}, 1, False),
        ({"hidden_state": 1.0}, 1, True),
        (WEIGHTS, 1, True),
    ],
)
def test_only_the_work_that_is_needed_is_done(weights: dict[str, float], teacher_calls: int, states: bool) -> None:
    model = loss_module(weights)
    student, teacher = Counter(model.student), Counter(model.teachers.models[0])
    batch, labels = tiny.batch()
    model(Batch(batch, labels), whole(labels))
    assert student.calls == [{"states": states, "grad": True}]
    assert teacher.calls == [{"states": states, "grad": False}] * teacher_calls


def test_state_terms_alone_train_the_student() -> None:
    batch, labels = tiny.batch()
    model = loss_module({"hidden_state": 1.0})
    loss, terms = model(Batch(batch, labels), whole(labels))
    loss.backward()
    assert loss.item() == pytest.approx(terms.item())
    assert model.student.model.embed_tokens.weight.grad.any()


def test_token_cross_entropy_is_the_sum_of_each_sequence() -> None:
    batch, labels = tiny.batch()
    model = tiny.model(tiny.LLAMA).eval()
    with torch.no_grad():
        sums, counts = token_cross_entropy(model, Batch(batch, labels))
        logits = model(batch).logits.double()
    expected = [F.cross_entropy(logits[i], labels[i], reduction="sum") for i in range(3)]
    assert sums.dtype == torch.float64
    torch.testing.assert_close(sums, torch.stack(expected), rtol=1e-5, atol=1e-5)
    assert counts.tolist() == [9, 12, 12]
