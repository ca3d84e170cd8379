"""What runs took, on the page: FLOPs and words are those of the files, and what is not known is said."""

import json
from pathlib import Path

import pytest
from made_runs import right, write_evaluation, write_json, write_run
from page_charts import charts

from palenka.report.accounts import cost_table, words_table
from palenka.report.cells import Table
from palenka.report.figures import cost_figure, costs
from palenka.report.page import page_content, render
from palenka.report.results import Run, read_runs

KD = {"hard_target": {"weight": 1.0}, "logit": {"weight": 0.5}}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control and a student of a teacher, each evaluated; FLOPs are easy to add."""
    monkeypatch.setenv("PALENKA_RUNS", str(tmp_path))
    for name, objective in (("control", None), ("student", KD)):
        write_evaluation(write_run(tmp_path, name, objective=objective), "pairs", {"only": right(60)})
    trainings = {"a" * 64: {"name": "teacher", "flops": 4e12}, "b" * 64: {"name": "theirs", "flops": 6e12}}
    write_json(tmp_path / "control" / "cost.json", {"student": 1.5e12, "teachers": 0, "trainings": {}, "unknown": {}})
    cost = {"student": 2e12, "teachers": 3e11, "trainings": trainings, "unknown": {}}
    write_json(tmp_path / "student" / "cost.json", cost)
    return tmp_path


def change(path: Path, **values: object) -> None:
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | values)


def cells(table: Table | None) -> dict[str, list[str]]:
    assert table
    return {row.head: [row.cells[column.key].text if column.key in row.cells else "" for column in table.columns]
            for row in table.rows}  # fmt: skip


def read(runs: Path) -> list[Run]:
    return read_runs(sorted(path.name for path in runs.iterdir()))


def test_the_cost_of_a_student_counts_its_teachers(runs: Path) -> None:
    assert cells(cost_table(read(runs))) == {
        "control": ["1.2 min", "", "1.50e12", "", "", "1.50e12"],
        "student": ["1.2 min", "", "2.00e12", "3.00e11", "1.00e13", "1.23e13"],
    }


def test_energy_is_time_by_rated_power(runs: Path) -> None:
    write_json(runs / "control" / "environment.json", {"watts": 24.0})
    found = read(runs)
    assert {name: row[1] for name, row in cells(cost_table(found)).items()} == {"control": "0.49", "student": ""}
    assert "energy" not in costs(found), "a chart has a place for every run"
    write_json(runs / "student" / "environment.json", {"watts": 700})
    found = read(runs)
    assert cells(cost_table(found))["student"][1] == "14", "73.25 s at 700 W"
    figure = cost_figure(found)
    assert figure and "energy" in costs(found)
    drawn = [row["energy"] for row in figure.spec["data"]["values"] if row["score"] == "pairs"]
    assert drawn == pytest.approx([73.25 * 24 / 3600, 73.25 * 700 / 3600])


def test_scores_are_drawn_over_cost_with_their_errors(runs: Path) -> None:
    figure = cost_figure(read(runs))
    assert figure
    rows = [row for row in figure.spec["data"]["values"] if row["score"] == "pairs"]
    stored = json.loads((runs / "student" / "evaluation" / "pairs.json").read_text(encoding="utf-8"))
    assert [(row["run"], row["total"], row["student"], row["seconds"]) for row in rows] == [
        ("control", 1.5e12, 1.5e12, 73.25), ("student", 1.23e13, 2e12, 73.25),
    ]  # fmt: skip
    assert [rows[1][key] for key in ("low", "y", "high")] == pytest.approx(
        [100 * (stored["accuracy"] + reach * stored["stderr"]) for reach in (-2, 0, 2)]
    )
    assert list(figure.spec["usermeta"]["y"]) == ["pairs", "dev"]
    assert {row["y"] for row in figure.spec["data"]["values"] if row["score"] == "dev"} == {3.4}
    assert figure.svg(600).count("aria-roledescription=\"point\"") == 2, "of one score at a time"


def test_what_is_not_known_of_a_cost_is_said_and_not_drawn(runs: Path) -> None:
    change(runs / "student" / "cost.json", unknown={"other": "it has no cost.json: it was not trained here"})
    write_run(runs, "former")
    (runs / "former" / "cost.json").unlink()
    found = read(runs)
    table = cost_table(found)
    assert cells(table)["student"][4:] == ["≥ 1.00e13", "≥ 1.23e13"]
    assert cells(table)["former"] == ["1.2 min", *[""] * 5]
    assert table and table.notes == [
        "No FLOPs on record: former; the training, started again, only writes them.",
        "student: what training other cost is not known (it has no cost.json: it was not trained here).",
    ]
    figure = cost_figure(found)
    assert figure and {row["run"] for row in figure.spec["data"]["values"]} == {"control"}
    for run in found:
        (run.folder / "cost.json").unlink(missing_ok=True)
    content = page_content(read(runs))
    assert content["cost"] is None and content["bought"] is None and "<h2>Cost</h2>" not in render(content)


def test_times_of_several_machines_and_cached_teachers_are_told(runs: Path) -> None:
    for name, host in (("control", "one"), ("student", "two")):
        write_json(runs / name / "environment.json", {"host": host})
    config = runs / "student" / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "cached_logits: {top_k: 8}\n", encoding="utf-8")
    table = cost_table(read(runs))
    assert table and table.notes == [
        "Teachers' logits were read from a cache, whose making is not counted: student.",
        "Times are of different machines (one and two) and do not compare.",
    ]


def test_words_and_tracks_are_those_of_the_ledger(runs: Path) -> None:
    why = ["11,000,000 words of text, of at most 10,000,000", "12 epochs, of at most 10 (2026)"]
    ledger = {"own_words": 9_000_000, "unique_words": 11_000_000, "unknown": {"lost": "it is not there"}}
    change(runs / "student" / "result.json", ledger=ledger | {"not_eligible": {"strict-small": why, "strict": []}})
    found = read(runs)
    table = words_table(found)
    assert cells(table) == {
        "control": ["900,000", "0", "900,000", "1,312,345", "4", "yes", "yes"],
        "student": ["9,000,000", "≥ 2,000,000", "≥ 11,000,000", "1,312,345", "4", "no", "yes"],
    }
    assert table and table.notes == [f"Not eligible for strict-small: student: {' and '.join(why)}."]
    assert "<h2>Words read</h2>" in render(page_content(found))
    for run in found:
        change(run.folder / "result.json", ledger=None)
    assert words_table(read(runs)) is None, "of runs from before there were ledgers"


def test_charts_and_choices_of_the_page_belong_together(runs: Path) -> None:
    page = render(page_content(read(runs)))
    [figure] = [chart for chart in charts(page) if chart.label == "Scores over the cost of training"]
    for axis in ("x", "y"):
        for value in figure.spec["usermeta"][axis]:
            assert f'<option value="{value}">' in page


def test_the_page_says_how_to_train_and_evaluate_a_run_once_more(runs: Path) -> None:
    write_json(runs / "control" / "environment.json", {"commit": "1a2b3c4d5e6f-dirty", "command": "train.py x"})
    write_run(runs, "unfinished", finished=False)
    made = {part["facts"]["name"]: part for part in page_content(read(runs))["made"]}
    assert made["control"]["again"].splitlines() == [
        "git checkout 1a2b3c4d5e6f  # and what was changed there without being committed",
        "python train.py --config runs/control/config.yaml name=again/control",
        "palenka evaluate again/control --protocol 2024 --tasks pairs",
    ]
    assert made["student"]["again"].splitlines()[0].startswith("python distill.py --config runs/student/config.yaml")
    assert made["unfinished"]["again"] == "" and made["control"]["facts"]["command"] == "train.py x"
