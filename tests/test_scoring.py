"""The scorer against the plain formula in float64, one text at a time."""

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tokenizers import Tokenizer, processors
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from palenka.data.tokenizer import load_tokenizer
from palenka.evaluation import scoring
from palenka.evaluation.items import Choice, Item
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.texts import Text, check_texts, encode
from palenka.models.onednn import PackedLinear, is_onednn_usable
from palenka.util.errors import UserError
from palenka.util.progress import passed_on

SENTENCES = [
    "The cat sees a dog.",
    "The cat see a dog.",
    "A: Who likes the boat?\nB: Every farmer.",
    "One.",
    "Every child likes this river.",
]
BOS = 1


@pytest.fixture(scope="session")
def tokenizer(prepared_once: Path) -> Any:
    return load_tokenizer(prepared_once / "tokenizer")


def pair(good: str, bad: str) -> Item:
    return item_of("", good, bad)


def item_of(context: str, *texts: str) -> Item:
    return Item("pairs", 1, tuple(Choice(context, text) for text in texts))


def make_scorer(keys: Any, tokenizer: Any, seed: int = 0) -> Scorer:
    """An untrained model whose weights are large enough to have opinions."""
    model = tiny.model(keys, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.ndim > 1 else 1)
    return Scorer(model, tokenizer, "a model")


def check(scorer: Scorer, items: list[Item], texts: list[Text], task: str) -> None:
    check_texts(items, texts, task, scorer.limits)


def plain_log_prob(model: Any, context: list[int], continuation: list[int]) -> float:
    """Σ log P of the continuation, in float64, one token at a time."""
    tokens = torch.tensor([context + continuation])
    with torch.inference_mode():
        logits = model(tokens).logits.double().log_softmax(-1)[0]
    return sum(float(logits[i - 1, tokens[0, i]]) for i in range(len(context), tokens.shape[1]))


ARCHITECTURES = {
    "gpt2": tiny.GPT2,
    "llama": tiny.LLAMA,
    "grouped-heads": {**tiny.LLAMA, "num_key_value_heads": 1},
    "gptj": {
        "architecture": "gptj", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "rotary_dim": 4,
    },
}  # fmt: skip
of_each_architecture = pytest.mark.parametrize("keys", ARCHITECTURES.values(), ids=ARCHITECTURES)


@of_each_architecture
def test_pairs_equal_the_plain_formula(keys: Any, tokenizer: Any) -> None:
    scorer = make_scorer(keys, tokenizer)
    assert scorer.takes_trees
    items = [pair(good, bad) for good in SENTENCES for bad in SENTENCES]
    scores = scorer.score(encode(items, tokenizer), batch_tokens=64)
    sentences = [choice.text for item in items for choice in item.choices]
    expected = [
        plain_log_prob(scorer.model, [BOS], tokenizer(" " + text, add_special_tokens=False)["input_ids"])
        for text in sentences
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert scores.dtype == np.float64
    assert np.ptp(scores) > 10


def test_ewok_scores_the_target_alone_without_a_prefix(tokenizer: Any) -> None:
    scorer = make_scorer(tiny.LLAMA, tokenizer)
    sentence, targets = "The cat sees a dog.", (" The dog likes it.", " A boat likes it.")
    scores = scorer.score(encode([item_of(sentence, *targets)], tokenizer))
    context = tokenizer(sentence, add_special_tokens=False)["input_ids"]
    for score, target in zip(scores, targets, strict=True):
        whole = tokenizer(sentence + target, add_special_tokens=False)["input_ids"]
        assert score == pytest.approx(plain_log_prob(scorer.model, context, whole[len(context) :]), abs=1e-4)


class Letters:
    """A tokenizer with a token for each character, and one for ". ", across whatever boundary."""

    def __init__(self, bos: int | None = None, eos: int | None = None, pad: int | None = None) -> None:
        self.bos_token_id, self.eos_token_id, self.pad_token_id = bos, eos, pad

    def __len__(self) -> int:
        return 256

    def __call__(self, texts: list[str], add_special_tokens: bool, **_: Any) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        return {"input_ids": [[ord(c) for c in text.replace(". ", "\u0100")] for text in texts]}


def test_the_boundary_is_where_the_context_alone_would_end() -> None:
    # "ab. c" is a, b, ". ", c: behind the three tokens that "ab." has alone stands c, and "." stays the context's last.
    texts = encode([item_of("ab.", " c", " dd"), item_of("ab", " c", " d")], Letters())
    context = (ord("a"), ord("b"), ord("."))
    assert texts[0] == Text(context, (ord("c"),))
    assert texts[1] == Text(context, (ord("d"), ord("d")))
    assert texts[2] == Text(context[:2], (ord(" "), ord("c")))


def by_the_2025_pipeline(model: Any, tokenizer: Any, context: str, text: str) -> float:
    """Its definition, step by step: tokens that end behind the context count, given all before them."""
    encoded = tokenizer(context + text, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    start = len(context) + offsets[0][0]
    with torch.inference_mode():
        log_probs = model(torch.tensor([ids[:-1]])).logits.double().log_softmax(-1)[0]
    return sum(
        float(log_probs[place - 1, ids[place]]) for place in range(1, len(ids)) if offsets[place][1] > start
    )


def with_special_tokens(tokenizer: Any, template: str) -> Any:
    """A copy of the tokenizer that puts tokens around each text by itself."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    tokens = [("<s>", 1), ("</s>", 2)]
    backend.post_processor = processors.Sequence(
        [backend.post_processor or processors.ByteLevel(trim_offsets=False), TemplateProcessing(template, None, tokens)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.mark.parametrize("template", [None, "<s> $A", "<s> $A </s>", "$A </s>"])
@pytest.mark.parametrize("trims", [False, True])
def test_the_2025_protocol_by_its_definition(tokenizer: Any, template: str | None, trims: bool) -> None:
    if trims:
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.post_processor = processors.ByteLevel(trim_offsets=True)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    reader = with_special_tokens(tokenizer, template) if template else tokenizer
    scorer = make_scorer(tiny.LLAMA, reader)
    items = [
        pair(SENTENCES[0], SENTENCES[2]),
        pair("  Two spaces first.", "naïve ½ ＡＢ 🙂"),
        item_of("The cat sees a dog.", " The dog likes it.", " A boat likes it."),
        Item("comps", 1, (Choice("The cat ", "sees it."), Choice("A boat ", "sees it."))),
        item_of("Box 0 holds", " the cat", " a boat", " one", ".", " nothing"),
    ]
    scores = scorer.score(encode(items, reader, "2025"))
    expected = [by_the_2025_pipeline(scorer.model, reader, *choice) for item in items for choice in item.choices]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_in_2025_a_first_token_counts_only_behind_a_bos(tokenizer: Any) -> None:
    [text, _] = encode([pair("One cat.", "x")], tokenizer, "2025")
    ids = tuple(tokenizer("One cat.")["input_ids"])
    assert text == Text(ids[:1], ids[1:])
    [text, _] = encode([pair("One cat.", "x")], with_special_tokens(tokenizer, "<s> $A </s>"), "2025")
    assert text == Text((1,), ids)


def test_in_2025_a_single_token_without_a_bos_scores_nothing(tokenizer: Any) -> None:
    scorer = make_scorer(tiny.GPT2, tokenizer)
    texts = encode([pair("a", "the cat")], tokenizer, "2025")
    check(scorer, [pair("a", "the cat")], texts, "task")
    assert scorer.score(texts)[0] == 0


def test_in_2025_a_tokenizer_must_say_where_its_tokens_stand() -> None:
    letters = Letters()
    letters.is_fast = False
    with pytest.raises(UserError, match="2025 protocol needs a tokenizer"):
        encode([pair("a", "b")], letters, "2025")


def test_spaces_at_the_end_of_a_context_belong_to_the_continuation() -> None:
    [text, _] = encode([item_of("ab ", " c", " d")], Letters())
    assert text == Text((ord("a"), ord("b")), (ord(" "), ord(" "), ord("c")))


@pytest.mark.parametrize(
    ("tokens", "prefix"), [((5, 7, 9), 5), ((None, 7, 9), 7), ((None, None, 9), 9), ((0, 7, 9), 0)]
)
def test_the_prefix_is_bos_else_eos_else_pad(tokens: tuple[int | None, ...], prefix: int) -> None:
    scorer = Scorer(tiny.model(tiny.GPT2), Letters(*tokens), "a model")
    assert scorer.prefix == prefix
    assert scorer.score([Text((), (6, 8))]) == pytest.approx(plain_log_prob(scorer.model, [prefix], [6, 8]), abs=1e-4)


def test_a_tokenizer_without_any_special_token_is_reported() -> None:
    with pytest.raises(UserError, match="no bos, eos or pad token"):
        Scorer(tiny.model(tiny.GPT2), Letters(), "a model").score([Text((), (6, 8))])


@of_each_architecture
def test_batches_order_and_company_do_not_matter(keys: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = make_scorer(keys, tokenizer)
    texts = encode([pair(good, bad) for good in SENTENCES for bad in SENTENCES], tokenizer)
    alone = np.array([scorer.score([text])[0] for text in texts])
    for batch_tokens in (1, 40, 10_000):
        np.testing.assert_allclose(scorer.score(texts, batch_tokens), alone, atol=1e-4)
    shuffled = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_allclose(scorer.score([texts[i] for i in shuffled]), alone[shuffled], atol=1e-4)
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", {"cpu": 3 * tiny.VOCABULARY})
    np.testing.assert_allclose(scorer.score(texts), alone, atol=1e-4)
    monkeypatch.setattr(scorer, "takes_trees", False)
    np.testing.assert_allclose(scorer.score(texts, 40), alone, atol=1e-4)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [2, 5, 11])
def test_threads_share_batches_and_change_nothing(tokenizer: Any, threads: Callable[[int], None], count: int) -> None:
    scorer = make_scorer(tiny.LLAMA, tokenizer)
    texts = encode([pair(good, bad) for good in SENTENCES for bad in SENTENCES], tokenizer)
    threads(1)
    alone = scorer.score(texts, 20)
    names: set[tuple[str, int]] = set()
    body = scorer.body

    def watched(tokens: torch.Tensor, **others: Any) -> torch.Tensor:
        names.add((threading.current_thread().name, torch.get_num_threads()))
        return body(tokens, **others)

    scorer.body = watched
    threads(count)
    np.testing.assert_allclose(scorer.score(texts, 20), alone, atol=1e-5)
    assert torch.get_num_threads() == count
    assert "MainThread" not in {name for name, _ in names}
    assert {inner for _, inner in names} == {1}


def test_a_failure_in_a_thread_is_the_callers(tokenizer: Any, threads: Callable[[int], None]) -> None:
    scorer = make_scorer(tiny.GPT2, tokenizer)
    with torch.no_grad():
        scorer.model.get_output_embeddings().weight[3] = float("nan")
    threads(4)
    with pytest.raises(UserError, match="not finite"):
        scorer.score([Text((), (5, 6)), Text((), (7, 8))], 1)
    assert torch.get_num_threads() == 4


def rows_through(layer: torch.nn.Module) -> list[int]:
    """Filled with the number of states of each call of the layer."""
    seen: list[int] = []
    layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].flatten(0, -2).shape[0]))
    return seen


@pytest.mark.parametrize("takes_trees", [True, False])
def test_equal_texts_are_scored_once_and_tie_exactly(tokenizer: Any, takes_trees: bool) -> None:
    scorer = make_scorer(tiny.GPT2, tokenizer)
    scorer.takes_trees = takes_trees
    seen = rows_through(scorer.model.get_output_embeddings())
    texts = [Text((), (5, 6, 7)), Text((), (8, 9)), Text((), (5, 6, 7)), Text((), (5, 6, 7))]
    scores = scorer.score(texts)
    # Of the trees' five tokens to be scored, two stand behind the same prefix.
    assert sum(seen) == (4 if takes_trees else 5)
    assert scores[0] == scores[2] == scores[3] != scores[1]


def test_a_common_beginning_goes_through_the_model_once(tokenizer: Any) -> None:
    scorer = make_scorer(tiny.LLAMA, tokenizer)
    seen = rows_through(scorer.model.model.layers[0])
    context = tuple(range(10, 30))
    texts = [Text(context, (5, 6, 7)), Text(context, (5, 8)), Text(context[:-1], (9, 5))]
    scores = scorer.score(texts)
    assert scorer.takes_trees
    assert sum(seen) == 20 + 2 + 1
    expected = [plain_log_prob(scorer.model, list(text.context), list(text.continuation)) for text in texts]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@of_each_architecture
def test_a_long_beginning_goes_through_the_model_once(keys: Any, tokenizer: Any) -> None:
    scorer = make_scorer(keys, tokenizer)
    seen = rows_through(scorer.model.get_output_embeddings())
    random = np.random.default_rng(0)
    context, *endings = (tuple(random.integers(4, tiny.VOCABULARY, size).tolist()) for size in (100, 3, 5, 4, 1))
    texts = [Text(context, ending) for ending in endings]
    calls: list[tuple[int, ...]] = []
    body = scorer.body
    scorer.body = lambda tokens, **others: calls.append(tuple(tokens.shape)) or body(tokens, **others)
    scores = scorer.score(texts)
    assert calls[-1] == (1, 100 + 2 + 4 + 3)
    assert sum(seen) == 1 + 2 + 4 + 3
    expected = [plain_log_prob(scorer.model, list(context), list(ending)) for ending in endings]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_only_scored_positions_reach_the_vocabulary_layer_in_chunks(tokenizer: Any) -> None:
    scorer = make_scorer(tiny.GPT2, tokenizer)
    seen = rows_through(scorer.model.get_output_embeddings())
    texts = [Text((5,) * 20, (6, 7)), Text((), (8,))]
    scorer.score(texts)
    assert sum(seen) == 3


def test_what_a_model_can_take_is_found_out_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for every text: it takes a look at all of the model's modules."""
    looks: list[Any] = []
    look = scoring.longest_input
    monkeypatch.setattr(scoring, "longest_input", lambda model: looks.append(model) or look(model))
    scorer = make_scorer(tiny.LLAMA, tokenizer)
    scorer.score([Text((), (5, number)) for number in range(6, 40)])
    found = len(looks)
    scorer.score([Text((), (number, 5)) for number in range(6, 40)])
    assert found == len(looks) < 4


def test_texts_of_all_lengths_are_scored_together(tokenizer: Any) -> None:
    scorer = make_scorer(tiny.GPT2, tokenizer)
    long = tuple(np.random.default_rng(0).integers(4, tiny.VOCABULARY, 200).tolist())
    texts = [Text((), long[:100]), Text((), long), Text(long[:90], long[90:95]), Text((), long[:1]), Text(long[:3], ())]
    expected = [plain_log_prob(scorer.model, list(text.context) or [BOS], list(text.continuation)) for text in texts]
    np.testing.assert_allclose(scorer.score(texts), expected, atol=1e-4, rtol=1e-6)
    assert scorer.score([Text((5,), ())]) == [0.0]


class Deaf(torch.nn.Module):
    """A model that takes the arguments named, and does as if it had not."""

    def __init__(self, model: Any, ignored: str) -> None:
        super().__init__()
        self.model, self.ignored = model, ignored
        self.config, self.device = model.config, model.device
        self.get_input_embeddings = model.get_input_embeddings

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, inputs: torch.Tensor, **arguments: Any) -> Any:
        if self.ignored == "refuses all" and len(arguments) > 1:
            raise TypeError("unexpected argument")
        return self.model(inputs, **{key: value for key, value in arguments.items() if key != self.ignored})


@pytest.mark.parametrize("ignored", ["attention_mask", "position_ids", "refuses all"])
@of_each_architecture
def test_a_model_that_cannot_take_trees_is_scored_without(keys: Any, ignored: str, tokenizer: Any) -> None:
    whole = make_scorer(keys, tokenizer)
    untrained = Scorer(Deaf(tiny.model(keys), ignored), tokenizer, "untrained")
    assert not untrained.takes_trees
    scorer = Scorer(Deaf(whole.model, ignored), tokenizer, "deaf")
    assert not scorer.takes_trees
    texts = encode([pair(SENTENCES[0], SENTENCES[1])], tokenizer)
    np.testing.assert_allclose(scorer.score(texts), whole.score(texts), atol=1e-4)


@pytest.mark.parametrize("window", [3, 40, 70])
def test_a_model_with_an_attention_window_is_scored_with_it(window: int, tokenizer: Any) -> None:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "attn_implementation": "eager"}
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, **heads}
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**shape, **tiny.TOKEN_IDS, sliding_window=window))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.ndim > 1 else 1)
    scorer = Scorer(model, tokenizer, "short-sighted")
    assert scorer.takes_trees == (window == 70)
    long = tuple(np.random.default_rng(0).integers(4, tiny.VOCABULARY, 120).tolist())
    texts = [Text((), long), Text((), long[:-1]), Text((), long[:3]), Text((), (*long[:2], 5))]
    expected = [plain_log_prob(model, [BOS], list(text.continuation)) for text in texts]
    np.testing.assert_allclose(scorer.score(texts), expected, atol=1e-4, rtol=1e-6)


@of_each_architecture
def test_a_loaded_model_has_the_scores_of_plain_layers(
    keys: Any, prepared_once: Path, tmp_path: Path, tokenizer: Any
) -> None:
    run = tiny.write_finished_run(tmp_path / "run", keys, prepared_once / "tokenizer")
    texts = encode([pair(good, bad) for good in SENTENCES for bad in SENTENCES], tokenizer)
    scorer = Scorer.load(run)
    assert any(isinstance(layer, PackedLinear) for layer in scorer.model.modules()) == is_onednn_usable(torch.float32)
    scores = scorer.score(texts)
    plain = AutoModelForCausalLM.from_pretrained(run)
    expected = [plain_log_prob(plain, [BOS], list(text.continuation)) for text in texts]
    np.testing.assert_allclose(scores, expected, atol=4e-5)
    np.testing.assert_array_equal(scorer.score(texts), scores)


def test_a_bf16_checkpoint_is_evaluated_in_float32(prepared_once: Path, tmp_path: Path, tokenizer: Any) -> None:
    run = tiny.write_finished_run(tmp_path / "run", tiny.LLAMA, prepared_once / "tokenizer")
    AutoModelForCausalLM.from_pretrained(run).to(torch.bfloat16).save_pretrained(run)
    stored = AutoModelForCausalLM.from_pretrained(run)
    assert stored.dtype == torch.bfloat16
    texts = encode([pair(SENTENCES[0], SENTENCES[1])], tokenizer)
    expected = [plain_log_prob(stored.float(), [BOS], list(text.continuation)) for text in texts]
    np.testing.assert_allclose(Scorer.load(run).score(texts), expected, atol=1e-4)


def test_a_model_that_caps_its_logits_is_scored_with_the_cap(tokenizer: Any) -> None:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "attn_implementation": "eager"}
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, **heads}
    config = Gemma2Config(**shape, **tiny.TOKEN_IDS, final_logit_softcapping=0.5)
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(50)
    texts = encode([pair(SENTENCES[0], SENTENCES[1])], tokenizer)
    expected = [plain_log_prob(model, [BOS], list(text.continuation)) for text in texts]
    np.testing.assert_allclose(Scorer(model, tokenizer, "capped").score(texts), expected, atol=1e-4)


def test_a_text_that_cannot_be_scored_is_named(tokenizer: Any) -> None:
    scorer = make_scorer(tiny.GPT2, tokenizer)
    items = [pair("One.", "Two."), dataclasses.replace(pair("One.", " a" * 300), line=17, subtask="long")]
    with pytest.raises(UserError, match=r"some_task/long, line 17: .* tokens, but a model has 256 positions"):
        check(scorer, items, encode(items, tokenizer), "some_task")
    with pytest.raises(UserError, match="some_task/pairs, line 1: .*nothing to score"):
        check(scorer, items, [Text((5, 6), ())] * 4, "some_task")
    with pytest.raises(UserError, match="ids beyond the model's 320"):
        check(scorer, items, [Text((), (tiny.VOCABULARY,))] * 4, "some_task")
    check(scorer, items[:1], encode(items[:1], tokenizer), "some_task")


def test_the_longest_input_a_model_has_positions_for_is_scored(tokenizer: Any) -> None:
    scorer = make_scorer(tiny.GPT2, tokenizer)
    items = [pair("x", "y")]
    longest = Text((), (5,) * 256)
    check(scorer, items, [longest, longest], "task")
    assert np.isfinite(scorer.score([longest])).all()
    with pytest.raises(UserError, match="257 tokens"):
        check(scorer, items, [longest, Text((), (5,) * 257)], "task")


def test_broken_weights_are_reported(tokenizer: Any) -> None:
    scorer = make_scorer(tiny.GPT2, tokenizer)
    with torch.no_grad():
        scorer.model.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        scorer.score([Text((), (5, 6))])


def test_code_that_comes_with_a_model_is_never_run(prepared_once: Path, tmp_path: Path) -> None:
    run = tiny.write_finished_run(tmp_path / "run", tiny.GPT2, prepared_once / "tokenizer")
    config = json.loads((run / "config.json").read_text())
    config |= {
        "model_type": "unheard_of",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    (run / "config.json").write_text(json.dumps(config))
    (run / "code.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    with pytest.raises(UserError, match="auto_map: the model needs code of its own"):
        Scorer.load(run)
    assert not (tmp_path / "executed").exists()


def test_a_log_gets_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(passed_on(range(100), [2] * 100, "task", "sentences")) == list(range(100))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("task: 200 of 200 sentences")
