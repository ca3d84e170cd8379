"""What models write: drawn as the formula says, the same each time, kept, shown as plain text."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from made_runs import write_json, write_run
from shared_fixtures import Call
from transformers import AutoModelForCausalLM, AutoTokenizer

from palenka import cli
from palenka.evaluation import samples
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.samples import PROMPTS, SEED, SETTINGS, TOKENS, continue_rows, draw, write_samples
from palenka.evaluation.scoring import Scorer
from palenka.report.page import page_content, render
from palenka.report.results import read_runs
from palenka.util.errors import UserError
from palenka.util.files import read_json


def test_a_draw_by_hand() -> None:
    probabilities = np.array([0.25, 0.0, 0.5, 0.25])
    assert [draw(probabilities, number) for number in (0.0, 0.2, 0.25, 0.7, 0.75, 1 - 1e-16)] == [0, 0, 2, 2, 3, 3]


def test_draws_are_as_frequent_as_they_are_probable() -> None:
    probabilities = np.random.default_rng(1).dirichlet(np.ones(7))
    drawn = [draw(probabilities, (number + 0.5) / 10_000) for number in range(10_000)]
    assert np.abs(np.bincount(drawn, minlength=7) / 10_000 - probabilities).max() <= 1e-4


@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA], ids=lambda keys: keys["architecture"])
def test_samples_are_those_of_one_token_after_another(prepared: Path, runs_folder: Path, keys: dict[str, Any]) -> None:
    """By transformers' own forward, one prompt at a time, and a sum that is taken by hand."""
    folder = tiny.write_finished_run(runs_folder / "model", keys, prepared / "tokenizer")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = []
    for place, prompt in enumerate(PROMPTS):
        numbers = np.random.default_rng([SEED, place]).random(TOKENS)
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        row = [tokenizer.bos_token_id, *ids]
        for number in numbers:
            with torch.no_grad():
                shares = model(torch.tensor([row])).logits[0, -1].double().softmax(0).tolist()
            total, token = shares[0], 0
            while total <= number:
                token += 1
                total += shares[token]
            row.append(token)
            if token == tokenizer.eos_token_id:
                break
        expected.append(tokenizer.decode(row[1 + len(ids) :], skip_special_tokens=True))
    found = write_samples(Scorer.load(folder))
    assert [sample["text"] for sample in found] == expected
    assert [sample["prompt"] for sample in found] == [*PROMPTS] and len(set(expected)) == len(PROMPTS)


class Counting:
    """Stands for a scorer whose model says 3, 4, 5, … after what it is shown, and then ends."""

    tokenizer = SimpleNamespace(eos_token_id=2)
    max_length: int | None = None

    def __init__(self, last: int) -> None:
        self.last, self.asked = last, []

    def predictions(self, rows: list[list[int]]) -> np.ndarray:
        self.asked.append(len(rows))
        return np.eye(20)[[row[-1] + 1 if row[-1] < self.last else 2 for row in rows]]


def continued(scorer: Counting, *rows: list[int], tokens: int = 10) -> list[list[int]]:
    return continue_rows(scorer, [*rows], [np.full(tokens, 0.5)] * len(rows))  # type: ignore[arg-type]


def test_a_sample_ends_where_the_model_ends_it_and_the_others_go_on() -> None:
    scorer = Counting(last=6)
    assert continued(scorer, [4], [1, 2, 3]) == [[4, 5, 6, 2], [1, 2, 3, 4, 5, 6, 2]]
    assert scorer.asked == [2, 2, 2, 1]


def test_a_sample_ends_at_the_last_place_of_its_model() -> None:
    scorer = Counting(last=15)
    scorer.max_length = 4
    assert continued(scorer, [3], [1, 2, 3, 4]) == [[3, 4, 5, 6, 7], [1, 2, 3, 4, 5]]
    scorer.max_length = None
    assert continued(scorer, [3], tokens=3) == [[3, 4, 5, 6]]


def test_what_was_written_is_kept_and_the_same_again(teacher: Path, call: Call) -> None:
    code, output, _ = call(cli.main, ["evaluate", "teacher", "--tasks", "samples"])
    path = teacher / "evaluation" / "samples.json"
    first = read_json(path)
    assert code == 0 and all(f"{prompt} |" in output for prompt in PROMPTS)
    assert {key: first["identity"][key] for key in SETTINGS} == SETTINGS

    def never(*arguments: Any) -> None:
        raise AssertionError("asked again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "continue_rows", never)
        evaluate(["teacher"], tasks=["samples"])
    write_json(path, first | {"samples": first["samples"][1:]})
    code, _, errors = call(cli.main, ["evaluate", "teacher", "--tasks", "samples"])
    assert "not a text for each of its prompts; measuring again" in errors
    assert read_json(path) == first


def test_a_model_that_learned_what_is_hidden_alone_writes_nothing(
    teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (teacher / "config.yaml").write_text("paradigm: masked\n", encoding="utf-8")
    with pytest.raises(UserError, match="samples: asked in the way mlm, a model predicts what is hidden"):
        evaluate(["teacher"], tasks=["samples"])
    tiny.write_finished_run(teacher.parent / "causal", tiny.LLAMA, teacher)
    evaluate(["teacher", "causal"], tasks=["samples"])
    assert f"{teacher}: no samples: a model predicts what is hidden" in capsys.readouterr().out
    assert (teacher.parent / "causal" / "evaluation" / "samples.json").exists()
    assert not (teacher / "evaluation" / "samples.json").exists()


def test_the_page_shows_samples_as_plain_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALENKA_RUNS", str(tmp_path))
    for name in ("writes", "hides", "not-asked"):
        write_run(tmp_path, name)
    result = tmp_path / "hides" / "result.json"
    write_json(result, json.loads(result.read_text(encoding="utf-8")) | {"paradigms": ["masked"]})
    written = [{"prompt": "", "text": " <b>Once</b>\nupon & a time", "ended": True},
               {"prompt": "It was", "text": " {{ 7 * 7 }}", "ended": False}]  # fmt: skip
    content = {"samples": written, "identity": {"prompts": ["", "It was"]}}
    write_json(tmp_path / "writes" / "evaluation" / "samples.json", content)
    runs = read_runs(["writes", "hides", "not-asked"])
    page = render(page_content(runs))
    assert "<blockquote> &lt;b&gt;Once&lt;/b&gt;\nupon &amp; a time</blockquote>" in page
    assert '<strong>It was</strong> {{ 7 * 7 }} <span class="cut">…</span>' in page
    assert "Without samples: hides (learned masked tokens alone, not the next one); not-asked (not asked)." in page
    write_json(tmp_path / "writes" / "evaluation" / "samples.json", content | {"samples": written[:1]})
    [problem] = read_runs(["writes"])[0].broken
    assert "not a text for each of its prompts (re-evaluate it)" in problem
    assert "What they write" not in render(page_content(read_runs(["hides"])))
