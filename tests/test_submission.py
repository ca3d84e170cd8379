"""Submission files: read back by scorers of a few lines, as the challenge's own read them, and by those if there."""

import gzip
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from made_items import write_lines, write_pairs, write_reading
from shared_fixtures import Call

from palenka.cli import main
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.official.submission import _preference
from palenka.evaluation.protocols import PROTOCOLS

BLIMP = {
    "agreement": [
        ("The cat sees a dog.", "The cat see a dog."), ("Every child.", "Every childs."),
        ("A: Who?\nB: A cat.", "A: Who?\nB: A."),
    ],
    "order": [("A boat.", "A boat."), ("One farmer likes the river.", "Farmer one likes the river.")],
}  # fmt: skip
EWOK = [
    {"Context1": "The cat sees a dog.", "Context2": "It sees a boat.", "Target1": one, "Target2": other}
    for one, other in (("It is a cat.", "It is a boat."), ("It is a boat.", "It is a cat."))
]
WUGS = [{"sentences": f"The {one}ness.\tThe {one}ity.", "ratio": ratio} for one, ratio in (("wug", 0.2), ("dax", 0.7))]
BOXES = [
    {"input_prefix": "Box 1 contains", "numops": number, "options": [" a cat.", " a boat.", " it."]}
    for number in (0, 1)
]
COMPS = {"prefix_acceptable": "A dog", "prefix_unacceptable": "A boat", "property_phrase": "likes a child."}


@pytest.fixture
def items(tmp_path: Path) -> Path:
    root = tmp_path / "items"
    write_pairs(root / "blimp_filtered", BLIMP)
    write_lines(root / "ewok_filtered" / "social.jsonl", EWOK)
    write_lines(root / "wug_past_tense" / "wug_past_tense.jsonl", WUGS)
    write_lines(root / "entity_tracking" / "regular.jsonl", BOXES)
    write_lines(root / "comps" / "comps_base.jsonl", [COMPS])
    return root


@pytest.fixture
def submit(teacher: Path, items: Path, call: Call, tmp_path: Path) -> Callable[..., tuple[int, str, str, Path]]:
    """submit(form) calls the command; returns exit code, output, errors, and where it should have written."""

    def run(form: str, name: str = "out.json.gz") -> tuple[int, str, str, Path]:
        out = tmp_path / "submission" / name
        arguments = ["submission", "teacher", "--format", form, "--out", str(out), "--data", str(items)]
        return *call(main, arguments), out

    return run


def results(model: Path, form: str, task: str) -> dict[str, Any]:
    return json.loads((model / "evaluation" / ("" if form == "2024" else form) / f"{task}.json").read_text())


def share_right(predictions: list[dict[str, Any]], gold: list[str]) -> float:
    """As score_predictions.py counts: texts are compared without the spaces around them and in lower case."""
    assert len(predictions) == len(gold)
    pairs = zip((prediction["pred"] for prediction in predictions), gold, strict=True)
    return sum(one.strip().lower() == other.strip().lower() for one, other in pairs) / len(gold)


def test_2024_file(teacher: Path, items: Path, submit: Callable[..., tuple[int, str, str, Path]]) -> None:
    evaluate(["teacher"], items, ["blimp_filtered", "ewok_filtered"])
    code, shown, _, out = submit("2024")
    assert code == 0
    predictions = json.loads(gzip.decompress(out.read_bytes()))
    assert {name: set(of) for name, of in predictions.items()} == {
        "glue": set(), "blimp": {"agreement", "order"}, "blimp_supplement": set(), "ewok": {"social"},
    }  # fmt: skip
    for group, task in (("blimp", "blimp_filtered"), ("ewok", "ewok_filtered")):
        for name, found in results(teacher, "2024", task)["subtasks"].items():
            lines = [json.loads(line) for line in (items / task / f"{name}.jsonl").read_text().splitlines()]
            gold = [line["sentence_good" if group == "blimp" else "Target1"] for line in lines]
            given = predictions[group][name]["predictions"]
            assert [one["id"] for one in given] == [f"{name}_{number}" for number in range(len(gold))]
            assert all(one["pred"].startswith(" ") for one in given)
            assert share_right(given, gold) == pytest.approx(found["accuracy_ties_good"])
    assert predictions["blimp"]["order"]["predictions"][0]["pred"] == " A boat."
    for what in ("supplement_filtered: there is no folder", "blimp_filtered: 5 items, of 59,875", "GLUE"):
        assert what in shown
    first = out.read_bytes()
    submit("2024")
    assert out.read_bytes() == first


def test_2025_folders(teacher: Path, items: Path, submit: Callable[..., tuple[int, str, str, Path]]) -> None:
    evaluate(["teacher"], items, protocol="2025")
    code, shown, _, out = submit("2025", "results")
    assert code == 0 and "incomplete: milestones: --track strict-small or" in shown
    folder = out / "teacher" / "main" / "zero_shot" / "causal"
    found = {
        str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in folder.rglob("predictions.json")
    }
    assert found.keys() == {
        "blimp/blimp_filtered", "ewok/ewok_filtered", "wug_past/wug_past_tense", "entity_tracking/entity_tracking",
        "comps/comps",
    }  # fmt: skip
    gold = {name: [good for good, _ in pairs] for name, pairs in BLIMP.items()}
    blimp = results(teacher, "2025", "blimp_filtered")["subtasks"]
    for name, given in found["blimp/blimp_filtered"].items():
        assert share_right(given["predictions"], gold[name]) == pytest.approx(blimp[name]["accuracy_ties_good"])
    assert {one["pred"] for one in found["ewok/ewok_filtered"]["social"]["predictions"]} <= {
        " It is a cat.", " It is a boat.",
    }  # fmt: skip
    boxes = found["entity_tracking/entity_tracking"]
    assert [one["id"] for of in boxes.values() for one in of["predictions"]] == ["regular_0_ops_0", "regular_1_ops_0"]
    [comps] = found["comps/comps"]["base"]["predictions"]
    assert comps["pred"] in ("A dog likes a child.", "A boat likes a child.")
    [one, other] = found["wug_past/wug_past_tense"]["wug_past"]["predictions"]
    assert one["pred"] == WUGS[0]["sentences"].split("\t")[one["prob"] < 0.5]
    assert other["id"] == "wug_past_1"
    report = (folder / "blimp" / "blimp_filtered" / "best_temperature_report.txt").read_text()
    assert f"\norder: {100 * blimp['order']['accuracy_ties_good']:.2f}\n\n### AVERAGE ACCURACY\n" in report


def test_reading(teacher: Path, items: Path, submit: Callable[..., tuple[int, str, str, Path]]) -> None:
    """The surprisals are taken as they are."""
    write_reading(items / "reading", rows=40)
    evaluate(["teacher"], items, ["reading"], "2025")
    lines = (teacher / "evaluation" / "2025" / "reading.items.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    _, shown, _, out = submit("2025", "results")
    text = (out / "teacher" / "main" / "zero_shot" / "causal" / "reading" / "predictions.json").read_text()
    predictions = json.loads(text)["reading"]["predictions"]
    for number, (given, record) in enumerate(zip(predictions, records, strict=True)):
        assert (given["id"], given["pred"]) == (number, record["surprisal"])
        before = record["prev_surprisal"]
        assert math.isnan(given["prev_pred"]) if before is None else given["prev_pred"] == before
    assert math.isnan(predictions[0]["prev_pred"]) and not math.isnan(predictions[1]["prev_pred"])
    assert "reading: 80 items, of 1,726" in shown


def test_share_of_the_first() -> None:
    assert _preference([-50.0, -50.0 + math.log(3)]) == pytest.approx(0.25, rel=1e-5)
    assert _preference([-1000.0, -1018.0]) == 1


def test_what_cannot_be_submitted(
    teacher: Path, items: Path, submit: Callable[..., tuple[int, str, str, Path]]
) -> None:
    code, _, errors, out = submit("2024", "folder")
    assert code == 2 and "its name ends in .json.gz" in errors
    evaluate(["teacher"], items, ["ewok_filtered", "blimp_filtered"])
    code, _, errors, out = submit("2025", "results")
    assert code == 2 and "palenka evaluate teacher --protocol 2025" in errors and not out.exists()
    assert "; not evaluated: blimp_filtered, ewok_filtered, entity_tracking, wug_past_tense, comps; palenka" in errors
    assert all(name in errors for name in PROTOCOLS["2025"].tasks)
    write_lines(items / "blimp_filtered" / "order.jsonl", [{"sentence_good": "A cat.", "sentence_bad": "Cat a."}])
    code, shown, _, _ = submit("2024")
    assert code == 0 and "ewok_filtered" in shown.splitlines()[0]
    assert "blimp_filtered.json is of another version of the items" in shown
    config = teacher / "tokenizer_config.json"
    config.write_text(config.read_text() + "\n")
    code, _, errors, _ = submit("2024")
    assert code == 2 and "is of other weights, or another tokenizer" in errors


@pytest.fixture
def models(prepared: Path, runs_folder: Path, items: Path) -> Callable[..., None]:
    """models(name, …) makes runs of different weights, evaluated under both protocols."""

    def make(*names: str) -> None:
        for seed, name in enumerate(names):
            tiny.write_finished_run(runs_folder / name, tiny.LLAMA, prepared / "tokenizer", seed)
        for protocol in ("2024", "2025"):
            evaluate(names, items, ["ewok_filtered"], protocol)

    return make


@pytest.fixture
def submitted(items: Path, call: Call, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """submitted(model, form, out) calls the command, with `out` in the test's folder."""

    def run(model: str, form: str, out: str) -> tuple[int, str, str]:
        arguments = ["submission", model, "--format", form, "--out", str(tmp_path / out), "--data", str(items)]
        return call(main, arguments)

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_two_models_never_share_a_folder(
    models: Callable[..., None], submitted: Callable[..., tuple[int, str, str]], tmp_path: Path, runs_folder: Path
) -> None:
    names = ("X-L0.1-H0.1", "X-L0.1-H0.3", "a/X", "b/X", "a/X/revisions/chck_1M")
    folders = ("X-L0_1-H0_1/main", "X-L0_1-H0_3/main", "a-X/main", "b-X/main", "a-X/chck_1M")
    models(*names)
    for name, folder in zip(names, folders, strict=True):
        code, shown, _ = submitted(name, "2025", "results")
        assert code == 0 and f"--model_path_or_name {folder.split('/')[0]}" in shown
        assert folder.split("/")[0] == Path(folder.split("/")[0]).stem  # which the pipeline looks for
        predictions = tmp_path / "results" / folder / "zero_shot" / "causal" / "ewok" / "ewok_filtered"
        assert (predictions / "predictions.json").exists()
        source = json.loads((tmp_path / "results" / folder / "source.json").read_text())
        assert source["model"] == str(runs_folder / name)


@pytest.mark.slow
def test_another_models_submission_is_not_overwritten(
    models: Callable[..., None], submitted: Callable[..., tuple[int, str, str]], tmp_path: Path, runs_folder: Path
) -> None:
    models("X.1", "X_1")
    for form, out in (("2025", "results"), ("2024", "X.json.gz")):
        assert submitted("X.1", form, out)[0] == 0
        before = files(tmp_path)
        code, _, errors = submitted("X_1", form, out)
        assert code == 2 and f"holds the submission of {runs_folder / 'X.1'}" in errors
        assert files(tmp_path) == before
        assert submitted("X.1", form, out)[0] == 0  # its own may be written again
    for record in (tmp_path / "results" / "X_1" / "main" / "source.json", tmp_path / "X.json.gz.source.json"):
        record.unlink()
    for form, out in (("2025", "results"), ("2024", "X.json.gz")):
        code, _, errors = submitted("X.1", form, out)
        assert code == 2 and "source.json says of which model; nothing was overwritten" in errors


def test_what_the_pipeline_left_of_other_tasks_stays(
    models: Callable[..., None], submitted: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    models("X")
    folder = tmp_path / "results" / "X" / "main"
    theirs = (folder / "finetune" / "rte" / "predictions.json", folder / "zero_shot/causal/AoA_word/surprisal.json")
    for path in theirs:
        path.parent.mkdir(parents=True)
        path.write_text("theirs")
    assert submitted("X", "2025", "results")[0] == 0
    assert [path.read_text() for path in theirs] == ["theirs", "theirs"]


def checkout(year: str) -> tuple[Path, str]:
    if f"PALENKA_PIPELINE_{year}" not in os.environ:
        pytest.skip(f"PALENKA_PIPELINE_{year} names no checkout")
    python = os.environ.get(f"PALENKA_PIPELINE_{year}_PYTHON", sys.executable)
    return Path(os.environ[f"PALENKA_PIPELINE_{year}"]), python


def called(year: str, code: str, folder: Path) -> str:
    """What Python code prints that can import from the checkout."""
    path, python = checkout(year)
    environment = os.environ | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run([python, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.usefixtures("processes")
def test_their_scorer_of_2024_agrees(
    teacher: Path, items: Path, submit: Callable[..., tuple[int, str, str, Path]]
) -> None:
    checkout("2024")
    evaluate(["teacher"], items, ["blimp_filtered", "ewok_filtered"])
    out = submit("2024")[-1]
    code = f"""
import gzip, importlib, json, sys, types
for name in ("tabulate", "devbench", "devbench.comparison", "devbench.comparison.stats_helper"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["tabulate"].tabulate = None
from score_predictions import score_predictions
given = json.load(gzip.open({str(out)!r}, "rt"))
print(json.dumps({{task: score_predictions(given, task, folder) for task, folder in
    (("blimp", {str(items / "blimp_filtered")!r}), ("ewok", {str(items / "ewok_filtered")!r}))}}))
"""
    scores = json.loads(called("2024", code, items))
    for group, task in (("blimp", "blimp_filtered"), ("ewok", "ewok_filtered")):
        subtasks = results(teacher, "2024", task)["subtasks"]
        assert scores[group] == pytest.approx({name: of["accuracy_ties_good"] for name, of in subtasks.items()})


@pytest.mark.usefixtures("processes")
def test_their_collation_of_2025_agrees(
    teacher: Path, items: Path, submit: Callable[..., tuple[int, str, str, Path]]
) -> None:
    """Its checks of sizes are met by as many copies of an item as the official file has."""
    checkout("2025")
    evaluate(["teacher"], items, protocol="2025")
    out = submit("2025", "results")[-1]
    code = f"""
import json
from pathlib import Path
from evaluation_pipeline import collate_preds as theirs
folder = Path({str(out)!r}, "teacher", "main", "zero_shot", "causal")
theirs.FULL_SIZES |= {{"blimp": {{"agreement": 3, "order": 2}}, "wug_past": 2, "comps": {{"base": 1}},
    "entity_tracking": {{"regular_0_ops": 1, "regular_1_ops": 1}}, "ewok": {{"social": 2}}}}
data = Path({str(items)!r})
for task in ("blimp", "ewok", "wug_past", "entity_tracking", "comps"):
    [path] = (folder / task).glob("*/predictions.json")
    found = theirs._load_results(path)
    assert theirs._check_size(task, found, fast=False), task
blimp = theirs._load_results(folder / "blimp" / "blimp_filtered" / "predictions.json")
print(json.dumps(theirs._calculate_target_results(blimp, "blimp", data / "blimp_filtered")))
"""
    subtasks = results(teacher, "2025", "blimp_filtered")["subtasks"]
    expected = {name: of["accuracy_ties_good"] for name, of in subtasks.items()}
    assert json.loads(called("2025", code, items)) == pytest.approx(expected)
