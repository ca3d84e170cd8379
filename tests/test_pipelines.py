"""The official pipelines: how they are run and what is read from them; with stand-ins, and with the real ones if there.

A stand-in is a checkout of a few lines that writes what the real one would for scores that it makes up.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from made_items import write_lines, write_pairs, write_reading
from shared_fixtures import Call

from palenka.cli import main
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.official import checkout as checkouts
from palenka.evaluation.official.pipelines import PIPELINES, evaluate_officially
from palenka.evaluation.protocols import PROTOCOLS
from palenka.util.errors import UserError

PAIRS = {
    "agreement": [("The cat sees a dog.", "The cat see a dog."), ("A boat.", "A boat.")],
    "order": [("One farmer likes the river.", "Farmer one likes the river."), ("It rains.", "Rains it.")],
}
FAKE_2024 = """
import json, os, sys
import evaluate
assert evaluate.load("exact_match") is None
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert "--log_samples" in sys.argv and "dtype=float32" in options["--model_args"]
assert json.load(open("model/config.json")) and os.environ["HF_HUB_OFFLINE"] == "1"
results = {}
os.mkdir("results")
for name in options["--tasks"].split(","):
    stem = name.removeprefix("blimp_").removesuffix("_filtered")
    docs = [json.loads(line) for line in open(f"evaluation_data/blimp_filtered/{stem}.jsonl")]
    samples = []
    for number, doc in enumerate(docs):
        texts = doc["sentence_good"], doc["sentence_bad"]
        samples.append({
            "doc_id": number, "arguments": [["", " " + text] for text in texts],
            "resps": [[[-float(len(text)), False]] for text in texts],
        })
    json.dump(samples[::-1], open(f"results/{name}_results.jsonl", "w"))
    right = [len(doc["sentence_good"]) <= len(doc["sentence_bad"]) for doc in docs]
    results[name] = {"acc,none": sum(right) / len(right)}
json.dump({"results": results}, open("results/results.json", "w"))
print("scored")
"""
FAKE_2025 = """
import json, os, sys
from pathlib import Path
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
task, data = options["--task"], Path(options["--data_path"])
assert Path(options["--model_path_or_name"], "config.json").exists() and options["--backend"] == "causal"
folder = Path(options["--output_dir"], "model", "main", "zero_shot", "causal", task, data.stem)
folder.mkdir(parents=True)
predictions, right = {}, {}
for path in sorted(data.glob("*.jsonl"), reverse=True):
    for line in path.read_text().splitlines():
        doc = json.loads(line)
        if "sentences" in doc:
            name, texts = task, doc["sentences"].split("\\t")
        elif "options" in doc:
            name, texts = f"{path.stem}_{doc['numops']}_ops", doc["options"]
        elif "property_phrase" in doc:
            name = path.stem.removeprefix("comps_")
            texts = [f"{doc[key]} {doc['property_phrase']}" for key in ("prefix_acceptable", "prefix_unacceptable")]
        else:
            name, texts = path.stem, [doc["sentence_good"], doc["sentence_bad"]]
        chosen = min(texts, key=len)
        record = {"id": "", "pred": chosen} | ({"prob": len(texts[1]) / 100} if "sentences" in doc else {})
        predictions.setdefault(name, {"predictions": []})["predictions"].append(record)
        right.setdefault(name, []).append(chosen == texts[doc.get("label", 0)])
(folder / "predictions.json").write_text(json.dumps(predictions))
figures = {name: f"{100 * sum(of) / len(of):.2f}" for name, of in right.items()}
if "wug" in task:
    figures = {"avg": os.environ["RHO"]}
lines = "\\n".join(f"{name}: {figure}" for name, figure in figures.items())
average = sum(100 * sum(of) / len(of) for of in right.values()) / len(right)
report = f"### UID FIGURE\\n{lines}\\n\\n### AVERAGE FIGURE\\n{average:.2f}\\n"
(folder / "best_temperature_report.txt").write_text(report)
"""
FAKE_2026 = FAKE_2025.replace(
    '        if "sentences" in doc:\n',
    """        if any("nothing" in option for option in doc.get("options", ())):
            continue
        if "Context2" in doc:
            name, texts = doc["Domain"], [f"{doc[key]} {doc['Target1']}" for key in ("Context1", "Context2")]
        elif "prompt" in doc:
            name, texts = doc["example_id"], [" " + doc[f"solution{number}"] for number in range(2)]
        elif "sentences" in doc:
""",
)
FAKES = {
    "2024": ("lm_eval/__main__.py", FAKE_2024),
    "2025": ("evaluation_pipeline/sentence_zero_shot/run.py", FAKE_2025),
    "2026": ("strict/evaluation_pipeline/sentence_zero_shot/run.py", FAKE_2026),
}


@pytest.fixture
def items(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "items" / "blimp_filtered", PAIRS).parent


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: None) -> Callable[..., Path]:
    """stand_in(year, code) makes a checkout that the environment names; no interpreter is asked for packages."""
    found = {"versions": {"torch": "1"}, "device": "cpu"}
    monkeypatch.setattr(checkouts, "_probe", lambda pipeline, python: found)

    def make(year: str, code: str = "") -> Path:
        folder = tmp_path / f"checkout-{year}"
        path, usual = FAKES[year]
        for file, text in ((PIPELINES[year].marker, ""), (path, code or usual)):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        monkeypatch.setenv(f"PALENKA_PIPELINE_{year}", str(folder))
        return folder

    return make


def result(model: Path, year: str, task: str = "blimp_filtered") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    path = model / "evaluation" / f"pipeline-{year}" / f"{task}.json"
    records = map(json.loads, path.with_suffix(".items.jsonl").read_text().splitlines())
    return json.loads(path.read_text()), list(records)


def files(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_2024_scores_come_to_their_items(
    teacher: Path, items: Path, stand_in: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The samples are out of order, and a tie counts half here, though the pipeline's figure has it as right."""
    before = files(stand_in("2024"))
    evaluate_officially(["teacher"], "2024", items)
    found, records = result(teacher, "2024")
    assert [(record["subtask"], record["item"], record["scores"]) for record in records] == [
        ("agreement", 1, [-19.0, -18.0]), ("agreement", 2, [-7.0, -7.0]),
        ("order", 1, [-27.0, -27.0]), ("order", 2, [-9.0, -9.0]),
    ]  # fmt: skip
    assert {name: of["accuracy"] for name, of in found["subtasks"].items()} == {"agreement": 0.25, "order": 0.5}
    assert {name: of["accuracy_ties_good"] for name, of in found["subtasks"].items()} == {"agreement": 0.5, "order": 1}
    assert (found["accuracy"], found["n"], found["ties"], found["chance"]) == (0.375, 4, 3, 0.5)
    assert (found["convention"], found["subtasks"]["order"]["phenomenon"]) == ("pipeline-2024", "order")
    assert found["identity"]["packages"] == {"torch": "1"}
    shown = capsys.readouterr().out
    assert "37.50 ±" in shown and "(75.00)" in shown and "supplement_filtered, ewok_filtered" in shown
    assert (teacher / "evaluation" / "pipeline-2024" / "blimp_filtered.log").read_text() == "scored\n"
    assert files(Path(os.environ["PALENKA_PIPELINE_2024"])) == before


def test_2025_choices_come_to_their_items(teacher: Path, items: Path, stand_in: Callable[..., Path]) -> None:
    stand_in("2025")
    evaluate_officially(["teacher"], "2025", items)
    found, records = result(teacher, "2025")
    assert [(record["subtask"], record["item"], record["chosen"]) for record in records] == [
        ("agreement", 1, 1), ("agreement", 2, 0), ("order", 1, 0), ("order", 2, 0),
    ]  # fmt: skip
    assert {name: of["accuracy"] for name, of in found["subtasks"].items()} == {"agreement": 0.5, "order": 1}
    assert "ties" not in found and "ties" not in found["subtasks"]["order"]


def test_2025_other_shapes(
    teacher: Path, tmp_path: Path, stand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("2025")
    root = tmp_path / "others"
    boxes = [
        {"input_prefix": "Box 1 contains", "numops": operations, "options": options}
        for operations, options in ((1, [" it.", " a.", " them."]), (0, [" it.", " them."]), (1, [" a.", " it."]))
    ]
    write_lines(root / "entity_tracking" / "regular.jsonl", boxes)
    prefixes = {"prefix_acceptable": "A robin", "prefix_unacceptable": "A cat", "property_phrase": "can fly."}
    write_lines(root / "comps" / "comps_base.jsonl", [prefixes])
    words = [{"sentences": f"a\t{'b' * (1 + i)}", "ratio": ratio} for i, ratio in enumerate((0.1, 0.5, 0.4, 0.9))]
    write_lines(root / "wug_past_tense" / "wug_past_tense.jsonl", words)
    monkeypatch.setenv("RHO", "0.80")
    evaluate_officially(["teacher"], "2025", root, ["entity_tracking", "comps", "wug_past"])
    found, records = result(teacher, "2025", "entity_tracking")
    assert [record["chosen"] for record in records] == [1, 0, 0]
    assert {name: of["accuracy"] for name, of in found["subtasks"].items()} == {
        "regular_1_ops": 0.5,
        "regular_0_ops": 1,
    }
    assert result(teacher, "2025", "comps")[1] == [{"subtask": "base", "item": 1, "chosen": 1}]
    found, records = result(teacher, "2025", "wug_past_tense")
    assert found["scores"]["spearman"]["value"] == pytest.approx(0.8)
    assert records[3] == {"subtask": "wug_past_tense", "item": 4, "chosen": 0, "probability": 0.04}


def test_2026_shapes(teacher: Path, tmp_path: Path, stand_in: Callable[..., Path]) -> None:
    stand_in("2026")
    root = tmp_path / "others"
    boxes = [
        {"input_prefix": "Box 1 contains", "numops": 0, "options": options}
        for options in ([" nothing.", " it."], [" it.", " them."], [" them.", " it."])
    ]
    write_lines(root / "entity_tracking" / "ambiref.jsonl", boxes)
    contexts = [ewok("social", "Ann.", other) for other in ("Annabel.", "A.")]
    write_lines(root / "ewok_filtered" / "social.jsonl", contexts)
    piqa = [{"prompt": "To go,", "solution0": "run.", "solution1": "fly off.", "label": n, "example_id": f"en_{n}"}
            for n in (0, 1)]  # fmt: skip
    write_lines(root / "global_piqa_nonparallel" / "eng_latn.jsonl", piqa)
    evaluate_officially(["teacher"], "2026", root)
    found, records = result(teacher, "2026", "entity_tracking_filtered")
    assert [(record["item"], record["chosen"]) for record in records] == [(2, 0), (3, 1)]
    assert {name: of["accuracy"] for name, of in found["subtasks"].items()} == {"ambiref_0_ops": 0.5}
    assert [record["chosen"] for record in result(teacher, "2026", "ewok_filtered")[1]] == [0, 1]
    found, records = result(teacher, "2026", "global_piqa_nonparallel")
    assert ([record["chosen"] for record in records], found["accuracy"]) == ([0, 1], 0.5)


def test_equal_texts_of_2026_do_not_contradict(teacher: Path, items: Path, stand_in: Callable[..., Path]) -> None:
    """The pipeline draws between sentences that are the same, and counts one of them as right: nobody sees which."""
    stand_in("2026", FAKE_2026.replace("chosen == texts[", "texts[0] != texts[1] and chosen == texts["))
    evaluate_officially(["teacher"], "2026", items)
    assert result(teacher, "2026")[0]["subtasks"]["agreement"]["accuracy"] == 0.5
    stand_in("2025", FAKE_2025.replace("chosen == texts[", "texts[0] != texts[1] and chosen == texts["))
    with pytest.raises(UserError, match="contradicts itself"):
        evaluate_officially(["teacher"], "2025", items)


def ewok(domain: str, context: str, other: str) -> dict[str, str]:
    """An item with all that the pipelines read of one."""
    texts = {"Context1": context, "Context2": other, "Target1": "It is.", "Target2": "It is not."}
    return {"Domain": domain, **texts, "ContextType": "direct", "ContextDiff": "word", "TargetDiff": "word"}


def test_what_was_found_before_is_shown(teacher: Path, items: Path, stand_in: Callable[..., Path]) -> None:
    stand_in("2024")
    evaluate_officially(["teacher"], "2024", items)
    stand_in("2024", "raise SystemExit(3)")
    evaluate_officially(["teacher"], "2024", items)
    write_lines(items / "blimp_filtered" / "order.jsonl", [{"sentence_good": "One.", "sentence_bad": "Two."}])
    with pytest.raises(UserError, match="exit code 3"):
        evaluate_officially(["teacher"], "2024", items)


@pytest.mark.parametrize(
    ("year", "code", "message"),
    [
        ("2024", "print('one'); raise SystemExit('two')", r"exit code 1\. The end of .*\.log:\n    one\n    two"),
        ("2024", FAKE_2024.replace('" " + text', '" " + text.upper()'), "no scores for the texts of agreement, line 1"),
        ("2024", FAKE_2024.replace("enumerate(docs)", "enumerate(docs[:1])"), "no scores for .* agreement, line 2"),
        ("2024", FAKE_2024.replace("<= len", "< len"), "contradicts itself .*agreement: its own figure is 0.0"),
        ("2025", FAKE_2025.replace('"pred": chosen', '"pred": "?"'), "chose none of the texts of agreement, line 1"),
        ("2025", FAKE_2025.replace("100 * sum", "99 * sum"), "contradicts itself"),
        ("2026", FAKE_2026.replace("100 * sum", "99 * sum"), "contradicts itself"),
    ],
)  # fmt: skip
def test_a_pipeline_that_fails(
    year: str, code: str, message: str, teacher: Path, items: Path, stand_in: Callable[..., Path]
) -> None:
    stand_in(year, code)
    with pytest.raises(UserError, match=f"blimp_filtered: the {year} pipeline .*{message}"):
        evaluate_officially(["teacher"], year, items)
    assert not (teacher / "evaluation" / f"pipeline-{year}" / "blimp_filtered.json").exists()


def test_what_cannot_be_run(
    teacher: Path, items: Path, stand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, call: Call,
    tmp_path: Path,
) -> None:  # fmt: skip
    def refused(*options: Any) -> str:
        code, _, errors = call(main, ["evaluate", "teacher", "--pipeline", "2024", "--data", str(items), *options])
        assert code == 2
        return errors

    code, _, errors = call(main, ["evaluate", "teacher", "--checkout", str(tmp_path)])
    assert code == 2 and "belong to --pipeline" in errors
    monkeypatch.delenv("PALENKA_PIPELINE_2024", raising=False)
    assert "git clone https://github.com/babylm/evaluation-pipeline-2024" in refused()
    assert "not a checkout" in refused("--checkout", str(tmp_path))
    stand_in("2024")
    assert "no task 'comps'; it has blimp_filtered" in refused("--tasks", "comps")
    assert "no task 'ewok_filtered'" in refused("--tasks", "ewok_filtered")
    config = teacher / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "mine.Model"}}))
    assert "its own code" in refused()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "by one process" in refused()


@pytest.mark.usefixtures("processes")
def test_an_interpreter_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / PIPELINES["2025"].marker
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    with pytest.raises(UserError, match="not a working Python interpreter"):
        evaluate_officially(["none"], "2025", checkout=tmp_path, python=str(tmp_path / "python"))
    monkeypatch.setattr(
        checkouts, "PROBE", checkouts.PROBE.replace("version(name) for", "None if 'p' in name else '1' for")
    )
    with pytest.raises(UserError, match="-m pip install aiohttp scipy pandas"):
        evaluate_officially(["none"], "2025", checkout=tmp_path, python=sys.executable)


def write_real(root: Path, year: str) -> list[str]:
    """Items of the published shapes, of a few words of the tests' language, and which tasks they are.

    Some of BLiMP and its supplement, too, where the shared data is.
    """
    random = np.random.default_rng(0)

    def words(count: int) -> str:
        return " ".join(str(word) for word in random.choice([*tiny.NOUNS, *tiny.VERBS], count))

    def sentence() -> str:
        return f"The {words(int(random.integers(2, 7)))}."

    for path in Path(os.environ.get("PALENKA_SHARED_DATA", root / "none")).glob("[bs]*_filtered/*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()[:: 400 if path.parent.name == "blimp_filtered" else 100]
        write_lines(root / path.parent.name / path.name, map(json.loads, lines))
    known = {"transitive": "syntax", "adjunct_island": "syntax"}
    for name, field in known.items():
        labels = {"field": field, "UID": name, "linguistics_term": name}
        pairs = [{"sentence_good": sentence(), "sentence_bad": sentence(), **labels} for _ in range(12)]
        pairs.append(pairs[0] | {"sentence_bad": pairs[0]["sentence_good"]})
        write_lines(root / "blimp_filtered" / f"{name}.jsonl", pairs)
    if year == "2024":
        return ["blimp_filtered"]
    turns = [{f"sentence_{kind}": f"A: {sentence()}\nB: {sentence()}" for kind in ("good", "bad")} for _ in range(8)]
    write_lines(root / "supplement_filtered" / "made.jsonl", turns)
    for domain in ("social-relations", "spatial-relations"):
        texts = [[sentence() for _ in range(4)] for _ in range(9)]
        asked = [ewok(domain, *of[:2]) | {"Target1": of[2], "Target2": of[3]} for of in texts]
        write_lines(root / "ewok_filtered" / f"{domain}.jsonl", asked)
    for split in ("regular", "ambiref"):
        boxes = [
            {"input_prefix": f"Box 0 contains the {words(2)}, Box 1 contains", "numops": n % 3,
             "options": [f" {'nothing' if n % 4 == 3 and k == 2 else f'the {words(k % 2 + 1)}'}." for k in range(5)]}
            for n in range(13)
        ]  # fmt: skip
        write_lines(root / "entity_tracking" / f"{split}.jsonl", boxes)
    for name in ("comps_base", "comps_wugs_dist-in-between"):
        phrases = [{"prefix_acceptable": f"A {words(1)}", "prefix_unacceptable": f"Every {words(2)}",
                    "property_phrase": f"{words(2)}."} for _ in range(10)]  # fmt: skip
        write_lines(root / "comps" / f"{name}.jsonl", phrases)
    write_reading(root / "reading", 20, ("ELAN", "LAN", "N400", "P600", "EPNP", "PNP"))
    tasks = ["blimp_filtered", "supplement_filtered", "ewok_filtered", "entity_tracking", "comps", "reading"]
    if year == "2025":
        return tasks
    for kind, count in (("parallel", 4), ("nonparallel", 2)):
        solved = [
            {"prompt": f"To see {words(3)},", "label": n % count, "example_id": f"en_{n}"}
            | {f"solution{k}": f"{words(1 + (n + k) % 4)}." for k in range(count)}
            for n in range(11)
        ]
        write_lines(root / f"global_piqa_{kind}" / "eng_latn.jsonl", solved)
    return [*tasks, "global_piqa_parallel", "global_piqa_nonparallel"]


@pytest.mark.parametrize("year", ["2024", "2025", "2026"])
def test_the_real_pipeline_decides_as_we_do(
    year: str, prepared: Path, runs_folder: Path, tmp_path: Path
) -> None:
    """With PALENKA_PIPELINE_<year> set (and _PYTHON, where our interpreter lacks its packages)."""
    if f"PALENKA_PIPELINE_{year}" not in os.environ:
        pytest.skip(f"PALENKA_PIPELINE_{year} names no checkout")
    model = tiny.write_finished_run(runs_folder / "teacher", tiny.LLAMA, prepared / "tokenizer")
    before = files_and_times(Path(os.environ[f"PALENKA_PIPELINE_{year}"]))
    tasks = write_real(tmp_path / "real", year)
    evaluate_officially(["teacher"], year, tmp_path / "real", tasks)
    evaluate(["teacher"], tmp_path / "real", tasks, year)
    folder = model / "evaluation" / ("" if year == "2024" else year)
    for task in map(PROTOCOLS[year].task, tasks):
        _, theirs = result(model, year, task)
        ours = [json.loads(line) for line in (folder / f"{task}.items.jsonl").read_text().splitlines()]
        assert len(ours) == len(theirs) > 7
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    assert files_and_times(Path(os.environ[f"PALENKA_PIPELINE_{year}"])) == before


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """The same scores, or the same choice, or, where two scores differ by rounding, one of these."""
    if "surprisal" in ours:
        np.testing.assert_allclose(theirs["surprisal"], ours["surprisal"], rtol=1e-4)
    elif "scores" in theirs:
        np.testing.assert_allclose(theirs["scores"], ours["scores"], atol=1e-4)
    else:
        assert (theirs["subtask"], theirs["item"]) == (ours["subtask"], ours["item"])
        assert ours["scores"][theirs["chosen"]] >= max(ours["scores"]) - 1e-4


def files_and_times(folder: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime for path in folder.rglob("*")}
