"""The model card: front matter that the Hub's own classes read, with the values of the files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from made_runs import write_evaluation, write_run

from palenka.report.model_card import model_card, write_model_card
from palenka.util.errors import UserError
from palenka.util.files import write_json

OBJECTIVE = {"hard_target": {"weight": 1.0}, "logit": {"weight": 0.5}}


@pytest.fixture
def student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose text and teachers are no longer there."""
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PALENKA_RUNS", str(tmp_path / "no runs"))
    folder = write_run(tmp_path, "demo/student-kd", objective=OBJECTIVE)
    write_evaluation(folder, "blimp_filtered", {"x": [1.0, 1.0, 0.0, 0.5], "y": [1.0, 0.0, 0.0, 0.0]})
    return folder


def front_matter(folder: Path) -> dict[str, Any]:
    _, front, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front)


def test_front_matter_says_what_it_is(student: Path) -> None:
    write_model_card(student)
    front = front_matter(student)
    assert (front["language"], front["library_name"]) == ("en", "transformers")
    assert front["pipeline_tag"] == "text-generation"
    assert front["tags"] == ["babylm", "knowledge-distillation"]


def test_a_run_without_teachers_is_not_tagged_as_distilled(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "teacher")
    write_model_card(folder)
    assert front_matter(folder)["tags"] == ["babylm"]


def test_results_are_those_of_the_files(student: Path) -> None:
    write_model_card(student)
    stored = json.loads((student / "evaluation" / "blimp_filtered.json").read_text(encoding="utf-8"))
    dev = json.loads((student / "result.json").read_text(encoding="utf-8"))["dev"]
    (index,) = front_matter(student)["model-index"]
    values = {(e["dataset"]["type"], m["type"]): m["value"] for e in index["results"] for m in e["metrics"]}
    assert index["name"] == "demo/student-kd"
    assert values == {
        ("blimp_filtered", "accuracy"): stored["accuracy"],
        ("demo_dev", "cross_entropy"): dev["cross_entropy"],
        ("demo_dev", "bits_per_byte"): dev["bits_per_byte"],
    }


def test_masked_models_have_no_bits_per_byte(student: Path) -> None:
    result = json.loads((student / "result.json").read_text(encoding="utf-8"))
    result["dev"]["bits_per_byte"] = None
    (student / "result.json").write_text(json.dumps(result), encoding="utf-8")
    write_model_card(student)
    expected = f"Dev cross-entropy: {result['dev']['cross_entropy']:.3f} nats per token ({result['dev']['tokens']:,}"
    assert expected in (student / "README.md").read_text(encoding="utf-8")
    (index,) = front_matter(student)["model-index"]
    assert "bits_per_byte" not in {m["type"] for e in index["results"] for m in e["metrics"]}


def test_the_hub_reads_the_card(student: Path) -> None:
    write_model_card(student)
    card = ModelCard.load(student / "README.md")
    results = card.data.eval_results
    assert results is not None
    assert {(found.dataset_name, found.metric_type) for found in results} == {
        ("blimp_filtered", "accuracy"),
        ("demo dev", "cross_entropy"),
        ("demo dev", "bits_per_byte"),
    }


def test_the_text_states_size_objective_teachers_and_baselines(student: Path) -> None:
    write_model_card(student)
    text = (student / "README.md").read_text(encoding="utf-8")
    assert "311,296 parameters, 180,224 without embeddings" in text
    assert "1 × hard_target + 0.5 × logit" in text
    assert "`demo/teacher-gpt2`, `demo/teacher-llama`" in text
    assert "- words of text: at least 0; 1,312,345 seen in 4 epochs\n- BabyLM strict-small: not eligible: " in text
    assert "| blimp_filtered | 2024 | 43.75 |" in text
    assert "chance 50.00, word frequency 52.00, 5-gram 58.00" in text


def test_results_of_each_year_stand_side_by_side(student: Path) -> None:
    write_evaluation(student, "blimp_filtered", {"x": [1.0, 1.0, 1.0, 0.0]}, protocol="2026")
    write_evaluation(student, "comps", {"x": [1.0, 0.0]}, protocol="2026")
    write_model_card(student)
    text = (student / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\d+) \| ([\d.]+) \|", text, re.MULTILINE)
    assert rows == [
        ("blimp_filtered", "2024", "43.75"), ("blimp_filtered", "2026", "75.00"), ("comps", "2026", "50.00"),
    ]  # fmt: skip
    (index,) = front_matter(student)["model-index"]
    found = [(of["dataset"]["type"], of["dataset"].get("config")) for of in index["results"]]
    assert found[:3] == [
        ("blimp_filtered", "BabyLM 2024 protocol"), ("blimp_filtered", "BabyLM 2026 protocol"),
        ("comps", "BabyLM 2026 protocol"),
    ]  # fmt: skip


def test_what_was_seen_is_said_once(student: Path) -> None:
    write_model_card(student)
    text = (student / "README.md").read_text(encoding="utf-8")
    assert (text.count("1,312,345"), text.count("epochs")) == (1, 1)


def test_it_says_what_training_cost_and_what_is_not_known_of_it(student: Path) -> None:
    cost = {"student": 2e12, "teachers": 3e11, "trainings": {"a" * 64: {"name": "gpt2", "flops": 4e12}}}
    write_json(student / "cost.json", cost)
    whole = "products: 2.00e12; of its teachers' passes: 3.00e11; of its teachers' trainings: 4.00e12\n"
    assert whole in model_card(student)
    write_json(student / "cost.json", cost | {"unknown": {"llama": "it was not trained here"}})
    assert "; of its teachers' trainings: ≥ 4.00e12\n- " in model_card(student)
    write_json(student / "cost.json", {"student": 2e12, "teachers": 0})
    assert "- FLOPs of matrix products: 2.00e12\n- " in model_card(student)


def test_an_unfinished_run_has_a_card_without_results(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "student", objective=OBJECTIVE, finished=False)
    write_model_card(folder)
    assert "model-index" not in front_matter(folder)
    assert "not finished" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_folder_that_is_no_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.yaml"):
        write_model_card(tmp_path)


def learned_by(student: Path, *paradigms: str, **changes: Any) -> str:
    """The card of the student, if it had learned so."""
    result = json.loads((student / "result.json").read_text(encoding="utf-8")) | {"paradigms": paradigms} | changes
    (student / "result.json").write_text(json.dumps(result), encoding="utf-8")
    write_model_card(student)
    return (student / "README.md").read_text(encoding="utf-8")


def test_a_card_says_how_the_model_learned(student: Path) -> None:
    causal = learned_by(student, "causal")
    assert "An English causal language model (llama)" in causal and "it learned by" not in causal
    masked = learned_by(student, "masked")
    assert "An English masked language model (llama)" in masked and "it learned by masked." in masked
    assert front_matter(student)["pipeline_tag"] == "fill-mask"
    both = learned_by(student, "mntp", "causal")
    assert "causal and masked language model" in both and "the last, as with all runs" in both
    assert front_matter(student)["pipeline_tag"] == "text-generation"


def test_a_paradigm_of_ones_own_is_called_by_its_name(student: Path) -> None:
    path = student / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"paradigms": ["previous"]}), "utf-8")
    write_model_card(student)
    assert "An English previous language model" in (student / "README.md").read_text(encoding="utf-8")


def test_a_card_says_what_an_architecture_of_our_own_needs(student: Path) -> None:
    assert "make_known" not in learned_by(student, "causal")
    assert 'make_known("ltg_bert")' in learned_by(student, "masked", architecture="ltg_bert")
