"""What models are shown and asked: laws over all paradigms, masks by their effect, and a paradigm added as one file."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from run_files import records

from palenka import paradigms
from palenka.data.batch import Batch
from palenka.data.tokenizer import load_tokenizer
from palenka.data.windows import IGNORED
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.texts import Text
from palenka.models.forward import run_model
from palenka.paradigms import Paradigm, Query, Shown, Vocabulary
from palenka.training.plan import make_plan
from palenka.training.schema import TrainConfig
from palenka.util.paths import ROOT

VOCABULARY = Vocabulary(tiny.VOCABULARY, bos=1, eos=2, pad=0, mask=3, special=frozenset(range(4)))
EXAMPLES: dict[str, Any] = {
    "mix": {"name": "mix", "rows": {"mntp": 3, "causal": 1}},
    "alternate": {"name": "alternate", "epochs": [{"causal": 1}, {"masked": 2}, {"causal": 1}]},
}
PAGE = (ROOT / "docs" / "paradigms.md").read_text(encoding="utf-8")
PREVIOUS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]


def made(section: Any, vocabulary: Vocabulary = VOCABULARY) -> Paradigm:
    return paradigms.of(paradigms.DOOR.read(section), vocabulary)


@pytest.fixture(params=paradigms.DOOR.available())
def paradigm(request: pytest.FixtureRequest) -> Paradigm:
    return made(EXAMPLES.get(request.param, request.param))


class Windows:
    """Random windows, each its own."""

    seed = 0

    def batch(self, positions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        tokens = np.stack([np.random.default_rng(p).integers(4, tiny.VOCABULARY, 13) for p in positions])
        labels = tokens[:, 1:].copy()
        labels[:, -2:] = IGNORED
        return tokens[:, :-1].copy(), labels


# Laws over all paradigms


def test_a_window_looks_the_same_in_any_batch(paradigm: Paradigm) -> None:
    windows: Any = Windows()
    together = paradigm.window_batch(windows, range(8))
    for position in range(8):
        alone = paradigm.window_batch(windows, range(position, position + 1))
        assert torch.equal(alone.input_ids[0], together.input_ids[position])
        assert torch.equal(alone.labels[0], together.labels[position])


def test_a_batch_is_whole(paradigm: Paradigm) -> None:
    batch = paradigm.window_batch(Windows(), range(8))  # type: ignore[arg-type]
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64
    assert batch.input_ids.shape == batch.labels.shape == (8, 12)
    predicted = batch.labels[batch.counts]
    assert len(predicted) and predicted.min() >= 0 and predicted.max() < tiny.VOCABULARY
    assert batch.input_ids.min() >= 0 and batch.input_ids.max() < tiny.VOCABULARY


def test_each_token_of_a_text_is_asked_for_once(paradigm: Paradigm) -> None:
    for part in paradigm.parts.values():
        queries = part.queries((1, 5), (6, 7, 8))
        assert sorted(token for query in queries for token in query.targets) == [6, 7, 8]
        for query in queries:
            assert len(query.places) == len(query.targets)
            assert all(0 <= place < len(query.tokens) for place in query.places)


def test_parts_share_the_training(paradigm: Paradigm) -> None:
    assert list(paradigm.shares) == list(paradigm.parts) == paradigm.config.part_names
    assert sum(paradigm.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA], ids=["gpt2", "llama"])
def test_earlier_logits_change_with_a_later_token_where_they_may(paradigm: Paradigm, keys: dict[str, Any]) -> None:
    """In the rows of each part: with causal attention never, with full attention all of them."""
    model, windows = tiny.model(keys).eval(), Windows()
    for progress in (0.0, 0.5):
        batch = paradigm.window_batch(windows, range(8), progress)  # type: ignore[arg-type]
        changed = batch.input_ids.clone()
        changed[:, -1] = (changed[:, -1] + 100) % 200 + 50
        both = (replace(batch, input_ids=tokens) for tokens in (batch.input_ids, changed))
        one, other = (run_model(model, each).final[:, :-1] for each in both)
        for number, part in enumerate(paradigm.parts.values()):
            rows = batch.made_by([number])
            differs = (one[rows] != other[rows]).any(dim=-1)
            assert differs.all() if part.attention == "full" else not differs.any()


def test_causal_by_hand() -> None:
    causal = made("causal")
    assert causal.queries((1, 5), (6, 7, 8)) == [Query((1, 5, 6, 7), (1, 2, 3), (6, 7, 8))]
    inputs, labels = np.array([[1, 5, 6]]), np.array([[5, 6, IGNORED]])
    batch = causal.batch(Shown(inputs, labels, [0], seed=0))
    assert (batch.input_ids.tolist(), batch.labels.tolist()) == (inputs.tolist(), labels.tolist())
    assert batch.attention == "causal"


# Batches


def test_which_positions_see_each_other() -> None:
    inputs, labels = tiny.batch(2, length=3, ignored=1)
    causal, full = Batch(inputs, labels), Batch(inputs, labels, "full")
    assert causal.visible().tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert full.visible().all() and causal.additive_mask(torch.float32) is None
    mask = full.additive_mask(torch.bfloat16)
    assert mask is not None and mask.dtype == torch.bfloat16 and mask.shape == (2, 1, 3, 3) and not mask.any()
    own = Batch(inputs, labels, torch.eye(3, dtype=torch.bool)[None, None])
    assert torch.equal(own.visible()[0, 0], torch.eye(3, dtype=torch.bool))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        least = torch.full((1, 1, 3, 3), torch.finfo(dtype).min, dtype=dtype)
        mask = own.additive_mask(dtype)
        assert mask is not None and torch.equal(mask, least.masked_fill(torch.eye(3, dtype=torch.bool), 0.0))


def test_a_mask_of_pairs_is_a_byte_a_pair_until_a_model_sees_it(paradigm: Paradigm) -> None:
    """A step's, of all its micro-batches: of 32 windows of 512 tokens 8 MiB."""
    attention = paradigm.window_batch(Windows(), range(8)).attention  # type: ignore[arg-type]
    assert isinstance(attention, str) or attention.dtype == torch.bool


def test_rows_of_a_batch() -> None:
    inputs, labels = tiny.batch(3, length=4)
    each = torch.arange(3.0)[:, None, None, None].expand(3, 1, 4, 4)
    batch = Batch(inputs, labels, each).rows(slice(1, 3))
    assert torch.equal(batch.input_ids, inputs[1:]) and torch.equal(batch.labels, labels[1:])
    assert isinstance(batch.attention, torch.Tensor) and batch.attention[:, 0, 0, 0].tolist() == [1.0, 2.0]
    shared = Batch(inputs, labels, each[:1]).rows(slice(1, 3))
    assert isinstance(shared.attention, torch.Tensor) and len(shared.attention) == 1
    assert Batch(inputs, labels).rows(slice(1)).attention == "causal"


def test_a_batch_in_which_nothing_counts() -> None:
    inputs, labels = tiny.batch(2, length=4, ignored=2)
    assert torch.equal(Batch(inputs, labels).never_empty().labels, labels)
    nothing = Batch(inputs, torch.full_like(labels, IGNORED))
    assert not nothing.counts.any() and nothing.never_empty().counts.all()


@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("attention", ["causal", "full"])
def test_a_later_token_is_seen_where_attention_is_full(keys: dict[str, Any], attention: Any) -> None:
    model = tiny.model(keys).eval()
    inputs, labels = tiny.batch(2, length=6)
    changed = inputs.clone()
    changed[:, -1] = (inputs[:, -1] + 1) % tiny.VOCABULARY
    one, other = (run_model(model, Batch(each, labels, attention)).final[:, :-1] for each in (inputs, changed))
    assert torch.equal(one, other) == (attention == "causal")


def test_documents_that_do_not_see_each_other_are_as_alone() -> None:
    """Llama's positions are relative, so that a document is what it is wherever it stands."""
    model = tiny.model(tiny.LLAMA).eval()
    inputs, labels = tiny.batch(1, length=10, ignored=0)
    document = torch.tensor([0] * 4 + [1] * 6)
    apart = (document[:, None] != document[None]) | torch.ones(10, 10, dtype=torch.bool).triu(1)
    together = run_model(model, Batch(inputs, labels, ~apart[None, None])).final
    for rows in (slice(0, 4), slice(4, 10)):
        alone = run_model(model, Batch(inputs[:, rows], labels[:, rows])).final
        torch.testing.assert_close(together[:, rows], alone, rtol=1e-4, atol=1e-5)


# Scores


@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA], ids=["gpt2", "llama"])
def test_a_masked_model_is_asked_for_each_token_by_itself(keys: dict[str, Any], prepared_once: Path) -> None:
    """Against the plain formula, one query at a time; batches pad, and nobody sees the padding."""
    model = tiny.model(keys).eval()
    tokenizer = load_tokenizer(prepared_once / "tokenizer")
    paradigm = made("masked")
    texts = [Text((), (5, 6, 7)), Text((8, 9), (10,)), Text((4,), (5, 6, 7, 8, 9, 10, 11))]
    scores = Scorer(model, tokenizer, "tiny", paradigm).score(texts)
    for text, score in zip(texts, scores, strict=True):
        expected = 0.0
        for query in paradigm.queries((1, *text.context), text.continuation, (2,)):
            shown = torch.tensor([query.tokens])
            seen = torch.zeros(1, 1, len(query.tokens), len(query.tokens))
            logits = model(shown, attention_mask=seen).logits.detach().double().log_softmax(-1)
            expected += float(logits[0, query.places[0], query.targets[0]])
        assert score == pytest.approx(expected, rel=1e-5)


# One file


@pytest.fixture
def previous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's paradigm, as a file of the door."""
    (tmp_path / "door").mkdir()
    (tmp_path / "door" / "previous.py").write_text(PREVIOUS, encoding="utf-8")
    monkeypatch.setattr(paradigms, "__path__", [*paradigms.__path__, str(tmp_path / "door")])


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_paradigm_added_as_one_file_trains_and_is_scored(previous: None, prepared: Path) -> None:
    values = tiny.train_values(paradigm="previous")
    values["training"] |= {"max_steps": 120, "lr": 2e-2, "eval_steps": 60}
    run = tiny.train(make_plan(TrainConfig.model_validate(values), "test"))
    first, last = (records(run, "dev")[index]["loss"] for index in (0, -1))
    assert last < first < 5.0
    assert last < 1.0, "what stands before is there to be seen"
    scorer = Scorer.load(run)
    assert type(scorer.paradigm).__name__ == "Previous"
    text = Text((), (40, 50, 60))
    tokens = torch.tensor([[1, 40, 50, 60]])
    log_probs = scorer.model(tokens).logits[0].double().log_softmax(-1)
    expected = sum(float(log_probs[place, token]) for place, token in ((1, 1), (2, 40), (3, 50)))
    assert scorer.score([text])[0] == pytest.approx(expected, rel=1e-5)


def test_an_unknown_paradigm_is_told(prepared: Path) -> None:
    with pytest.raises(ValueError, match="unknown paradigm 'casual'; did you mean 'causal'"):
        TrainConfig.model_validate(tiny.train_values(paradigm="casual"))
