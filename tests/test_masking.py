"""What paradigms that hide tokens show and predict, and paradigms made of several: by hand, and by counting."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from palenka import objectives, paradigms
from palenka.data.batch import PLACES, Batch
from palenka.data.windows import IGNORED
from palenka.models.forward import run_model
from palenka.models.outputs import model_shape
from palenka.objectives import TeacherShape
from palenka.paradigms import Paradigm, Query, Shown, Vocabulary
from palenka.teachers.live import Teachers
from palenka.training.loss_module import LossModule, StepSize

SIZE = tiny.VOCABULARY
VOCABULARY = Vocabulary(SIZE, bos=1, eos=2, pad=0, mask=3, special=frozenset(range(4)))


def made(name: str, **keys: Any) -> Paradigm:
    return paradigms.of(paradigms.DOOR.read({"name": name, **keys}), VOCABULARY)


def windows(rows: int = 64, time: int = 128, seed: int = 0) -> Shown:
    """`<s>` and random tokens, each row its own."""
    tokens = np.random.default_rng(seed).integers(4, SIZE, (rows, time + 1))
    tokens[:, 0] = 1
    return Shown(tokens[:, :-1].copy(), tokens[:, 1:].copy(), range(rows), seed)


@pytest.fixture(params=["masked", "mntp"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def hidden_places(paradigm: Paradigm, batch: Batch) -> torch.Tensor:
    """Bool (batch, time): the tokens that are predicted, wherever from."""
    return batch.counts.roll(paradigm.distance, dims=1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("span", ["token", "uniform", "geometric"])
def test_labels_are_the_hidden_tokens_at_their_distance(name: str, span: str) -> None:
    paradigm, shown = made(name, span=span), windows()
    batch = paradigm.batch(shown)
    original, hidden = torch.from_numpy(shown.input_ids), hidden_places(paradigm, batch)
    assert torch.equal(batch.labels[batch.counts], original[hidden])
    assert torch.equal(batch.input_ids[~hidden], original[~hidden])
    assert not hidden[:, 0].any() and batch.attention == "full"


@pytest.mark.parametrize("rate", [0.15, 0.4])
@pytest.mark.parametrize("span", ["token", "uniform", "geometric"])
def test_as_much_is_hidden_as_the_rate_says(name: str, span: str, rate: float) -> None:
    """floor(n r + u) of n = 127 tokens: one of two numbers in each row, and n r on average."""
    per_row = made(name, span=span, rate=rate).batch(windows(rows=400)).counts.sum(dim=1).double()
    assert set(per_row.tolist()) <= {np.floor(127 * rate), np.floor(127 * rate) + 1}
    assert per_row.mean().item() == pytest.approx(127 * rate, abs=4 * 0.5 / 20)


def test_the_rate_falls_evenly_over_the_training(name: str) -> None:
    paradigm = made(name, rate=[0.30, 0.15])
    for progress, rate in ((0.0, 0.30), (0.5, 0.225), (1.0, 0.15)):
        count = paradigm.batch(replace(windows(rows=200), progress=progress)).counts.sum().item() / 200
        assert count == pytest.approx(127 * rate, abs=4 * 0.5 / 200**0.5)


@pytest.mark.parametrize("draw", ["span", "token"])
def test_most_of_the_hidden_is_masked_some_random_some_left(name: str, draw: str) -> None:
    paradigm, shown = made(name, rate=0.3, span="uniform", draw=draw), windows(rows=600)
    batch, original = paradigm.batch(shown), torch.from_numpy(shown.input_ids)
    hidden = hidden_places(paradigm, batch)
    seen, were = batch.input_ids[hidden], original[hidden]
    masked, left = (seen == 3).double().mean().item(), (seen == were).double().mean().item()
    assert masked == pytest.approx(0.8, abs=0.015) and left == pytest.approx(0.1, abs=0.012)
    others = seen[(seen != 3) & (seen != were)]
    assert others.min() >= 4 and len(others.unique()) > SIZE // 2


def neighbours_alike(batch: Batch, hidden: torch.Tensor) -> float:
    """Of pairs of neighbours that are both hidden the share that is both masked or both not."""
    both = hidden[:, 1:] & hidden[:, :-1]
    masked = batch.input_ids == 3
    return float((masked[:, 1:] == masked[:, :-1])[both].double().mean())


def test_a_draw_is_a_spans_or_a_tokens(name: str) -> None:
    """Independent draws agree in 0.8² + 0.2² = 0.68 of pairs; those of one span always do."""
    found = {}
    for draw in ("span", "token"):
        paradigm = made(name, rate=0.15, span="geometric", draw=draw)
        batch = paradigm.batch(windows(rows=600))
        found[draw] = neighbours_alike(batch, hidden_places(paradigm, batch))
    assert found["token"] == pytest.approx(0.68, abs=0.03)
    assert found["span"] > 0.9


@pytest.mark.parametrize(("span", "expected"), [("token", 1.0), ("uniform", 2.0), ("geometric", 3.0)])
def test_spans_are_as_long_as_they_should_be(span: str, expected: float) -> None:
    """At a small rate hidden spans seldom touch: runs are as long as spans, but for the last, which may be cut."""
    paradigm = made("masked", rate=0.05, span=span)
    hidden = hidden_places(paradigm, paradigm.batch(windows(rows=400, time=1000))).long()
    runs = (hidden[:, 1:] - hidden[:, :-1]).eq(1).sum().item()
    assert hidden.sum().item() / runs == pytest.approx(expected, rel=0.12)


@pytest.mark.slow
def test_the_last_token_is_of_spans_like_others() -> None:
    """Of two tokens: one span in 2/3 of rows, which is masked or not as one; two are alike in 0.68 of the others."""
    paradigm = made("masked", rate=1.0, span="uniform")
    batch = paradigm.batch(windows(rows=4000, time=3))
    assert neighbours_alike(batch, hidden_places(paradigm, batch)) == pytest.approx(2 / 3 + 0.68 / 3, abs=0.02)


def test_special_tokens_are_never_hidden(name: str) -> None:
    shown = windows(rows=50)
    shown.input_ids[:, 10::10] = 2
    shown.input_ids[:, -5:] = 0
    paradigm = made(name, rate=0.9, span="uniform")
    batch = paradigm.batch(shown)
    special = torch.from_numpy(shown.input_ids < 4)
    assert not (hidden_places(paradigm, batch) & special).any()
    assert torch.equal(batch.input_ids[special], torch.from_numpy(shown.input_ids)[special])


def test_something_is_always_predicted(name: str) -> None:
    batch = made(name, rate=0.01).batch(windows(rows=20, time=8))
    assert (batch.counts.sum(dim=1) == 1).all()
    nothing = Shown(np.full((2, 8), 2), np.full((2, 8), IGNORED), [0, 1], 0)
    assert not made(name).batch(nothing).counts.any()


def test_a_visit_is_masked_as_its_position_says(name: str) -> None:
    shown = windows(rows=4)
    paradigm = made(name)
    again, later = paradigm.batch(shown), paradigm.batch(replace(shown, positions=range(100, 104)))
    assert torch.equal(paradigm.batch(shown).input_ids, again.input_ids)
    assert not torch.equal(again.input_ids, later.input_ids)
    assert not torch.equal(again.input_ids, paradigm.batch(replace(shown, seed=1)).input_ids)


def test_padding_is_seen_by_none_and_no_row_is_blind(name: str) -> None:
    shown = windows(rows=2, time=6)
    shown.input_ids[0, 4:] = 0
    visible = made(name).batch(shown).visible()[:, 0]
    assert visible[0].tolist() == [[True] * 4 + [False] * 2] * 4 + [[True] * 5 + [False], [True] * 4 + [False, True]]
    assert visible[1].all()


def test_documents_are_isolated(name: str) -> None:
    shown = windows(rows=1, time=6)
    shown.input_ids[0, 2] = 2
    batch = made(name, isolate_documents=True, rate=1.0).batch(shown)
    assert batch.visible()[0, 0].tolist() == [[True] * 3 + [False] * 3] * 3 + [[False] * 3 + [True] * 3] * 3
    hidden = hidden_places(made(name), batch)[0].tolist()
    assert hidden == [False, True, False, name == "masked", True, True], "mntp predicts nothing from another document"


def test_causal_documents_are_isolated() -> None:
    shown = windows(rows=1, time=6)
    shown.input_ids[0, 2] = 2
    batch = made("causal", isolate_documents=True).batch(shown)
    expected = torch.block_diag(torch.ones(3, 3).tril(), torch.ones(3, 3).tril()).bool()
    assert torch.equal(batch.visible()[0, 0], expected)
    assert batch.counts[0].tolist() == [True, True, False, True, True, True]
    shown.input_ids[0, -1] = 2
    assert not made("causal", isolate_documents=True).batch(shown).counts[0, -1], "what follows the window is another's"


def test_isolated_documents_are_as_alone(name: str) -> None:
    model = tiny.model(tiny.LLAMA).eval()
    tokens = torch.tensor([[1, 10, 11, 2, 12, 13, 14, 15]])
    shown = Shown(tokens.numpy(), tokens.numpy(), [0], 0)
    mask = made(name, isolate_documents=True).batch(shown).attention
    together = run_model(model, Batch(tokens, tokens, mask)).final
    for rows in (slice(0, 4), slice(4, 8)):
        alone = run_model(model, Batch(tokens[:, rows], tokens[:, rows], "full")).final
        torch.testing.assert_close(together[:, rows], alone, rtol=1e-4, atol=1e-5)


def test_queries_by_hand() -> None:
    assert made("masked").queries((1, 5), (6, 7), (2,)) == [
        Query((1, 5, 3, 7, 2), (2,), (6,)), Query((1, 5, 6, 3, 2), (3,), (7,)),
    ]  # fmt: skip
    assert made("mntp").queries((1,), (6, 7), (2,)) == [
        Query((1, 3, 7, 2), (0,), (6,)), Query((1, 6, 3, 2), (1,), (7,)),
    ]  # fmt: skip
    # Tokens 5 and 6 are one word, which 8 belongs to, too: of a word what follows is hidden, what stands before is not.
    assert made("masked").queries((1,), (5, 6, 7, 8), (2,), (0, 0, 1, 0)) == [
        Query((1, 3, 3, 7, 3, 2), (1,), (5,)), Query((1, 5, 3, 7, 3, 2), (2,), (6,)),
        Query((1, 5, 6, 3, 8, 2), (3,), (7,)), Query((1, 5, 6, 7, 3, 2), (4,), (8,)),
    ]  # fmt: skip


# Several


def test_a_mix_has_its_ratio_in_every_round() -> None:
    mix = made("mix", rows={"mntp": 15, "causal": 1})
    part = mix.batch(windows(rows=64)).part
    assert part is not None
    assert [row.sum().item() for row in part.reshape(4, 16)] == [1] * 4
    even = made("mix", rows={"mntp": 1, "causal": 1}).batch(windows(rows=6)).part
    assert even is not None and even.tolist() == [1, 0, 1, 0, 1, 0]


def test_the_order_of_rows_in_a_file_is_no_other_training() -> None:
    one, other = (made("mix", rows=dict(rows)) for rows in ((("mntp", 3), ("causal", 1)), (("causal", 1), ("mntp", 3))))
    shown = windows(rows=16)
    assert torch.equal(one.batch(shown).input_ids, other.batch(shown).input_ids)
    assert torch.equal(one.batch(shown).labels, other.batch(shown).labels)


def test_the_loss_of_a_mix_is_the_weighted_mean_of_means() -> None:
    """Whatever the micro-batches, against the plain formula; a plain mean over tokens is another number."""
    mix, shown = made("mix", rows={"mntp": 3, "causal": 1}), windows(rows=16, time=24)
    batch, student = mix.batch(shown), tiny.model(tiny.LLAMA)
    config = objectives.find("hard_target").Config(weight=1.0)
    terms = {"cross_entropy": objectives.find("hard_target")(config, model_shape(student.config), [])}
    loss_module, size = LossModule(student, terms), StepSize(int(batch.counts.sum()), 16)
    parts = [loss_module(batch.rows(slice(first, first + 5)).with_places(), size) for first in range(0, 16, 5)]
    mask = batch.additive_mask(torch.float32)
    logits = student(batch.input_ids, attention_mask=mask).logits.detach().double()
    means = []
    for number in range(2):
        labels = batch.only([number]).labels
        means.append(F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED))
    expected = 0.75 * means[0] + 0.25 * means[1]
    assert sum(loss.item() for loss, _ in parts) == pytest.approx(expected.item(), rel=1e-5)
    assert sum(term.item() for _, term in parts) == pytest.approx(expected.item(), rel=1e-5)
    plain = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)
    assert abs(plain - expected) > 1e-4


def test_a_state_term_of_a_mix_is_the_weighted_mean_of_means() -> None:
    """Whatever the micro-batches: a term is a plain mean, of each paradigm apart."""
    mix, shown = made("mix", rows={"mntp": 3, "causal": 1}), windows(rows=16, time=24)
    batch, student, teacher = mix.batch(shown), tiny.model(tiny.LLAMA), tiny.model(tiny.LLAMA, seed=1).eval()
    shape = TeacherShape(**asdict(model_shape(teacher.config)), share=1.0, layer_pairs=((1, 1), (2, 2)))
    kind = objectives.find("hidden_state")
    terms = {"hidden_state": kind(kind.Config(weight=1.0), model_shape(student.config), [shape])}
    loss_module = LossModule(student, terms, Teachers([teacher]), taught={0, 1})
    size = StepSize(int(batch.counts.sum()), 16)
    found = [loss_module(batch.rows(slice(first, first + 5)), size)[0] for first in range(0, 16, 5)]
    each = [batch.only([number]) for number in range(2)]
    alone = LossModule(student, terms, Teachers([teacher]))
    means = [alone(replace(of, weight=None), StepSize(int(of.counts.sum()), 16))[0].item() for of in each]
    assert sum(loss.item() for loss in found) == pytest.approx(0.75 * means[0] + 0.25 * means[1], rel=1e-5)
    assert abs(means[0] - means[1]) > 1e-3


def test_an_alternation_takes_whole_epochs() -> None:
    alternate: Any = made("alternate", epochs=[{"causal": 4}, {"masked": 16}, {"causal": 4}])
    at = [alternate.at(epoch / 24) for epoch in range(24)]
    assert at == ["causal"] * 4 + ["masked"] * 16 + ["causal"] * 4
    assert alternate.at((4 - 1e-6) / 24) == "causal" and alternate.at(1.0) == "causal"
    batch = alternate.batch(replace(windows(rows=2), progress=0.5))
    assert batch.attention == "full" and batch.part.tolist() == [1, 1]
    assert alternate.shares == {"causal": pytest.approx(1 / 3), "masked": pytest.approx(2 / 3)}


def test_knobs_reach_the_parts() -> None:
    mix: Any = made("mix", rows={"mntp": 1, "causal": 1}, knobs={"mntp": {"rate": [0.3, 0.15]}})
    assert mix.parts["mntp"].config.rate == (0.3, 0.15)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"name": "mix", "rows": {"mntp": 1, "mix": 1}}, "'mix' is made of other paradigms itself"),
        ({"name": "alternate", "epochs": [{"alternate": 1}, {"causal": 1}]}, "is made of other paradigms itself"),
        ({"name": "mix", "rows": {"mntp": 1, "causel": 1}}, "did you mean 'causal'"),
        ({"name": "mix", "rows": {"mntp": 1, "causal": 0}}, "1 or more"),
        ({"name": "mix", "rows": {"mntp": 1, "causal": 1}, "knobs": {"masked": {}}}, "not among mntp, causal"),
        ({"name": "mix", "rows": {"mntp": 1, "causal": 1}, "knobs": {"mntp": {"rat": 1}}}, "did you mean 'rate'"),
        ({"name": "mix", "rows": {"mntp": 1, "causal": 1}, "knobs": {"mntp": {"rate": 2}}}, "knobs: mntp: rate: exp"),
        ({"rate": 0.2, "span": "uniform"}, "with its keys, {name: …, rate: …, span: …}"),
        ({"name": "alternate", "epochs": [{"causal": 1, "masked": 1}, {"causal": 1}]}, "one paradigm with its epochs"),
        ({"name": "masked", "rate": 0}, "a share above 0 and at most 1, or two, .*got 0"),
        ({"name": "masked", "rate": [0.3, 1.5]}, "at most 1"),
        ({"name": "masked", "rate": [0.3, 0.0]}, "above 0"),
        ({"name": "masked", "rate": [0.3, 0.2, 0.1]}, r"or two, \[first, last\], got \[0.3, 0.2, 0.1\]"),
        ({"name": "masked", "rate": "high"}, "got high"),
    ],
)
def test_what_makes_no_sense_is_refused(section: dict[str, Any], expected: str) -> None:
    with pytest.raises((ValueError, ValidationError), match=expected):
        paradigms.DOOR.read(section)


# Where few positions predict


@pytest.mark.parametrize(
    ("section", "predicted", "logits"),
    [
        ({"name": "causal"}, 1, 1),
        ({"name": "masked"}, 0.15, 0.15),
        ({"name": "mntp", "rate": [0.3, 0.15]}, 0.225, 0.225),
        ({"name": "masked", "rate": 0.6}, 0.6, 1),
        ({"name": "mix", "rows": {"mntp": 3, "causal": 1}}, 0.75 * 0.15 + 0.25, 0.75 * 0.15 + 0.25),
        ({"name": "mix", "rows": {"mntp": 1, "causal": 1}}, 0.575, 1),
        ({"name": "alternate", "epochs": [{"causal": 1}, {"masked": 3}]}, 0.25 + 0.75 * 0.15, 0.25 + 0.75 * 0.15),
    ],
)
def test_how_much_is_predicted(section: dict[str, Any], predicted: float, logits: float) -> None:
    config: Any = paradigms.DOOR.read(section)
    assert (config.predicted_share, config.logit_share) == (pytest.approx(predicted), pytest.approx(logits))


def test_places_hold_all_that_predict_and_are_few_shapes() -> None:
    batch = made("masked").batch(windows(rows=32)).with_places()
    assert batch.places is not None and len(batch.places) % PLACES == 0
    assert len(batch.places.unique()) == len(batch.places)
    labels = batch.at_places(batch.labels)
    assert (labels != IGNORED).sum() == batch.counts.sum() and len(labels) < 32 * 128 / 2
    causal = made("causal").batch(windows(rows=32)).with_places()
    assert causal.places is None


def test_the_loss_is_that_of_all_positions(name: str) -> None:
    """Values and gradients, with a teacher and states beside the cross-entropy."""
    batch = made(name, rate=0.1).batch(windows(rows=32, time=64))
    results = []
    for shown in (batch, batch.with_places()):
        student = tiny.model(tiny.LLAMA, seed=1)
        config = objectives.find("hard_target").Config(weight=1.0)
        terms = {"cross_entropy": objectives.find("hard_target")(config, model_shape(student.config), [])}
        loss, _ = LossModule(student, terms)(shown, StepSize(int(batch.counts.sum()), 32))
        loss.backward()
        results.append((loss.item(), [parameter.grad for parameter in student.parameters()]))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-6)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
