"""Entries: folders that hold all that their year collects, and what is said of those that do not."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import glue_items
import pytest
import tiny
import yaml
from made_items import write_official
from made_runs import made_result
from shared_fixtures import Call

from palenka.cli import main
from palenka.data.published import FILES
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.protocols import PROTOCOLS, OfficialTask
from palenka.evaluation.results import write_records
from palenka.finetuning.results import figures, recipe_folder, records_of, result_path
from palenka.finetuning.tasks import TASKS
from palenka.models.folder import weights_sha256
from palenka.publish import entry
from palenka.runs.ledger import LEDGER, Ledger
from palenka.runs.milestones import TRACKS
from palenka.util.files import read_json, write_json
from palenka.util.paths import ROOT

pytestmark = pytest.mark.slow  # each evaluates a model on all that its year asks

MILESTONES = ("chck_1M", "chck_2M", "chck_10M")
FAST = ("blimp_fast", "supplement_fast", "ewok_fast", "entity_tracking_fast", "global_piqa_parallel",
        "global_piqa_nonparallel", "reading")  # fmt: skip
WHOLE = ("blimp_filtered", "supplement_filtered", "ewok_filtered", "entity_tracking", "comps", *FAST[-3:])
PLACES = {
    "main": {
        "blimp/blimp_filtered", "blimp/supplement_filtered", "ewok/ewok_filtered", "entity_tracking/entity_tracking",
        "comps/comps",
    },
    "chck": {"blimp/blimp_fast", "blimp/supplement_fast", "ewok/ewok_fast", "entity_tracking/entity_tracking_fast"},
    "both": {
        "global_piqa_parallel/global_piqa_parallel", "global_piqa_nonparallel/global_piqa_nonparallel", "reading",
    },
}  # fmt: skip
"""What the year's collate script looks for, below zero_shot/<way>."""


@pytest.fixture
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The years' tasks in small, which count as whole."""
    counts = {
        "blimp": 4, "supplement": 4, "ewok": 2, "comps": 1, "global_piqa_parallel": 1, "global_piqa_nonparallel": 1,
        "wug_adj_nominalization": 2, "wug_past_tense": 2, "reading": 80,
    }  # fmt: skip

    def small(year: str, tasks: Any) -> dict[str, OfficialTask]:
        here = counts | {"entity_tracking": 2 if year == "2025" else 1}  # one of two has an option of nothing
        sizes = {name: here[name.removesuffix("_filtered").removesuffix("_fast")] for name in tasks}
        return {name: task._replace(items=sizes[name]) for name, task in tasks.items()}

    for year in ("2025", "2026"):
        rules = PROTOCOLS[year]
        shrunk = replace(rules, tasks=small(year, rules.tasks), fast=small(year, rules.fast))
        monkeypatch.setitem(PROTOCOLS, year, shrunk)
    for task in FILES.keys() - {"glue_filtered"}:
        monkeypatch.delitem(FILES, task)
    monkeypatch.setitem(TRACKS, "strict-small", (10**6, 2 * 10**6, 10**7))
    root = write_official(tmp_path / "items")
    monkeypatch.setenv("PALENKA_EVAL", str(root))
    return root


@pytest.fixture
def run(prepared: Path, runs_folder: Path) -> Path:
    """A finished run with the milestones of its track."""
    folder = tiny.write_finished_run(runs_folder / "entry" / "s.1", tiny.LLAMA, prepared / "tokenizer")
    config = {"name": "entry/s.1", "model": dict(tiny.LLAMA), "data": {"name": "tiny", "seq_length": 16}, "seed": 1,
              "training": {"lr": 1e-3, "batch_size": 8, "num_epochs": 4}}  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_json(folder / LEDGER, asdict(Ledger({"a" * 64: {"name": "tiny/text", "words": 1234}})))
    result = made_result("entry/s.1", False, 3.0, 16) | {"weights_sha256": weights_sha256(folder)}
    write_json(folder / "result.json", result)
    cost = {"student": 1.2345e12, "teachers": 1e10, "trainings": {"b" * 64: {"name": "theirs", "flops": 3.3333e12}}}
    write_json(folder / "cost.json", cost)
    for seed, name in enumerate(MILESTONES, start=5):
        milestone = tiny.write_finished_run(folder / "revisions" / name, tiny.LLAMA, prepared / "tokenizer", seed)
        (milestone / "result.json").unlink()
    return folder


@pytest.fixture
def submit(call: Call, items: Path, run: Path, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """submit(*more) calls the command for the run's entry of 2026, into `results`."""
    command = ["submission", "entry/s.1", "--format", "2026", "--out", str(tmp_path / "results")]
    return lambda *more: call(main, [*command, *(more or ("--track", "strict-small"))])


@pytest.fixture
def scored(run: Path, items: Path) -> None:
    evaluate([str(run)], items, WHOLE, "2026")
    evaluate([str(run / "revisions" / name) for name in MILESTONES], items, FAST, "2026")


def predictions(folder: Path) -> dict[str, Any]:
    return {
        str(path.parent.relative_to(folder)): read_json(path) for path in sorted(folder.rglob("predictions.json"))
    }


@pytest.mark.usefixtures("scored")
def test_the_predictions_of_model_and_milestones(submit: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, shown, _ = submit()
    assert code == 0 and "--model_path_or_name entry-s_1 --backend causal --track strict-small --fast" in shown
    place = tmp_path / "results" / "entry-s_1"
    assert {path.name for path in place.iterdir() if path.is_dir()} == {"main", *MILESTONES}
    found = predictions(place / "main" / "zero_shot" / "causal")
    assert found.keys() == PLACES["main"] | PLACES["both"]
    for name in MILESTONES:
        of_milestone = predictions(place / name / "zero_shot" / "causal")
        assert of_milestone.keys() == PLACES["chck"] | PLACES["both"]
    [box] = found["entity_tracking/entity_tracking"]["regular_0_ops"]["predictions"]  # not that of nothing
    assert box["id"] == "regular_0_ops_0" and box["pred"] in (" a cat.", " a boat.", " it.")
    ewok = found["ewok/ewok_filtered"]["social"]["predictions"]
    assert [one["pred"].split(". ")[1] for one in ewok] == ["It is a cat.", "It is a boat."]
    assert read_json(place / "main" / "source.json")["ties_seed"] == 0


@pytest.mark.usefixtures("scored")
def test_ties_are_drawn_by_the_recorded_seed(submit: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """Two choices of equal text tie; the file holds the same one however often it is written."""
    submit()
    first = {path: path.read_bytes() for path in (tmp_path / "results").rglob("predictions.json")}
    submit()
    assert first == {path: path.read_bytes() for path in (tmp_path / "results").rglob("predictions.json")}


@pytest.mark.usefixtures("scored")
def test_what_is_missing_is_named(
    submit: Callable[..., tuple[int, str, str]], run: Path, items: Path, tmp_path: Path
) -> None:
    (run / "revisions" / "chck_2M").rename(run / "elsewhere")
    (run / "evaluation" / "2026" / "comps.json").unlink()
    (items / "ewok_filtered").rename(items / "elsewhere")
    (run / "revisions" / "chck_10M" / "evaluation" / "2026" / "ewok_fast.json").unlink()
    code, shown, _ = submit()
    record = read_json(tmp_path / "results" / "entry-s_1" / "submission.json")
    assert code == 0 and not record["complete"] and "\n  complete" not in shown
    named = "\n".join(record["missing"])
    absent = "main: not evaluated: comps; palenka evaluate entry/s.1 --protocol 2026 does", \
        "milestones: there is no chck_2M in", "chck_10M: not evaluated: ewok_fast; palenka evaluate entry/s.1"
    for what in absent:
        assert what in named and f"  incomplete: {what}" in shown
    gated = f"main: ewok_filtered: there is no folder {items / 'ewok_filtered'} (EWoK is for those who accept its terms"
    assert gated in named and "palenka download ewok fetches it" in named
    for seen in ("chck_1M:", "main: blimp"):
        assert seen not in named


def test_what_all_milestones_lack_is_said_once(
    submit: Callable[..., tuple[int, str, str]], run: Path, items: Path, tmp_path: Path
) -> None:
    code, _, error = submit()
    unasked = ", ".join(PROTOCOLS["2026"].tasks)
    assert (code, f"nothing to submit: not evaluated: {unasked}; palenka evaluate" in error) == (2, True), error
    evaluate([str(run)], items, ["comps"], "2026")
    submit()
    missing = read_json(tmp_path / "results" / "entry-s_1" / "submission.json")["missing"]
    others = ", ".join(name for name in PROTOCOLS["2026"].tasks if name != "comps")
    fast = ", ".join(PROTOCOLS["2026"].fast)
    glue = "boolq, mnli, mrpc, multirc, qqp, rte, wsc"
    command = f"palenka finetune {run} --recipe config/finetuning/2026.yaml --seeds 0"
    first, second, third, last = missing
    assert first == f"main: not evaluated: {others}; palenka evaluate entry/s.1 --protocol 2026 does that"
    assert second == f"GLUE: no predictions of {glue}; {command} makes them"
    assert third.startswith("ages of acquisition: ")
    milestones = ", ".join(MILESTONES)
    assert last == f"{milestones}: not evaluated: {fast}; palenka evaluate entry/s.1 --protocol 2026 --fast does that"
    form = (tmp_path / "results" / "entry-s_1" / "submission.md").read_text()
    assert form.index("| layers | 2 |") < form.index("## To be filled in") < form.index(f"- {last}\n")


@pytest.mark.usefixtures("scored")
def test_each_file_is_counted(submit: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "blimp_filtered", {"agreement": 2, "order": 2})
    counts = "agreement.jsonl has 3 lines, not 2; order.jsonl has 1 lines, not 2"
    assert f"incomplete: main: blimp_filtered: 4 items, of 4 ({counts})\n" in submit()[1]


@pytest.mark.usefixtures("scored")
def test_a_milestone_that_is_submitted_by_itself_leaves_the_run_s(
    submit: Callable[..., tuple[int, str, str]], run: Path, items: Path, tmp_path: Path, call: Call
) -> None:
    milestone = run / "revisions" / "chck_1M"
    evaluate([str(milestone)], items, ["comps"], "2026")
    for folder, answer in ((run, 1), (milestone, 0)):
        path = result_path(recipe_folder(folder, "2026"), "rte", 0)
        records = records_of(TASKS["rte"], [0, 1], [answer, answer])
        write_records(path, records)
        about = {"task": "rte", "seed": 0, "recipe_tasks": ["rte"], "truncated": 0, "epoch": 1, "selection": "train",
                 "identity": {"model": EvaluatedModel.find(str(folder)).fingerprint}}  # fmt: skip
        write_json(path, about | figures(TASKS["rte"], records))
    submit()
    place = tmp_path / "results" / "entry-s_1"
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    command = ["submission", str(milestone), "--format", "2026", "--out", str(tmp_path / "results")]
    assert call(main, command)[0] == 0
    assert before == {path: path.read_bytes() for path in before}
    for name, answer in (("main", 1), ("chck_1M", 0)):
        answers = read_json(place / name / "finetune" / "rte" / "predictions.json")["rte"]["predictions"]
        assert [one["pred"] for one in answers] == [answer, answer]


@pytest.mark.usefixtures("scored")
def test_without_a_track_nothing_is_complete(submit: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    _, shown, _ = submit("--way", "causal")
    assert "incomplete: milestones: --track strict-small or --track strict says which are wanted" in shown
    assert not read_json(tmp_path / "results" / "entry-s_1" / "submission.json")["complete"]


@pytest.mark.usefixtures("scored")
def test_the_years_never_share_a_folder(
    submit: Callable[..., tuple[int, str, str]], run: Path, items: Path, tmp_path: Path, call: Call
) -> None:
    submit()
    evaluate([str(run)], items, ["ewok_filtered"], "2025")
    command = ["submission", "entry/s.1", "--format", "2025", "--out", str(tmp_path / "results")]
    before = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}
    code, _, error = call(main, command)
    assert code == 2 and "holds a submission of 2026, whose rules differ from those of 2025" in error
    assert before == {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}


@pytest.mark.usefixtures("scored")
def test_the_form_has_what_the_run_knows(submit: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    submit()
    place = tmp_path / "results" / "entry-s_1"
    form = read_json(place / "submission.json")["form"]
    known = {
        "model": "entry/s.1", "track": "strict-small", "model type": "causal", "architecture": "llama", "layers": 2,
        "attention heads": 2, "vocabulary size": 320, "maximum length": 16, "learning rate": 1e-3, "batch size": 8,
        "epochs": 4.0, "seed": 1, "words of training data": 1234, "words seen": 1_312_345, "teacher models": "none",
        "training data": ["tiny/text"], "optimizer": "adamw", "learning rate scheduler": "cosine",
        "FLOPs of training": 1.24e12, "FLOPs of its teachers' trainings": "none",
    }  # fmt: skip
    assert {name: form[name] for name in known} == known
    text = (place / "submission.md").read_text()
    assert "**Incomplete**" in text and "| words of training data | 1,234 |" in text and "| FLOPs of training |" in text
    assert "## To be filled in" in text and "- GPU hours of development: " in text and form["human annotation"] is None
    assert json.dumps(form)


@pytest.mark.usefixtures("scored")
def test_what_a_run_cost_is_left_to_its_author_where_it_is_not_known(
    submit: Callable[..., tuple[int, str, str]], run: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    objective = {"hard_target": {"weight": 0.5}, "logit": {"weight": 0.5, "temperature": 2.0}}
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"teachers": [{"run": "theirs"}], "objective": objective}))
    form = tmp_path / "results" / "entry-s_1" / "submission.md"
    submit()
    assert "| FLOPs of its teachers' trainings | 3.33e12 |" in form.read_text()
    assert "| objective | 0.5 × hard_target + 0.5 × logit at T = 2 |" in form.read_text()
    write_json(run / "cost.json", {"student": 1e12, "teachers": 0, "unknown": {"theirs": "it was not trained here"}})
    submit()
    text = form.read_text()
    assert "| FLOPs of training | 1.00e12 |" in text and "- FLOPs of its teachers' trainings: " in text


# The page, and the year's own script


PAGE = ROOT / "docs" / "submission.md"
COLLATE = "--results_dir submissions --model_path_or_name entry-student --backend causal --track strict-small --fast"
ELSEWHERE = {"2025": "elsewhere", "2026": ""}
"""Where results are to lie: in the run's folder, or in one beside."""
GLUE = ("boolq", "mnli", "mrpc", "multirc", "qqp", "rte", "wsc")
WORDS = {"dog": ["the cat sees a", "this boat likes every"], "boat": ["one farmer likes the"], "river": ["every"]}


def write_words(folder: Path) -> None:
    """The task `aoa`: words in contexts, and the share of children who say them at each age."""
    folder.mkdir()
    contexts = {word: [{"context": text} for text in texts] for word, texts in WORDS.items()}
    (folder / "cdi_childes.json").write_text(json.dumps(contexts))
    months = range(16, 31)
    lines = [",".join(["item_id", "word", "category", *map(str, months)])]
    for number, word in enumerate(WORDS):
        shares = [f"{1 / (1 + math.exp(20 + number - month)):.4f}" for month in months]
        lines.append(",".join([str(number), word, "animals", *shares]))
    (folder / "cdi_human.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(params=ELSEWHERE)
def year(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def checkout(year: str) -> Path:
    if f"PALENKA_PIPELINE_{year}" not in os.environ:
        pytest.skip(f"PALENKA_PIPELINE_{year} names no checkout")
    return Path(os.environ[f"PALENKA_PIPELINE_{year}"]) / ("strict" if year == "2026" else "")


@pytest.fixture
def home(year: str, items: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> Path:
    """Where the page's commands, called in `tmp_path` with the year in place of its own, leave a run's results."""
    write_words(items / "aoa")
    glue_items.write_tasks(items, *GLUE)
    monkeypatch.setattr(entry, "PUBLISHED", (3, 4))
    monkeypatch.setitem(FILES, "glue_filtered", {f"{task}.valid": 11 for task in GLUE})
    run.rename(run.with_name("student"))
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^palenka (.*entry/student.*?)(?: +#.*)?$", PAGE.read_text(), re.MULTILINE)
    assert [command.split()[0] for command in commands] == [
        "evaluate", "evaluate", "acquisition", "finetune", "submission",
    ]  # fmt: skip
    results = tmp_path / (ELSEWHERE[year] or "runs") / "entry" / "student"
    for command in commands:
        words = command.replace("2026", year).split()
        if ELSEWHERE[year] and words[0] == "submission":
            words[1] = str(results)
        elif ELSEWHERE[year]:
            words += ["--out", ELSEWHERE[year]]
        code, shown, error = call(main, words)
        assert code == 0, error
    assert shown.splitlines()[-2] == "  complete", shown
    assert not ELSEWHERE[year] or not list((tmp_path / "runs").rglob("evaluation"))
    return results


def test_the_page_ends_in_a_complete_entry(year: str, home: Path, tmp_path: Path, call: Call) -> None:
    place = tmp_path / "submissions" / "entry-student"
    main_place = place / "main" / "zero_shot" / "causal"
    assert read_json(place / "submission.json")["complete"]
    of_year = {"2025": {"wug_adj/wug_adj_nominalization", "wug_past/wug_past_tense", "reading"}, "2026": PLACES["both"]}
    assert predictions(main_place).keys() == PLACES["main"] | of_year[year]
    for name in MILESTONES:
        assert predictions(place / name / "zero_shot" / "causal").keys() == PLACES["chck"] | of_year[year]
    for task in GLUE:
        answers = read_json(place / "main" / "finetune" / task / "predictions.json")[task]["predictions"]
        assert [answer["id"] for answer in answers] == [f"{task}_{number}" for number in range(11)]
        assert {type(answer["pred"]) for answer in answers} == {int}
    surprisals = read_json(main_place / "AoA_word" / "surprisal.json")["results"]
    assert {name: sum(one["step"] == name for one in surprisals) for name in MILESTONES} == dict.fromkeys(MILESTONES, 4)
    assert read_json(main_place / "AoA_word" / "aoa_score.json").keys() == {"aoa"}
    spoil = f"evaluation/finetuning/{year}/rte/seed-0.json", f"revisions/chck_2M/evaluation/{year}/aoa.json"
    for path in spoil:
        (home / path).unlink()
    _, shown, _ = call(main, ["submission", str(home), "--format", year, "--track", "strict-small",
                              "--out", "submissions"])  # fmt: skip
    assert "incomplete: GLUE: " in shown and f"palenka finetune {home} --recipe config/finetuning/{year}.yaml" in shown
    assert "incomplete: ages of acquisition: " in shown and not read_json(place / "submission.json")["complete"]


SMALL = """
theirs.FULL_SIZES |= {"entity_tracking": {"regular_0_ops": 2}, "wug_adj": 2, "wug_past": 2}
""", """
theirs.FULL_SIZES["entity_tracking"] = {"regular_0_ops": 1}
theirs.GLOBAL_PIQA_SIZES = dict.fromkeys(theirs.GLOBAL_PIQA_SIZES, 1)
"""


@pytest.mark.usefixtures("processes")
def test_their_script_finds_the_entry_complete(year: str, checkout: Path, home: Path, tmp_path: Path) -> None:
    """Its numbers of items and its milestones are those of the small tasks here; all else is its own."""
    code = f"""
import sys
from evaluation_pipeline import collate_preds as theirs
theirs.STRICT_SMALL_FAST_REVISIONS = {list(MILESTONES)!r}
theirs.AOA_SIZE, theirs.READING_SIZE = 4, 80
pairs, sizes = {{"agreement": 3, "order": 1}}, dict.fromkeys({list(GLUE)!r}, 11)
theirs.FULL_SIZES |= sizes | {{"blimp": pairs, "blimp_supplement": pairs, "ewok": {{"social": 2}}, "reading": 80,
    "comps": {{"base": 1}}}}
{SMALL[year == "2026"]}
check = theirs._check_size
theirs._check_size = lambda task, found, fast: check(task, found, fast=False)
sys.argv = ["collate_preds", *{COLLATE!r}.split(), "--fast_eval_dir", "items"]
theirs.main()
"""
    python = os.environ.get(f"PALENKA_PIPELINE_{year}_PYTHON", sys.executable)
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""  # it says all that it does not find
    assert COLLATE in PAGE.read_text().replace("\\\n    ", "")
    collated = read_json(tmp_path / "submissions" / "entry-student" / "all_full_preds_and_fast_scores_causal.json")
    assert None not in collated.values() and set(collated["glue"]) == set(GLUE)
    assert collated.keys() - {"aoa_surprisals"} == {
        *(task.key for task in PROTOCOLS[year].tasks.values()), "aoa", "glue", "fast_eval_results",
    }  # fmt: skip
    fast = collated["fast_eval_results"]
    assert {name: len(of) for name, of in fast.items()} == dict.fromkeys(
        (task.key for task in PROTOCOLS[year].fast.values()), len(MILESTONES)
    )
    assert all(figures is not None for of in fast.values() for figures in of)
    for task in ("blimp", "ewok") if year == "2025" else ("blimp",):  # that of 2026 has EWoK wrong
        for name, subtasks in zip(MILESTONES, fast[task], strict=True):
            ours = read_json(home / "revisions" / name / "evaluation" / year / f"{task}_fast.json")["subtasks"]
            expected = {subtask: of["accuracy_ties_good"] for subtask, of in ours.items()}
            assert subtasks == pytest.approx(expected)
