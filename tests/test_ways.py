"""Every way of asking against its formula in float64, one masked text at a time; and who is asked in which."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from made_items import PAIRS, write_pairs
from made_runs import made_result, write_evaluation
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

from palenka import paradigms
from palenka.data.tokenizer import load_tokenizer
from palenka.evaluation import scoring
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.items import Choice, Item
from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.official.checkout import Checkout
from palenka.evaluation.official.pipelines import evaluate_officially
from palenka.evaluation.official.submission import write_predictions
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.texts import Frame, Text, check_texts, encode, encode_masked, frame_of
from palenka.evaluation.ways import ways_of
from palenka.models.huggingface import quiet_transformers
from palenka.models.standalone import export_folder
from palenka.paradigms import Vocabulary
from palenka.paradigms._learned import learned
from palenka.report.compare import compare
from palenka.report.comparison import task_names
from palenka.report.results import read_evaluated
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json
from palenka.util.paths import ROOT

PLACE = "The cat sees a dog."
ITEMS = [
    Item("pair", 1, (Choice("", "The cat sees a dog."), Choice("", "The cat see a dog."))),
    Item("same", 1, (Choice("", "A boat."), Choice("", "A boat."))),
    Item("dialogue", 1, (Choice("", "A: Who likes it?\nB: Every farmer."), Choice("", "A: Who likes it?\nB: Rivers."))),
    Item("context", 1, (Choice(PLACE, " It likes a letter."), Choice(PLACE, " It paints."))),
    Item("prefix", 1, (Choice("A farmer ", "remembers naïve letters."), Choice("A river ", "carries a letter."))),
]
CHOICES = [choice for item in ITEMS for choice in item.choices]
WORDS = [
    "[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "the", "a", "cat", "##s", "see", "dog", "boat", "it", "like", "let",
    "##ter", "farm", "##er", "river", "every", "who", "b", ".", ":", "?", "paint", "carr", "##ies", "remember", "na",
    "##ive",
]  # fmt: skip
SHAPE = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 40, "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip
LTG_BERT = {
    "architecture": "ltg_bert", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2,
}  # fmt: skip
MASKED_KINDS: dict[str, dict[str, Any]] = {
    "bert": {}, "roberta": {}, "electra": {"embedding_size": 8}, "albert": {"embedding_size": 8},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "modernbert": {"local_attention": 8, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "convbert": {"embedding_size": 16},  # its convolution sees padding
}  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer(prepared_once: Path) -> Any:
    return load_tokenizer(prepared_once / "tokenizer")


def word_piece() -> PreTrainedTokenizerFast:
    """A tokenizer as BERT's is: parts of words, and [CLS] and [SEP] around each text."""
    backend = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", **names)


def write_masked_model(folder: Path, kind: str) -> Path:
    """A folder with an untrained masked language model of so many entries as WORDS, and its tokenizer."""
    torch.manual_seed(0)
    with quiet_transformers():
        config = AutoConfig.for_model(kind, **SHAPE | MASKED_KINDS[kind])
        AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    word_piece().save_pretrained(folder)
    named = read_json(folder / "tokenizer_config.json") | {"tokenizer_class": "PreTrainedTokenizerFast"}
    write_json(folder / "tokenizer_config.json", named)  # a name that transformers 4 knows, too
    return folder


def opinionated(keys: Any) -> Any:
    """An untrained model whose weights are large enough to have opinions."""
    model = tiny.model(keys).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.ndim > 1 else 1)
    return model


def log_p(model: Any, tokens: Sequence[int], place: int, token: int, all_see_all: bool) -> float:
    """log p of a token at a place of an input, in float64."""
    seen = {"attention_mask": torch.zeros(1, 1, len(tokens), len(tokens))} if all_see_all else {}
    with torch.inference_mode():
        logits = model(torch.tensor([tokens]), **seen).logits[0, place]
    return float(logits.double().log_softmax(-1)[token])


def plain_pll(
    model: Any, tokenizer: Any, text: str, start: int, before: int, distance: int, within_word: bool, foreign: bool
) -> float:
    """The sum over the tokens that end behind `start` letters, each masked by itself.

    Args:
        model: a language model.
        tokenizer: its.
        text: whole, with its context.
        start: letters of the context.
        before: tokens that are put before the text.
        distance: how many places before a token it is predicted.
        within_word: whether what follows of its word is masked with a token.
        foreign: whether the model sees all without being told.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    frame = frame_of(tokenizer)
    tokens, words = [*frame.before, *encoded["input_ids"], *frame.after], encoded.word_ids()
    total = 0.0
    for place, (_, end) in enumerate(encoded["offset_mapping"]):
        if end > start:
            shown = list(tokens)
            shown[before + place] = tokenizer.mask_token_id
            for later in range(place + 1, len(words)):
                if within_word and words[later] == words[place]:
                    shown[before + later] = tokenizer.mask_token_id
            total += log_p(model, shown, before + place - distance, tokens[before + place], not foreign)
    return total


def text_of(choice: Choice, protocol: str) -> str:
    return choice.context + choice.text if choice.context or protocol == "2025" else f" {choice.text}"


def start_of(choice: Choice, protocol: str) -> int:
    """Letters of the context; in 2024 spaces at its end belong to the text."""
    return len(choice.context if protocol == "2025" else choice.context.rstrip())


@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA, LTG_BERT], ids=["gpt2", "llama", "ltg_bert"])
@pytest.mark.parametrize("name", ["masked", "mntp"])
@pytest.mark.parametrize("within_word", [False, True])
@pytest.mark.parametrize("protocol", ["2024", "2025"])
def test_ways_by_their_formulas(keys: Any, tokenizer: Any, name: str, within_word: bool, protocol: str) -> None:
    model = opinionated(keys)
    paradigm = paradigms.of(paradigms.DOOR.read(name), Vocabulary.of(tokenizer))
    scorer = Scorer(model, tokenizer, "a model", paradigm)
    assert scorer.takes_padding and not scorer.sees_all_by_itself
    assert scorer.takes_places == (keys is LTG_BERT)
    texts = encode_masked(ITEMS, tokenizer, protocol, within_word)
    check_texts(ITEMS, texts, "task", scorer.limits)
    scores = scorer.score(texts, batch_tokens=64)
    expected = [
        plain_pll(
            model, tokenizer, text_of(choice, protocol), start_of(choice, protocol), 1,
            distance=name == "mntp", within_word=within_word, foreign=False,
        )
        for choice in CHOICES
    ]  # fmt: skip
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(scores) > 10 and scores[2] == scores[3]
    np.testing.assert_allclose(scorer.score(texts, batch_tokens=1), scores, atol=1e-4)


@pytest.mark.parametrize("kind", MASKED_KINDS)
def test_masked_models_of_any_architecture(tmp_path: Path, kind: str) -> None:
    folder = write_masked_model(tmp_path / kind, kind)
    [(name, scorer)] = Scorer.load_each(folder).items()
    assert name == "masked" and scorer.sees_all_by_itself and [way.name for way in ways_of(folder, [name])] == ["mlm"]
    assert scorer.takes_padding == (kind != "convbert")
    model, reader = AutoModelForMaskedLM.from_pretrained(folder).eval(), word_piece()
    for protocol in ("2024", "2025"):
        for within_word in (False, True):
            scores = scorer.score(encode_masked(ITEMS, reader, protocol, within_word), batch_tokens=100)
            expected = [
                plain_pll(
                    model, reader, text_of(choice, protocol), start_of(choice, protocol), 1, 0, within_word, True
                )
                for choice in CHOICES
            ]
            np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_what_stands_around_a_text(tokenizer: Any) -> None:
    assert frame_of(tokenizer) == Frame((1,), (2,))
    assert frame_of(word_piece()) == Frame((1,), (2,))
    bare = word_piece()
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing("[CLS] [CLS] $A", None, [("[CLS]", 1)])
    assert frame_of(bare) == Frame((1, 1), ())


def test_only_masked_positions_reach_the_head_and_equal_inputs_the_model_once(tokenizer: Any) -> None:
    model = tiny.model(tiny.GPT2)
    scorer = Scorer(
        model, tokenizer, "a model", paradigms.of(paradigms.DOOR.read("masked"), Vocabulary.of(tokenizer))
    )
    at_head: list[int] = []
    rows: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda _, inputs, __: at_head.append(inputs[0].shape[0]))
    body = scorer.body
    scorer.body = lambda tokens, **others: rows.append(len(tokens)) or body(tokens, **others)
    # They differ in one place, and look the same where that is masked.
    scorer.score([Text((), (5, 6, 7)), Text((), (5, 8, 7)), Text((), (5, 6, 7))])
    assert sum(rows) == sum(at_head) == 5


def test_batches_hold_inputs_of_one_length_where_padding_is_seen(tmp_path: Path) -> None:
    scorer = Scorer.load(write_masked_model(tmp_path / "convbert", "convbert"))
    shapes: list[tuple[int, ...]] = []
    body = scorer.body
    scorer.body = lambda tokens, **others: shapes.append(tuple(tokens.shape)) or body(tokens, **others)
    scorer.score([Text((), (5, 6, 7)), Text((), (5, 8))])
    assert sorted(shapes) == [(2, 4), (3, 5)]


def test_many_texts_are_taken_apart_a_few_at_a_time(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paradigm = paradigms.of(paradigms.DOOR.read("mntp"), Vocabulary.of(tokenizer))
    scorer = Scorer(opinionated(tiny.LLAMA), tokenizer, "a model", paradigm)
    texts = encode_masked(ITEMS, tokenizer)
    whole = scorer.score(texts)
    monkeypatch.setattr(scoring, "TEXTS_AT_ONCE", 2)
    np.testing.assert_allclose(scorer.score(texts), whole, atol=1e-4)


def test_a_text_with_what_stands_around_it_must_fit(tmp_path: Path) -> None:
    scorer = Scorer.load(write_masked_model(tmp_path / "roberta", "roberta"))
    assert scorer.max_length == 39, "RoBERTa counts positions from the one after its padding's"
    fits, longer = Text((), (5,) * 37), Text((), (5,) * 38)
    check_texts(ITEMS[:1], [fits, fits], "task", scorer.limits)
    assert np.isfinite(scorer.score([fits])).all()
    with pytest.raises(UserError, match="40 tokens, but .*roberta has 39 positions"):
        check_texts(ITEMS[:1], [fits, longer], "task", scorer.limits)


def test_a_tokenizer_that_cannot_begin_a_text_is_refused() -> None:
    reader = word_piece()
    reader.backend_tokenizer.post_processor = processors.TemplateProcessing("$A [SEP]", None, [("[SEP]", 2)])
    paradigm = paradigms.of(paradigms.DOOR.read("mntp"), Vocabulary.of(reader))
    with pytest.raises(UserError, match="no token to begin a text with"):
        Scorer(tiny.model(tiny.GPT2), reader, "a model", paradigm)


# Who is asked in which ways


LEARNED = {
    "causal": ["causal"],
    "masked": ["mlm"],
    "mntp": ["mntp"],
    "{name: mix, rows: {mntp: 1, causal: 1}}": ["mntp", "causal", "fused"],
    "{name: alternate, epochs: [{causal: 1}, {masked: 4}, {causal: 1}]}": ["causal", "mlm", "fused"],
    "{name: mix, rows: {masked: 1, mntp: 1}}": ["mlm", "mntp"],
}


@pytest.mark.parametrize(("section", "names"), LEARNED.items(), ids=LEARNED)
def test_a_model_is_asked_in_the_ways_that_it_learned(tmp_path: Path, section: str, names: list[str]) -> None:
    (tmp_path / "config.yaml").write_text(f"paradigm: {section}\n")
    paradigms_learned = learned(tmp_path).part_names
    ways = ways_of(tmp_path, paradigms_learned)
    assert [way.name for way in ways] == names
    assert [way.is_first for way in ways] == [True, *[False] * (len(names) - 1)]
    assert [way.folder for way in ways] == ["", *names[1:]]
    masked = [name for name in names if name in ("mlm", "mntp")]
    assert [way.name for way in ways_of(tmp_path, paradigms_learned, [f"{name}_within_word" for name in masked])] == [
        f"{name}_within_word" for name in masked
    ]
    with pytest.raises(UserError, match="cannot be asked in the way 'other'; what it learned is"):
        ways_of(tmp_path, paradigms_learned, ["other"])


@pytest.fixture
def items(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "items" / "blimp_filtered", {"agreement": PAIRS["agreement"]}).parent


@pytest.fixture
def mixed(prepared: Path, runs_folder: Path) -> Path:
    """A finished run that learned two paradigms."""
    run = tiny.write_finished_run(runs_folder / "mixed", tiny.LLAMA, prepared / "tokenizer")
    (run / "config.yaml").write_text(
        "name: mixed\nparadigm: {name: mix, rows: {mntp: 1, causal: 1}}\ndata: {name: tiny, seq_length: 16}\n"
    )
    return run


def scores_in(folder: Path) -> list[float]:
    lines = (folder / "blimp_filtered.items.jsonl").read_text().splitlines()
    return [score for line in lines for score in json.loads(line)["scores"]]


def test_results_of_ways_lie_apart_and_say_which_they_are(mixed: Path, items: Path, capsys: Any) -> None:
    evaluate(["mixed"], items, ["blimp_filtered", "cross_entropy"])
    shown, folder = capsys.readouterr().out, mixed / "evaluation"
    assert [f"asked in the way {way}" in shown for way in ("mntp", "fused", "causal")] == [True, True, False]
    found = {way: json.loads((folder / way / "blimp_filtered.json").read_text()) for way in ("", "causal", "fused")}
    assert [result.get("way") for result in found.values()] == ["mntp", None, "fused"]
    assert [result["identity"].get("way") for result in found.values()] == ["mntp", None, "fused"]
    np.testing.assert_allclose(
        np.add(scores_in(folder), scores_in(folder / "causal")), scores_in(folder / "fused"), rtol=1e-12
    )
    scorers = Scorer.load_each(mixed)
    read = [Item("agreement", line, tuple(Choice("", text) for text in pair)) for line, pair in
            enumerate(PAIRS["agreement"])]  # fmt: skip
    for way, texts in (("mntp", encode_masked(read, scorers["mntp"].tokenizer)),
                       ("causal", encode(read, scorers["causal"].tokenizer))):  # fmt: skip
        place = folder if way == "mntp" else folder / way
        np.testing.assert_allclose(scorers[way].score(texts), scores_in(place), atol=1e-4)
    losses = [json.loads((folder / way / "cross_entropy.json").read_text())["splits"]["dev"] for way in ("", "causal")]
    assert ["bits_per_byte" in split for split in losses] == [False, True]
    assert 0 < losses[0]["tokens"] < losses[1]["tokens"] / 4
    assert not (folder / "fused" / "cross_entropy.json").exists()

    before = {path: path.read_bytes() for path in folder.rglob("*.json*")}
    evaluate(["mixed"], items, ["blimp_filtered", "cross_entropy"])
    assert "measuring again" not in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.json*")} == before


def test_ways_are_chosen_by_name(mixed: Path, items: Path, capsys: Any) -> None:
    evaluate(["mixed"], items, ["blimp_filtered"], ways=["mntp_within_word"])
    assert [path.name for path in (mixed / "evaluation").iterdir()] == ["mntp_within_word"]
    with pytest.raises(UserError, match="in the way 'mlm'; what it learned is mntp, causal, fused, mntp_"):
        evaluate(["mixed"], items, ["blimp_filtered"], ways=["mlm"])
    with pytest.raises(UserError, match="asks in the way causal alone"):
        evaluate(["mixed"], items, ["blimp_filtered"], ways=["mntp"], scorer="minicons")


def test_a_masked_model_folder_is_evaluated(tmp_path: Path, items: Path, capsys: Any) -> None:
    folder = write_masked_model(tmp_path / "bert", "bert")
    evaluate([str(folder)], items, ["blimp_filtered"])
    assert "asked in the way mlm" in capsys.readouterr().out
    assert json.loads((folder / "evaluation" / "blimp_filtered.json").read_text())["n"] == 3


def test_reports_name_the_way_and_compare_each_with_itself(mixed: Path, items: Path, capsys: Any) -> None:
    evaluate(["mixed"], items, ["blimp_filtered", "cross_entropy"])
    (mixed / "result.json").unlink()  # which is not whole
    run = read_evaluated(mixed)
    names = ["blimp_filtered", "blimp_filtered (fused)", "blimp_filtered (mntp)"]
    assert task_names([run]) == sorted(run.outcomes) == names
    assert sorted(run.cross_entropy) == ["dev", "dev (mntp)"]
    outcomes = [run.outcomes[name]["agreement"].tolist() for name in names]
    found = [choice_outcome(scores_in(mixed / "evaluation" / way)) for way in ("causal", "fused", "")]
    assert outcomes == found
    capsys.readouterr()
    compare(["mixed"], ["mixed"], None, False, None, ways=("mntp", "causal"))
    shown = capsys.readouterr().out
    assert "(mntp)" in shown and "(causal)" in shown
    with pytest.raises(UserError, match="named 2 times"):
        compare(["mixed"], ["mixed"], None, False, None, ways=("mntp", "mntp"))
    with pytest.raises(UserError, match="named 2 times"):
        compare(["mixed"], ["mixed"], None, False, None)


def test_a_report_shows_the_ways_of_ones_own_paradigms(tmp_path: Path, items: Path) -> None:
    """Of a run that learned by three: results of each way lie apart, and all are read under their names."""
    result = made_result("mixed", False, 3.4, 64) | {"paradigms": ["mntp", "causal", "previous"]}
    write_json(tmp_path / "result.json", result)
    (tmp_path / "config.yaml").write_text("name: mixed\n")
    for way in ("", "causal", "fused", "previous"):
        said = {"": {"way": "mntp"}, "causal": {}}.get(way, {"way": way})
        write_evaluation(tmp_path, "pairs", {"only": [1.0, 0.0]}, protocol=way or "2024")
        path = tmp_path / "evaluation" / way / "pairs.json"
        write_json(path, read_json(path) | {"convention": "2024"} | said)
    named = ["pairs", "pairs (fused)", "pairs (mntp)", "pairs (previous)"]
    assert task_names([read_evaluated(tmp_path)]) == named


def test_a_comparison_names_the_ways_that_there_are(mixed: Path, items: Path) -> None:
    evaluate(["mixed"], items, ["blimp_filtered"])
    (mixed / "result.json").unlink()  # which is not whole
    with pytest.raises(UserError, match="mixed: has no results of the way 'mlm'; known: causal, fused, mntp"):
        compare(["mixed"], ["mixed"], None, False, None, ways=("mntp", "mlm"))


def choice_outcome(scores: list[float]) -> list[float]:
    return [(1 + np.sign(good - bad)) / 2 for good, bad in zip(scores[::2], scores[1::2], strict=True)]


# minicons, which scores masked models with transformers 4 only


@pytest.fixture(scope="module")
def python(processes: None) -> str:
    python = os.environ.get("PALENKA_TRANSFORMERS_4")
    if not python:
        pytest.skip("PALENKA_TRANSFORMERS_4 names no Python with transformers 4.51")
    return python


def by_minicons(python: str, requests: Sequence[dict[str, Any]]) -> list[list[float]]:
    options = {"batch_size": 3, "threads": 1, "clock": "perf_counter"}
    lines = "".join(json.dumps({**request, **options}) + "\n" for request in requests)
    ended = subprocess.run(
        [python, str(ROOT / "benchmarks" / "minicons_masked_scores.py")], input=lines, text=True, capture_output=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line)["scores"] for line in ended.stdout.splitlines()]


def test_minicons_says_the_same_item_by_item(python: str, tmp_path: Path, prepared: Path) -> None:
    folders = {kind: write_masked_model(tmp_path / kind, kind) for kind in ("bert", "roberta", "distilbert")}
    folders["llama"] = tiny.write_finished_run(tmp_path / "llama", tiny.LLAMA, prepared / "tokenizer")
    (folders["llama"] / "config.yaml").write_text("paradigm: {name: mix, rows: {masked: 1, mntp: 1}}\n")
    folders["ltg_bert"] = tiny.write_finished_run(tmp_path / "ltg_bert", LTG_BERT, prepared / "tokenizer")
    (folders["ltg_bert"] / "config.yaml").write_text("paradigm: masked\n")
    export_folder(folders["ltg_bert"], tmp_path / "with_code", with_code=True)
    requests, ours = [], []
    for kind, folder in folders.items():
        for name, scorer in Scorer.load_each(folder).items():
            for metric in ("original", "within_word_l2r"):
                texts = encode_masked(ITEMS, scorer.tokenizer, with_words=metric != "original")
                ours.append(scorer.score(texts))
                requests.append({
                    "model": str(tmp_path / "with_code" if kind == "ltg_bert" else folder), "choices": CHOICES,
                    "metric": metric, "distance": int(name == "mntp"),
                })  # fmt: skip
    for request, scores, theirs in zip(requests, ours, by_minicons(python, requests), strict=True):
        np.testing.assert_allclose(scores, theirs, atol=1e-4, err_msg=str(request))


# Official pipelines and submissions


@pytest.mark.parametrize(
    ("year", "ways", "words"),
    [
        ("2024", None, "2024 pipeline cannot ask in the way mntp, only causal"),
        ("2025", ["fused"], "2025 pipeline cannot ask in the way fused, only causal or mlm or mntp"),
        ("2025", None, "for mntp the pipeline loads a masked model"),
    ],
)
def test_what_a_pipeline_cannot_ask_is_refused_by_name(
    mixed: Path, items: Path, monkeypatch: pytest.MonkeyPatch, year: str, ways: list[str] | None, words: str
) -> None:
    monkeypatch.setattr(Checkout, "find", lambda *_: None)
    with pytest.raises(UserError, match=words):
        evaluate_officially(["mixed"], year, items, ways=ways)


def test_a_submission_is_of_a_way(mixed: Path, items: Path, tmp_path: Path) -> None:
    evaluate(["mixed"], items, ["blimp_filtered"], "2025")
    (mixed / "result.json").unlink()
    for way, folder in ((None, "mntp"), ("causal", "causal")):
        write_predictions(EvaluatedModel.find("mixed"), "2025", tmp_path / "out", items, way)
        found = read_json(tmp_path / "out/mixed/main/zero_shot" / folder / "blimp/blimp_filtered/predictions.json")
        assert len(found["agreement"]["predictions"]) == 3
    with pytest.raises(UserError, match="nothing is submitted of the way fused"):
        write_predictions(EvaluatedModel.find("mixed"), "2025", tmp_path / "out", items, "fused")
