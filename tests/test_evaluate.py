"""The whole of `evaluate`: what is read, what is written, what is shown, and what is not done twice."""

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import tiny
import torch
import yaml
from made_items import EWOK, write_lines, write_pairs, write_reading
from transformers import AutoModelForCausalLM

from palenka.cli import main
from palenka.data.tokens import TokenSplit
from palenka.evaluation import texts
from palenka.evaluation.cross_entropy import cross_entropy
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.items import Task
from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.tasks.choices import Choices, summary
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

ACCURACY = {"accuracy", "accuracy_ties_good", "stderr", "n", "ties"}


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """A folder of evaluation data with BLiMP and EWoK, and no supplement."""
    root = tmp_path / "items"
    write_pairs(root / "blimp_filtered", field="syntax")
    write_lines(root / "ewok_filtered" / "social.jsonl", EWOK)
    return root


@pytest.fixture
def run(data: Path, runs_folder: Path) -> Path:
    """A finished run `demo/student` on that data."""
    folder = tiny.write_finished_run(runs_folder / "demo" / "student", tiny.LLAMA, data / "tokenizer")
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"name": "tiny", "seq_length": 16}}))
    return folder


def result(run: Path, task: str) -> dict[str, Any]:
    return json.loads((run / "evaluation" / f"{task}.json").read_text())


def test_what_is_written(run: Path, items: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(["demo/student"], items)
    blimp = result(run, "blimp_filtered")
    others = {"task", "convention", "chance", "floors", "subtasks", "groups", "tie_items", "identity"}
    assert set(blimp) == ACCURACY | {"accuracy_per_token"} | others
    assert (blimp["task"], blimp["convention"], blimp["chance"]) == ("blimp_filtered", "2024", 0.5)
    assert (blimp["n"], blimp["ties"]) == (4, 1)
    assert set(blimp["floors"]) == {"zipf", "ngram"} and all(0 <= value <= 1 for value in blimp["floors"].values())
    assert blimp["tie_items"] == {"agreement": [2]}
    assert set(blimp["subtasks"]["order"]) == ACCURACY | {"accuracy_per_token", "phenomenon", "field"}
    assert blimp["subtasks"]["order"]["phenomenon"] == "order"
    lines = (run / "evaluation" / "blimp_filtered.items.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(record["subtask"], record["item"]) for record in records] == [
        ("agreement", 1), ("agreement", 2), ("agreement", 3), ("order", 1),
    ]  # fmt: skip
    scores = [record["scores"] for record in records]
    right = [(good > bad) + (good == bad) / 2 for good, bad in scores]
    assert blimp["accuracy"] == pytest.approx((np.mean(right[:3]) + right[3]) / 2)
    assert min(records[0]["tokens"]) > 0 and "The cat" not in json.dumps(records)
    assert blimp["groups"]["phenomenon"]["order"] == {key: blimp["subtasks"]["order"][key] for key in ACCURACY}
    assert blimp["groups"]["field"] == {"syntax": {key: blimp[key] for key in ACCURACY}}
    means = [np.array(record["scores"]) / record["tokens"] for record in records]
    right = [(good > bad) + (good == bad) / 2 for good, bad in means]
    assert blimp["accuracy_per_token"] == pytest.approx((np.mean(right[:3]) + right[3]) / 2)
    shown = capsys.readouterr().out
    assert re.search(r"skipped, no such folders in \S+: supplement_filtered", shown)
    for word in ("blimp_filtered", "ewok_filtered", "chance", "Zipf", "5-gram", "cross-entropy", "\ndev "):
        assert word in shown
    assert "\ntest " not in shown


def test_item_scores_are_the_models(run: Path, items: Path) -> None:
    evaluate(["demo/student"], items, ["ewok_filtered", "blimp_filtered"])
    scorer = Scorer.load(run)
    for task, context, text in (
        ("blimp_filtered", [scorer.tokenizer.bos_token_id], " The cat sees a dog."),
        ("ewok_filtered", scorer.tokenizer(EWOK[0]["Context1"])["input_ids"], " It is a cat."),
    ):
        record = json.loads((run / "evaluation" / f"{task}.items.jsonl").read_text().splitlines()[0])
        scored = scorer.tokenizer(text)["input_ids"]
        logits = scorer.model(torch.tensor([context + scored])).logits
        steps = logits.double().log_softmax(-1)[0, len(context) - 1 : -1]
        assert record["scores"][0] == pytest.approx(float(steps[range(len(scored)), scored].sum()), abs=1e-4)
        assert record["tokens"][0] == len(scored)


def test_nothing_is_done_twice(run: Path, items: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    evaluate(["demo/student"], items)
    first = capsys.readouterr().out
    loads: list[Path] = []
    load = Scorer.load_each
    monkeypatch.setattr(Scorer, "load_each", lambda folder: loads.append(folder) or load(folder))
    evaluate(["demo/student"], items)
    assert capsys.readouterr().out == first
    assert loads == []

    write_lines(items / "ewok_filtered" / "social.jsonl", EWOK[:1])
    evaluate(["demo/student"], items, ["ewok_filtered"])
    assert (len(loads), result(run, "ewok_filtered")["n"]) == (1, 1)

    model = AutoModelForCausalLM.from_pretrained(run)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(2)
    model.save_pretrained(run)
    before = result(run, "blimp_filtered")["identity"]
    evaluate(["demo/student"], items, ["blimp_filtered"])
    assert len(loads) == 2
    assert result(run, "blimp_filtered")["identity"] != before

    (run / "evaluation" / "blimp_filtered.items.jsonl").unlink()
    evaluate(["demo/student"], items, ["blimp_filtered"])
    assert (run / "evaluation" / "blimp_filtered.items.jsonl").exists()


def test_the_order_of_lines_and_files_changes_nothing(run: Path, items: Path) -> None:
    def scores() -> tuple[dict[str, Any], dict[str, list[list[float]]]]:
        evaluate(["demo/student"], items, ["blimp_filtered"])
        found = result(run, "blimp_filtered")
        lines = (run / "evaluation" / "blimp_filtered.items.jsonl").read_text().splitlines()
        by_subtask: dict[str, list[list[float]]] = {}
        for record in map(json.loads, lines):
            by_subtask.setdefault(record["subtask"], []).append(record["scores"])
        return found, {name: sorted(of_subtask) for name, of_subtask in by_subtask.items()}

    before, scored = scores()
    path = items / "blimp_filtered" / "agreement.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    path.rename(path.with_name("z-agreement.jsonl"))
    after, scored_again = scores()
    assert after["identity"] != before["identity"]
    for key in ACCURACY:
        assert after[key] == pytest.approx(before[key])
    assert after["tie_items"] == {"z-agreement": [2]}
    np.testing.assert_allclose(scored_again["z-agreement"], scored["agreement"], atol=1e-5)
    np.testing.assert_allclose(scored_again["order"], scored["order"], atol=1e-5)


def test_models_with_one_tokenizer_share_its_work(
    run: Path, items: Path, runs_folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "config.yaml").unlink()  # baselines make tokens, too
    tiny.write_finished_run(runs_folder / "demo" / "other", tiny.GPT2, data / "tokenizer")
    foreign = tiny.write_finished_run(runs_folder / "demo" / "foreign", tiny.GPT2, data / "tokenizer")
    settings = json.loads((foreign / "tokenizer_config.json").read_text())
    (foreign / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 99}))
    encoded: list[int] = []
    encode = texts.encode
    counting = lambda *arguments: encoded.append(len(encoded)) or encode(*arguments)  # noqa: E731
    monkeypatch.setattr("palenka.evaluation.evaluate.encode", counting)
    evaluate(["demo/student", "demo/other"], items, ["blimp_filtered"])
    assert len(encoded) == 1
    evaluate(["demo/foreign"], items, ["blimp_filtered"])
    assert len(encoded) == 2


def test_protocols_keep_results_apart(run: Path, items: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(["demo/student"], items, ["ewok_filtered"])
    first = result(run, "ewok_filtered")
    evaluate(["demo/student"], items, ["ewok_filtered"], "2025")
    assert result(run, "ewok_filtered") == first
    second = json.loads((run / "evaluation" / "2025" / "ewok_filtered.json").read_text())
    assert (first["convention"], second["convention"]) == ("2024", "2025")
    assert (run / "evaluation" / "2025" / "ewok_filtered.items.jsonl").exists()
    assert "2025 protocol" in capsys.readouterr().out


def test_five_choices(run: Path, items: Path) -> None:
    options = [f" a {noun}." for noun in ("cat", "dog", "boat", "river", "boat")]
    records = [{"input_prefix": "The cat sees", "options": options, "numops": numops} for numops in (0, 0, 1)]
    write_lines(items / "entity_tracking" / "regular.jsonl", records)
    evaluate(["demo/student"], items, ["entity_tracking"])
    found = result(run, "entity_tracking")
    assert (set(found["subtasks"]), found["chance"], found["n"]) == ({"regular_0_ops", "regular_1_ops"}, 0.2, 3)
    [first, *_] = (run / "evaluation" / "entity_tracking.items.jsonl").read_text().splitlines()
    scores = json.loads(first)["scores"]
    assert len(scores) == 5 and scores[2] == scores[4]
    assert found["accuracy"] == float(scores[0] == max(scores))


def test_preferences_for_made_up_words(run: Path, items: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forms = [f"The cat {verb}.\tEvery {noun} sees." for verb, noun in zip(tiny.VERBS, tiny.NOUNS, strict=False)]
    records = [{"sentences": both, "ratio": 0.1 * number} for number, both in enumerate(forms)]
    write_lines(items / "wug_adj_nominalization" / "wug_adj_nominalization.jsonl", records)
    evaluate(["demo/student"], items, ["wug_adj"])
    found = result(run, "wug_adj_nominalization")
    assert set(found) == {"task", "convention", "n", "scores", "identity"}
    lines = (run / "evaluation" / "wug_adj_nominalization.items.jsonl").read_text().splitlines()
    differences = [one - other for one, other in (json.loads(line)["scores"] for line in lines)]
    # Without ties, Spearman's is 1 - 6 sum d^2 / (n (n^2 - 1)) over the differences of ranks, here 0, 1, 2, ...
    ranks = np.argsort(np.argsort(differences))
    expected = 1 - 6 * ((ranks - np.arange(8)) ** 2).sum() / (8 * 63)
    assert found["scores"]["spearman"]["value"] == pytest.approx(expected)
    assert f"{100 * expected:.2f}" in capsys.readouterr().out


def test_reading_times(run: Path, items: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reading(items / "reading", rows=40)
    evaluate(["demo/student"], items, ["reading"], "2025")
    found = json.loads((run / "evaluation" / "2025" / "reading.json").read_text())
    assert (found["n"], set(found["scores"])) == (80, {"eye_tracking", "self_paced"})
    records = (run / "evaluation" / "2025" / "reading.items.jsonl").read_text().splitlines()
    assert len(records) == 80 and json.loads(records[0])["prev_surprisal"] is None
    assert "eye tracking" in capsys.readouterr().out


def test_details_show_phenomena_fields_and_subtasks(
    run: Path, items: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(details: bool) -> list[str]:
        evaluate(["demo/student"], items, ["blimp_filtered"], details=details)
        return [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]

    assert "agreement" not in rows(details=False)
    shown = rows(details=True)
    assert shown.count("agreement") == 2
    assert {"phenomena", "fields", "syntax", "subtasks"} <= set(shown)


@pytest.fixture
def hub(run: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The run stands for the repository owner/model; filled with the revisions asked for."""
    asked: list[str | None] = []

    def snapshot(
        repo_id: str, repo_type: str, revision: str | None, local_dir: Path, allow_patterns: list[str]
    ) -> Path:
        asked.append(revision)
        if (repo_id, repo_type) != ("owner/model", "model"):
            raise OSError("404 Client Error")
        for pattern in allow_patterns:
            for path in run.glob(pattern):
                local_dir.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, local_dir)
        return local_dir

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr("palenka.data.fetch.hub.check_hashes", lambda folder, **at: None)
    return asked


def test_a_model_of_the_hub_is_fetched_once(hub: list[str | None], items: Path, runs_folder: Path) -> None:
    for _ in range(2):
        evaluate(["hf:owner/model@chck_1M", "hf:owner/model"], items, ["blimp_filtered"])
    assert hub == ["chck_1M", None]
    folders = [runs_folder / "hub" / "owner" / name for name in ("model", "model@chck_1M")]
    assert result(folders[0], "blimp_filtered")["accuracy"] == result(folders[1], "blimp_filtered")["accuracy"]
    assert EvaluatedModel.find("hub/owner/model@chck_1M").folder == folders[1]


def test_of_a_repository_only_the_model_is_fetched(run: Path, hub: list[str | None], items: Path) -> None:
    for name in ("result.json", "notes.txt", "model_code.py", "pytorch_model.bin"):
        (run / name).write_text("{}")
    main(["evaluate", "hf:owner/model", "--data", str(items), "--tasks", "blimp_filtered"])
    fetched = {path.name for path in EvaluatedModel.find("hf:owner/model").folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "evaluation"} <= fetched
    assert not fetched & {"result.json", "notes.txt", "model_code.py", "pytorch_model.bin", "config.yaml"}


def test_a_result_without_a_config_is_no_run(run: Path, items: Path) -> None:
    (run / "result.json").write_text("{}")
    (run / "config.yaml").unlink()
    main(["evaluate", "demo/student", "--data", str(items), "--tasks", "blimp_filtered"])
    assert result(run, "blimp_filtered")["n"] == 4


def test_a_model_that_the_hub_lacks_is_said(hub: list[str | None], items: Path, runs_folder: Path) -> None:
    with pytest.raises(UserError, match="hf:owner/none: cannot be read from the Hugging Face Hub .*404"):
        evaluate(["hf:owner/none"], items)
    with pytest.raises(UserError, match="hf:/x: expected hf:owner/name"):
        evaluate(["hf:/x"], items)
    assert not (runs_folder / "hub" / "owner" / "none").exists()


def test_a_foreign_folder_has_no_baselines(run: Path, items: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "config.yaml").unlink()
    evaluate([str(run)], items)
    assert result(run, "blimp_filtered")["floors"] == {"zipf": None, "ngram": None}
    shown = capsys.readouterr().out
    assert "no simple baselines" in shown and "none" in shown
    assert not (run / "evaluation" / "cross_entropy.json").exists()


def test_baselines_come_when_their_data_does(run: Path, items: Path, data: Path) -> None:
    data.rename(data.parent / "elsewhere")
    evaluate(["demo/student"], items, ["blimp_filtered"])
    without = result(run, "blimp_filtered")
    (data.parent / "elsewhere").rename(data)
    evaluate(["demo/student"], items, ["blimp_filtered"])
    now = result(run, "blimp_filtered")
    assert without["floors"]["zipf"] is None and now["floors"]["zipf"] is not None
    assert {**now, "floors": None} == {**without, "floors": None}


def summarised(task: Task, scores: list[float]) -> dict[str, Any]:
    return summary(task, np.array(scores), np.ones(len(scores), np.int64))


def test_equal_scores_are_chance_and_an_oracle_is_perfect(items: Path) -> None:
    task = Choices.read(items / "blimp_filtered")
    blind = summarised(task, [0.0] * 8)
    assert (blind["accuracy"], blind["accuracy_ties_good"], blind["ties"], blind["chance"]) == (0.5, 1.0, 4, 0.5)
    assert blind["tie_items"] == {"agreement": [1, 2, 3], "order": [1]}
    oracle = summarised(task, [-1.0, -2.0] * 4)
    assert (oracle["accuracy"], oracle["accuracy_ties_good"], oracle["tie_items"]) == (1.0, 1.0, {})


def test_a_model_blind_to_contexts_is_at_chance_on_ewok_without_error(items: Path) -> None:
    task = Choices.read(items / "ewok_filtered")
    found = summarised(task, [float(len(choice.text)) for item in task.items for choice in item.choices])
    assert found["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"models": ["absent"]}, ["absent"]),
        ({"protocol": "2023"}, ["'2023'", "2024, 2025"]),
        ({"tasks": ["supplement_filtered"]}, ["no task 'supplement_filtered'", "looked for", "items"]),
    ],
)
def test_what_is_not_there_is_said(run: Path, items: Path, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        evaluate(**{"models": ["demo/student"], "data": items, **arguments})
    for word in words:
        assert word in str(error.value)
    assert not (run / "evaluation").exists()


def test_an_unfinished_run_and_missing_data_are_said(run: Path, items: Path, data: Path) -> None:
    shutil.rmtree(data)
    with pytest.raises(UserError, match="cannot measure cross_entropy: its data, 'tiny', is not prepared"):
        evaluate(["demo/student"], items, ["cross_entropy"])
    (run / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no \*.safetensors weights.*finished"):
        evaluate(["demo/student"], items)


@pytest.mark.slow
@pytest.mark.parametrize("bos", ["window", "none"])
def test_cross_entropy_by_the_plain_formula(run: Path, data: Path, bos: str) -> None:
    scorer = Scorer.load(run)
    split = TokenSplit.open(data / "dev")
    # Windows far longer than each domain: all of a domain is one sequence.
    length = 2 * int(max(domain.end - domain.start for domain in split.domains))
    scorer.model.config.max_position_embeddings = length
    measured = cross_entropy(scorer, data, {"seq_length": length, "bos": bos, "window_start": "line"})["dev"]
    assert set(measured["domains"]) == set(tiny.DOMAINS)
    nats = 0.0
    for domain in split.domains:
        tokens = split.tokens[domain.start : domain.end].astype(np.int64).tolist()
        inputs = [scorer.tokenizer.bos_token_id, *tokens] if bos == "window" else tokens
        steps = scorer.model(torch.tensor([inputs])).logits.double().log_softmax(-1)[0, :-1]
        mean = -float(steps[range(len(inputs) - 1), inputs[1:]].mean())
        found = measured["domains"][domain.name]
        assert found["cross_entropy"] == pytest.approx(mean, abs=1e-5)
        assert found["bits_per_byte"] == pytest.approx(mean * len(tokens) / math.log(2) / domain.bytes, abs=1e-5)
        assert (found["tokens"], found["words"], found["bytes"]) == (len(tokens), domain.words, domain.bytes)
        nats += mean * len(tokens)
    assert measured["cross_entropy"] == pytest.approx(nats / len(split.tokens), abs=1e-5)
    assert measured["tokens"] == len(split.tokens)


def test_cross_entropy_of_a_uniform_model_is_the_logarithm_of_its_vocabulary(run: Path, data: Path) -> None:
    scorer = Scorer.load(run)
    with torch.no_grad():
        scorer.model.get_output_embeddings().weight.zero_()
    scorer = Scorer(scorer.model, scorer.tokenizer, scorer.name)
    shutil.copytree(data / "dev", data / "test")
    tiny.change_prepared(data)
    measured = cross_entropy(scorer, data, {"seq_length": 16, "bos": "window", "window_start": "line"})
    assert measured["test"] == measured["dev"]
    assert measured["dev"]["cross_entropy"] == pytest.approx(math.log(scorer.model.config.vocab_size))


def test_windows_longer_than_the_model_are_refused(run: Path, items: Path) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"name": "tiny", "seq_length": 1024}}))
    with pytest.raises(UserError, match="data.seq_length is 1024, but the model has 256 positions"):
        evaluate(["demo/student"], items, ["cross_entropy"])


def test_a_config_that_moves_its_data_is_followed(run: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "moved" / "tiny")
    shutil.rmtree(data)
    config = {"data": {"name": "tiny"}, "paths": {"data": str(tmp_path / "moved"), "runs": None}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert EvaluatedModel.find("demo/student").prepared == tmp_path / "moved" / "tiny"


def stub(path: Path) -> None:
    """Something in place of Python that says how it is called."""
    path.parent.mkdir(parents=True)
    path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$0" "${PYTHONPATH%%:*}" "$@"\n')
    path.chmod(0o755)


@pytest.mark.parametrize("with_venv", [True, False])
@pytest.mark.parametrize(
    ("script", "tasks"),
    [
        ("eval-blimp", ["--tasks", "blimp_filtered,supplement_filtered"]),
        ("eval-ewok", ["--tasks", "ewok_filtered"]),
        ("eval-all", []),
    ],
)
@pytest.mark.usefixtures("processes")
def test_the_scripts_call_evaluate_from_any_folder(
    tmp_path: Path, script: str, tasks: list[str], with_venv: bool
) -> None:
    repository, elsewhere = tmp_path / "a repository", tmp_path / "else where"
    elsewhere.mkdir()
    shutil.copytree(ROOT / "scripts", repository / "scripts")
    python = repository / ".venv" / "bin" / "python" if with_venv else tmp_path / "bin" / "python3"
    stub(python)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = [repository / "scripts" / f"{script}.sh", "my model", "--data", "a b"]
    called = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)
    expected = [str(python), str(repository), "-m", "palenka", "evaluate", *tasks, "my model", "--data", "a b"]
    assert called.stdout.splitlines() == expected


@pytest.mark.usefixtures("processes")
def test_a_script_to_its_end(run: Path, items: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "my model", ignore=shutil.ignore_patterns("result.json"))
    environment = {**os.environ, "PALENKA_EVAL": str(items), "OMP_NUM_THREADS": "1"}
    subprocess.run([ROOT / "scripts" / "eval-all.sh", "my model"], cwd=tmp_path, env=environment, check=True)
    written = {file.stem for file in (tmp_path / "my model" / "evaluation").glob("*.json")}
    assert written == {"blimp_filtered", "ewok_filtered", "cross_entropy", "samples"}
