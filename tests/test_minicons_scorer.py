"""minicons as a second opinion: it says what our own scorer says, item by item, or it is not asked."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from made_items import PAIRS, write_pairs
from tokenizers.processors import TemplateProcessing

from palenka.data.tokenizer import load_tokenizer
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.items import Choice, Item
from palenka.evaluation.official.minicons_scorer import MiniconsScorer
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.tasks.choices import Choices
from palenka.evaluation.texts import encode
from palenka.util.errors import UserError

PLACE = "The cat sees a dog. The child is in the garden."
ITEMS = [
    Item("pair", 1, (Choice("", "The cat sees a dog."), Choice("", "The cat see a dog."))),
    Item("pair", 2, (Choice("", "A boat."), Choice("", "A boat."))),
    Item("dialogue", 1, (Choice("", "A: Who likes it?\nB: Every farmer."), Choice("", "A: Who likes it?\nB: River."))),
    Item("context", 1, (Choice(PLACE, " It likes a letter."), Choice(PLACE, " It paints."))),
    Item("options", 1, tuple(Choice("The window contains ", f"{what}.") for what in ("a cat", "one dog", "nothing"))),
    Item("prefixes", 1, (Choice("A farmer ", "carries a letter."), Choice("A river ", "carries a letter."))),
]


@pytest.fixture(params=["gpt2", "llama"])
def run(request: Any, prepared: Path, runs_folder: Path) -> Path:
    keys = {"gpt2": tiny.GPT2, "llama": tiny.LLAMA}[request.param]
    return tiny.write_finished_run(runs_folder / request.param, keys, prepared / "tokenizer")


def add_special_tokens(run: Path, form: str) -> None:
    """Make the tokenizer of a run add these tokens by itself."""
    tokenizer = load_tokenizer(run)
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=form, special_tokens=ids)
    tokenizer.save_pretrained(run)


@pytest.mark.parametrize("form", [None, "<s> $A", "<s> $A </s>"])
@pytest.mark.parametrize("protocol", ["2024", "2025"])
def test_minicons_agrees_item_by_item(run: Path, protocol: str, form: str | None) -> None:
    pytest.importorskip("minicons")
    if form:
        add_special_tokens(run, form)
    ours, minicons = Scorer.load(run), MiniconsScorer.load(run)
    texts = encode(ITEMS, ours.tokenizer, protocol)
    if protocol == "2025" and form == "<s> $A </s>":
        with pytest.raises(UserError, match="ends a text with a special token"):
            minicons.score_items(ITEMS, protocol)
        return
    scores, tokens = minicons.score_items(ITEMS, protocol, batch_size=3)
    np.testing.assert_allclose(scores, ours.score(texts), atol=1e-4)
    assert tokens.tolist() == [len(text.continuation) for text in texts]
    assert scores[2] == scores[3]


def test_a_text_longer_than_the_model_is_refused(run: Path) -> None:
    pytest.importorskip("minicons")
    long = Item("long", 1, (Choice("", "a " * 300), Choice("", "b")))
    with pytest.raises(UserError, match="256 positions"):
        MiniconsScorer.load(run).score_items([long])


def test_without_minicons_it_is_said_how_to_install_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minicons.scorer", None)
    with pytest.raises(UserError, match="pip install minicons"):
        MiniconsScorer.load(run)


@pytest.fixture
def items(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "items" / "blimp_filtered", {"agreement": PAIRS["agreement"]}).parent


def test_a_second_opinion_stands_beside_our_own_scores(run: Path, items: Path, capsys: Any) -> None:
    pytest.importorskip("minicons")
    evaluate([run.name], items, scorer="minicons")
    shown = capsys.readouterr().out
    assert "no scores of our own" in shown and "cross-entropy" not in shown
    assert not (run / "evaluation" / "blimp_filtered.json").exists()

    evaluate([run.name], items, ["blimp_filtered"])
    own = run / "evaluation" / "blimp_filtered.items.jsonl"
    before = own.read_bytes()
    capsys.readouterr()
    evaluate([run.name], items, scorer="minicons")
    shown = capsys.readouterr().out
    assert "scored by minicons" in shown and "0 of 3 decisions differ" in shown
    assert own.read_bytes() == before
    results = [json.loads((run / "evaluation" / name).read_text()) for name in (
        "blimp_filtered.json", "minicons/blimp_filtered.json",
    )]  # fmt: skip
    assert results[1]["identity"].pop("scorer") == "minicons"
    assert results[0] == results[1]

    # A difference is seen, and so is a decision.
    lines = [json.loads(line) for line in before.decode().splitlines()]
    lines[0]["scores"].reverse()
    own.write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluate([run.name], items, scorer="minicons")
    assert "blimp_filtered.json: damaged" in capsys.readouterr().out  # its items come to something else
    result = results[0] | Choices.read(items / "blimp_filtered").derive(lines)
    own.with_name("blimp_filtered.json").write_text(json.dumps(result))
    evaluate([run.name], items, scorer="minicons")
    apart = abs(lines[0]["scores"][0] - lines[0]["scores"][1])
    assert f"at most {apart:.1e}, 1 of 3 decisions differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scorer": "other"}, "palenka, minicons"),
        ({"tasks": ["cross_entropy"]}, "only choices"),
        ({"tasks": ["reading"]}, "only choices"),
    ],
)
def test_what_minicons_cannot_do_is_said(run: Path, items: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        evaluate([run.name], items, **{"scorer": "minicons", **options})
