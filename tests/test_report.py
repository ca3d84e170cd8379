"""The report: its numbers are those of the files, its marks follow the rules, and its page stands alone."""

import contextlib
import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_runs import BLIMP, made_losses, right, write_evaluation, write_json, write_run, write_study
from page_charts import charts, labels, texts

from palenka.report import comparison, tables, vega
from palenka.report.figures import forest_figure, milestone_figure, milestone_tasks, subtasks_figure, term_panels
from palenka.report.page import page_content, render
from palenka.report.results import Run, read_run, read_runs
from palenka.report.write import report
from palenka.util.errors import UserError

TASKS = ("supplement_filtered", "blimp_filtered", "ewok_filtered")


class Page(HTMLParser):
    """What the tests look at: tags, cells of each table by (row, column), ids, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.cells: dict[tuple[str, str, str], dict[str, str]] = {}
        self.words: list[str] = []
        self.table, self.inside, self.cell = "", "", None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "table":
            self.table = given.get("class", "").partition(" ")[0]
        elif tag == "td":
            self.cell = {"class": given["class"]}
            self.cells[self.table, given["data-row"], given["data-column"]] = self.cell
        elif tag == "span":
            self.inside = given["class"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self.cell = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.cell is not None:
            self.cell[self.inside] = self.cell.get(self.inside, "") + data.strip()

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    runs = tmp_path_factory.mktemp("runs")
    write_study(runs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_RUNS", str(runs))
        yield runs


@pytest.fixture(scope="module")
def demo(study: Path) -> list[Run]:
    return read_runs(["demo"])


@pytest.fixture(scope="module")
def reported(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The study's page, and what the terminal shows of it."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        report(["demo"], out)
    return out.read_text(encoding="utf-8"), shown.getvalue()


@pytest.fixture(scope="module")
def html(reported: tuple[str, str]) -> str:
    return reported[0]


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALENKA_RUNS", str(tmp_path))
    return tmp_path


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def pair(runs: Path, first: list[float], second: list[float], items: bool = True) -> list[Run]:
    """Two runs with these outcomes on the one subtask of a task `pairs`."""
    for name, outcomes in (("a", first), ("b", second)):
        write_evaluation(write_run(runs, name), "pairs", {"only": outcomes}, items=items)
    return read_runs(["a", "b"])


def test_the_numbers_of_the_table_are_those_of_the_files(study: Path, page: Page) -> None:
    for folder in (study / "demo").iterdir():
        for task in TASKS:
            stored = load(folder / "evaluation" / f"{task}.json")
            cell = page.cells["study", folder.name, task]
            assert float(cell["value"]) == round(100 * stored["accuracy"], 2)
            assert float(cell["spread"].removeprefix("±")) == round(100 * stored["stderr"], 2)
        result = load(folder / "result.json")
        loss = page.cells["study", folder.name, "cross_entropy"]
        assert float(loss["value"]) == round(result["dev"]["cross_entropy"], 3)
        assert float(loss["second"]) == round(result["dev"]["bits_per_byte"], 3)
        assert f"{result['parameters']['total']:,} ({result['parameters']['non_embedding']:,}" in page.text


def test_the_baselines_stand_below_the_runs(page: Page) -> None:
    found = {row: page.cells["study", row, "blimp_filtered"]["value"] for row in ("chance", "word frequency", "5-gram")}
    assert found == {"chance": "50.00", "word frequency": "52.00", "5-gram": "58.00"}


def test_every_subtask_is_in_the_full_table(study: Path, page: Page) -> None:
    stored = load(study / "demo" / "student-kd" / "evaluation" / "blimp_filtered.json")["subtasks"]
    assert len(stored) == sum(BLIMP.values()) == 67
    for name, subtask in stored.items():
        assert float(page.cells["dense", name, "student-kd"]["value"]) == round(100 * subtask["accuracy"], 2)


def test_cross_entropy_per_domain(page: Page) -> None:
    cell = page.cells["", "student-kd", "bnc_spoken"]
    assert (float(cell["value"]), float(cell["second"])) == (3.36, round(3.36 * 90 / math.log(2) / 390, 3))


def test_a_folder_stands_for_its_runs_in_the_order_of_the_story(demo: list[Run]) -> None:
    labels = [run.label for run in demo]
    assert labels == ["teacher-gpt2", "teacher-llama", "student-control", "student-kd", "student-dskd"]
    assert [run.label for run in read_runs(["demo/student-kd", "demo"])][0] == "student-kd"


def test_each_logged_term_has_its_panels(html: str) -> None:
    for term, panels in (("cross_entropy", 5), ("logit", 2), ("hidden_state", 1)):
        assert sum(label.startswith(f"Training curve: {term}, ") for label in labels(html)) == panels


@pytest.mark.slow
def test_scores_along_the_way_have_a_figure_for_each_task(runs: Path, html: str) -> None:
    for name, task in (("a", "blimp"), ("b", "blimp"), ("c", "ewok")):
        scores = [{"step": n, "words": 1000 * n, "split": "evaluation", "revision": f"chck_{n}K", task: n / 10,
                   f"{task}_stderr": 0.01} for n in (1, 2, 5)]  # fmt: skip
        with (write_run(runs, name) / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(score) + "\n" for score in scores))
    found = read_runs(["a", "b", "c"])
    assert milestone_tasks(found) == ["blimp", "ewok"]
    svg = milestone_figure(found, "blimp").svg(600)
    used = [number for number in range(3) if f'stroke="{vega.COLOURS[f"series-{number}"]}"' in svg]
    assert used == [0, 1]
    wanted = [f"Accuracy on {task} during training" for task in ("blimp", "ewok")]
    assert [label for label in labels(render(page_content(found))) if label.startswith("Accuracy on")] == wanted
    assert not any(label.startswith("Accuracy on") for label in labels(html))


def test_the_page_stands_alone(page: Page, html: str) -> None:
    assert not {"link", "img", "iframe", "image"} & set(page.tags)
    assert not re.findall(r"<script[^>]+src", html)
    own = html.replace(vega.library(), "")
    assert {*re.findall(r"https?://[^\"'\s)]+", own)} == {vega.SCHEMA}, "the name of a format, which nothing asks for"
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r'href="#([^"]+)', own)) <= set(page.ids)


def test_all_colours_come_from_the_page(html: str) -> None:
    drawings = "".join(chart.__html__() for chart in charts(html))
    assert drawings and not re.findall(r"#[0-9a-f]{6}\b", drawings)
    own = html.replace(vega.library(), "")
    defined, used = set(re.findall(r"--([\w-]+):", own)), set(re.findall(r"var\(--([\w-]+)\)", own))
    assert used <= defined and defined >= {*vega.COLOURS}
    for name, value in vega.COLOURS.items():
        assert f"--{name}: {value};" in own, "a chart that is saved alone has the colours of a light page"


@pytest.mark.usefixtures("processes")
def test_the_same_files_give_the_same_bytes_and_no_torch_is_loaded(study: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from palenka.report.write import report; "
        "report(['demo'], Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    for seed in ("1", "2"):
        out = str(tmp_path / seed / "deep" / "report.html")
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}
        subprocess.run([sys.executable, "-c", code, out], env=environment, check=True, stdout=subprocess.DEVNULL)
    first, second = sorted(tmp_path.glob("*/deep/*"))
    assert first.read_bytes() == second.read_bytes()


def test_the_terminal_shows_the_same_table(study: Path, reported: tuple[str, str]) -> None:
    lines = reported[1].splitlines()
    assert max(len(line) for line in lines[: lines.index("")]) <= 120
    row = next(line for line in lines if line.startswith("student-kd "))
    for task in TASKS:
        stored = load(study / "demo" / "student-kd" / "evaluation" / f"{task}.json")
        assert f"{100 * stored['accuracy']:.2f} ±{100 * stored['stderr']:.2f}" in row
    assert "3.360 / 1.119" in row
    assert next(line for line in lines if line.startswith("5-gram")).split() == ["5-gram", "58.00", "58.00", "50.00"]


def test_a_terminal_table_too_wide_goes_on_below(runs: Path) -> None:
    for name in ("a-run-with-a-rather-long-name", "b"):
        folder = write_run(runs, name)
        for number in range(7):
            write_evaluation(folder, f"task_number_{number}", {"only": right(60)})
    text = tables.terminal_text(read_runs(["a-run-with-a-rather-long-name", "b"]))
    blocks = text.split("\n\n")[:2]
    assert all(len(line) <= 120 for block in blocks for line in block.splitlines())
    assert all(block.count("a-run-with-a-rather-long-name") == 1 for block in blocks)


def test_best_is_marked_only_beyond_twice_the_standard_error(runs: Path) -> None:
    # Unpaired, n = 100: the standard error of a difference near 0.5 is about 0.07, so 0.15 is clear and 0.13 is not.
    found = pair(runs, right(57), right(42), items=False)
    difference = comparison.difference(*found, "pairs")
    assert difference is not None and not difference.paired
    assert difference.stderr == pytest.approx(math.sqrt(0.57 * 0.43 / 99 + 0.42 * 0.58 / 99))
    assert comparison.leader(found, "pairs") is found[0]
    write_evaluation(found[0].folder, "pairs", {"only": right(55)}, items=False)
    assert comparison.leader(read_runs(["a", "b"]), "pairs") is None


def test_paired_items_give_the_error_of_the_paired_difference(runs: Path) -> None:
    # The first is right wherever the second is, and on 8 items more: of 100 differences 8 are 1, the others 0.
    found = pair(runs, right(58), right(50))
    difference = comparison.difference(*found, "pairs")
    assert difference is not None and difference.paired
    assert difference.value == pytest.approx(0.08)
    assert difference.stderr == pytest.approx(math.sqrt(0.08 * 0.92 / 99))
    assert comparison.leader(found, "pairs") is found[0]
    cells = {row.head: row.cells["pairs"].best for row in tables.study_table(found).rows if row.run is not None}
    assert cells == {"a": True, "b": False}


def test_paired_error_over_several_subtasks(runs: Path) -> None:
    draw = np.random.default_rng(0)
    scores = {name: {s: draw.integers(0, 3, n) / 2 for s, n in (("x", 40), ("y", 15))} for name in ("a", "b")}
    for name, found in scores.items():
        outcomes = {subtask: values.tolist() for subtask, values in found.items()}
        write_evaluation(write_run(runs, name), "pairs", outcomes)
    difference = comparison.difference(*read_runs(["a", "b"]), "pairs")
    errors = [np.std(scores["a"][s] - scores["b"][s], ddof=1) / math.sqrt(n) for s, n in (("x", 40), ("y", 15))]
    assert difference is not None and difference.paired
    assert difference.stderr == pytest.approx(math.hypot(*errors) / 2)


@pytest.mark.parametrize("name", ["pairs.json", "pairs.items.jsonl"])
@pytest.mark.parametrize("damage", ["accuracy", "ties", "n", "cut", "emptied"])
def test_a_broken_result_is_left_out_and_named(
    runs: Path, capsys: pytest.CaptureFixture[str], damage: str, name: str
) -> None:
    """The run is shown with its other results, and so are the others."""
    found = pair(runs, right(58), right(50))
    write_evaluation(found[0].folder, "more", {"only": right(55)})
    path = found[0].folder / "evaluation" / name
    stored = load(path.with_name("pairs.json"))
    changes = {"accuracy": {"accuracy": 0.6}, "ties": {"ties": 1}, "n": {"n": 99}}
    if damage in changes:  # of the result, or of what its items come to
        parts = {"only": stored["subtasks"]["only"] | changes[damage]} if name != "pairs.json" else stored["subtasks"]
        write_json(path.with_name("pairs.json"), stored | changes[damage] | {"subtasks": parts})
    else:
        path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b"")
    read = read_runs(["a", "b"])
    assert [sorted(run.evaluations) for run in read] == [["more"], ["pairs"]]
    [problem] = read[0].broken
    assert name in problem and "re-evaluate it" in problem
    report(["a", "b"], runs / "report.html")
    assert problem in capsys.readouterr().out


def test_a_broken_cross_entropy_is_left_out_and_named(runs: Path) -> None:
    [folder, *_] = write_study(runs)
    path = folder / "evaluation" / "cross_entropy.json"
    stored = load(path)
    stored["splits"]["dev"]["cross_entropy"] = 1.0
    write_json(path, stored)
    [run] = read_runs([str(folder)])
    assert run.cross_entropy == {} and "cross_entropy.json" in run.broken[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"convention": "2025"}, "protocols 2024 and 2025"),
        ({"identity": {"items": "another digest"}}, "not the same items"),
    ],
)
def test_what_was_evaluated_differently_is_not_compared(runs: Path, change: dict[str, Any], reason: str) -> None:
    found = pair(runs, right(90), right(10))
    stored = load(found[1].folder / "evaluation" / "pairs.json")
    write_json(found[1].folder / "evaluation" / "pairs.json", stored | change)
    found = read_runs(["a", "b"])
    assert comparison.leader(found, "pairs") is None
    assert not any(sentence.startswith("pairs:") for sentence in tables.findings(found))
    assert f"evaluated differently ({reason})" in " ".join(tables.study_table(found).notes)


def test_below_a_baseline_is_marked(runs: Path) -> None:
    folder = write_run(runs, "a")
    write_evaluation(folder, "pairs", {"only": right(55)}, baselines={"zipf": 0.56, "ngram": 0.55})
    found = read_runs(["a"])
    assert tables.study_table(found).rows[0].cells["pairs"].below == ("word frequency",)
    assert "below word frequency" in Page(render(page_content(found))).cells["study", "a", "pairs"]["below"]
    assert "Below a simple baseline: a on pairs (word frequency)." in tables.findings(found)
    assert "55.00 ±5.00 ▽" in tables.terminal_text(found)


def test_ties_are_noted(runs: Path) -> None:
    folder = write_run(runs, "a")
    write_evaluation(folder, "pairs", {"only": [1.0, 0.5, 0.0, 0.5]})
    found = read_runs(["a"])
    assert "Ties on pairs (counted half): a 2." in tables.study_table(found).notes
    assert found[0].outcomes["pairs"]["only"].tolist() == [1.0, 0.5, 0.0, 0.5]


def test_phenomena_are_means_over_their_subtasks(runs: Path) -> None:
    folder = write_run(runs, "a")
    outcomes = {"x": right(50), "y": right(90), "z": right(70)}
    phenomena = {"x": "binding", "y": "binding", "z": "ellipsis"}
    stored = write_evaluation(folder, "pairs", outcomes, phenomena=phenomena)["subtasks"]
    groups = comparison.phenomena(read_run(folder).evaluations["pairs"])
    assert set(groups) == {"binding", "ellipsis"}
    assert groups["binding"].accuracy == pytest.approx(0.7)
    assert groups["binding"].stderr == pytest.approx(math.hypot(stored["x"]["stderr"], stored["y"]["stderr"]) / 2)
    write_evaluation(folder, "pairs", outcomes)
    assert set(comparison.phenomena(read_run(folder).evaluations["pairs"])) == {"x", "y", "z"}


def test_baselines_of_a_phenomenon_where_its_subtasks_have_them(runs: Path) -> None:
    folder = write_run(runs, "a")
    stored = write_evaluation(folder, "pairs", {"x": right(50), "y": right(90)}, phenomena={"x": "p", "y": "p"})
    for name, baseline in (("x", 0.4), ("y", 0.6)):
        stored["subtasks"][name]["floors"] = {"zipf": baseline, "ngram": None}
    write_json(folder / "evaluation" / "pairs.json", stored)
    assert comparison.phenomena(read_run(folder).evaluations["pairs"])["p"].baselines == {"zipf": pytest.approx(0.5)}


def test_seeds_are_told_apart_from_items(runs: Path) -> None:
    for seed, count in ((1, 50), (2, 54), (3, 58)):
        folder = write_run(runs, f"kd-s{seed}", objective={"logit": {"weight": 1.0}}, seed=seed, dev=3 + seed / 10)
        write_evaluation(folder, "pairs", {"only": right(count)})
    write_run(runs, "other", objective={"logit": {"weight": 0.5}})
    found = read_runs(["kd-s1", "kd-s2", "kd-s3", "other"])
    table = tables.seed_table(found)
    assert table is not None and [row.head for row in table.rows] == ["kd-s1, kd-s2, kd-s3"]
    cells = table.rows[0].cells
    assert (cells["pairs"].text, cells["pairs"].spread) == ("54.00", "4.00")
    assert (cells["cross_entropy"].text, cells["cross_entropy"].spread) == ("3.200", "0.100")
    assert "kd-s1, kd-s2, kd-s3: 3 seeds; every other row is one seed" in tables.caption(found)
    assert tables.seed_table(found[2:]) is None and "Each row is one seed." in tables.caption(found[2:])


def test_students_are_held_against_their_undistilled_control(demo: list[Run]) -> None:
    found = {run.label: run for run in demo}
    table = tables.control_table(demo)
    assert table is not None
    assert [(row.head, row.detail) for row in table.rows] == [
        ("student-kd", ("against student-control",)),
        ("student-dskd", ("against student-control",)),
    ]
    kd, control = (found[name].evaluations["blimp_filtered"].accuracy for name in ("student-kd", "student-control"))
    assert table.rows[0].cells["blimp_filtered"].text == f"{100 * (kd - control):+.2f}"
    assert table.rows[0].cells["cross_entropy"].text == "−0.090"


def test_a_control_and_a_dev_loss_are_of_one_paradigm(runs: Path) -> None:
    """Of undistilled runs alike in all else, one that learned as the student did; losses of others do not compare."""
    mix = {"name": "mix", "rows": {"mntp": 1, "causal": 1}}
    for name, paradigm, objective in (
        ("plain", None, None), ("causal", {"name": "causal", "isolate_documents": False}, None),
        ("mixed", mix, None), ("focus", mix | {"rows": {"mntp": 15, "causal": 1}}, None),
        ("kd", mix, {"logit": {"weight": 0.5}}),
    ):  # fmt: skip
        config = yaml.safe_load((write_run(runs, name, objective=objective) / "config.yaml").read_text())
        if paradigm:
            (runs / name / "config.yaml").write_text(yaml.safe_dump(config | {"paradigm": paradigm}))
        if paradigm and paradigm["name"] == "mix":
            result = load(runs / name / "result.json")
            dev = {"cross_entropy": result["dev"]["cross_entropy"]}
            write_json(runs / name / "result.json", result | {"dev": dev, "paradigms": list(paradigm["rows"])})
    found = {run.name: run for run in read_runs(["plain", "causal", "mixed", "focus", "kd"])}
    control = comparison.control_of(found["kd"], list(found.values()))
    assert control is not None and control.name == "mixed"
    assert comparison.control_of(found["kd"], [found["plain"], found["focus"], found["kd"]]) is None
    for names, same in ((["plain", "causal"], True), (["mixed", "kd"], True), (["mixed", "focus"], False)):
        assert comparison.same_dev_text([found[name] for name in names]) == same
    notes = " ".join(tables.study_table([found["plain"], found["mixed"]]).notes)
    assert "nats per token are not comparable; what is masked has no bits per byte." in notes


def test_pairwise_differences_are_row_minus_column(runs: Path) -> None:
    table = tables.difference_tables(pair(runs, right(50), right(58)))[0]
    assert (table.rows[0].head, table.columns[0].key) == ("b", "a")
    assert (table.rows[0].cells["a"].text, table.rows[0].cells["a"].best) == ("+8.00", True)


def test_what_teachers_were_worth_is_said(runs: Path) -> None:
    """Of 100 pairs the control has 50 right; the students the same and 8 more, 8 fewer, or one more."""
    write_evaluation(write_run(runs, "control"), "pairs", {"only": right(50)})
    objective = {"logit": {"weight": 1.0}}
    for name, number in (("kd", 58), ("worse", 42), ("same", 51)):
        write_evaluation(write_run(runs, name, objective=objective), "pairs", {"only": right(number)})
    stderr = f"{100 * (0.08 * 0.92 / 99) ** 0.5:.2f}"
    said = tables.findings(read_runs(["control", "kd", "worse", "same"]))[1]
    ahead, behind = f"is 8.00 ± {stderr} points ahead", f"is 8.00 ± {stderr} points behind"
    neither = "same is neither ahead nor behind (+1.00 ± 1.00 points)"
    assert said == f"pairs: beside the undistilled control, kd {ahead}; {neither}; worse {behind}."
    write_evaluation(write_run(runs, "other", objective=objective), "pairs", {"only": right(43)})
    said = tables.findings(read_runs(["control", "kd", "worse", "same", "other"]))[1]
    assert said == f"pairs: beside the undistilled control, the best of 4 distilled, kd {ahead}."
    assert "; " not in said


def test_a_forest_shows_each_difference_from_the_control(runs: Path) -> None:
    """Eight of 100 pairs more, of x; of y, which both have right, none: the subtask has no error to be drawn."""
    write_evaluation(write_run(runs, "control"), "pairs", {"x": right(50), "y": right(100), "z": right(30)})
    write_evaluation(
        write_run(runs, "kd", objective={"logit": {"weight": 1.0}}), "pairs",
        {"x": right(58), "y": right(100), "z": right(10)},
    )
    found = read_runs(["control", "kd"])
    forest, subtasks = forest_figure(found, ["pairs"]), subtasks_figure(found, "pairs")
    assert forest and subtasks and subtasks.label == "Where kd and control differ most, pairs"
    (row,) = forest.spec["data"]["values"]
    assert (row["name"], row["x"]) == ("pairs: kd", pytest.approx(-4.0))
    rows = {row["name"]: row for row in subtasks.spec["data"]["values"]}
    assert [*rows] == ["x", "z"], "what is ahead first"
    error = 100 * (0.08 * 0.92 / 99) ** 0.5
    assert (rows["x"]["x"], rows["x"]["low"]) == (pytest.approx(8.0), pytest.approx(8.0 - 2 * error))
    assert forest_figure(found[:1], ["pairs"]) is subtasks_figure(found[:1], "pairs") is None


def test_losses_that_are_written_alike_are_called_no_different(runs: Path) -> None:
    for name, nats in (("a", 3.0001), ("b", 3.0002)):
        result = load(write_run(runs, name) / "result.json")
        write_json(runs / name / "result.json", result | {"dev": made_losses(nats)})
    assert tables.findings(read_runs(["a", "b"]))[0].endswith("bits per byte, no different from b.")


def test_seeds_of_one_run_are_compared_by_their_mean(runs: Path) -> None:
    for name, seed, nats in (("kd-s1", 1, 3.0), ("kd-s2", 2, 3.2), ("control", 1, 3.15)):
        folder = write_run(runs, name, seed=seed, hidden_size=32 if name == "control" else 64)
        result = load(folder / "result.json")
        write_json(folder / "result.json", result | {"dev": made_losses(nats)})
    first = tables.findings(read_runs(["kd-s1", "kd-s2", "control"]))[0]
    assert first.startswith("kd (2 seeds) has the lowest dev cross-entropy: 3.100 nats per token")
    assert first.endswith("0.050 nats below control.")


def test_dev_losses_on_different_text_are_compared_by_bytes(runs: Path) -> None:
    for name, nats, bits in (("a", 3.0, 1.2), ("b", 3.5, 1.1)):
        result = load(write_run(runs, name) / "result.json")
        losses = made_losses(nats) | {"bits_per_byte": bits, "tokens": 1000 if name == "a" else 2000}
        write_json(runs / name / "result.json", result | {"dev": losses})
    found = read_runs(["a", "b"])
    assert tables.findings(found)[0].startswith("b has the lowest dev cross-entropy")
    assert "nats per token are not comparable" in " ".join(tables.study_table(found).notes)


def test_what_is_missing_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done, unfinished, new = write_run(runs, "done"), write_run(runs, "unfinished", finished=False), runs / "new"
    write_evaluation(done, "pairs", {"only": right(60)})
    with (unfinished / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 160, "spl')
    new.mkdir()
    (new / "config.yaml").write_text("name: new\ndata: {name: demo}\n", encoding="utf-8")
    report(["done", "unfinished", "new"], runs / "report.html")
    page = Page((runs / "report.html").read_text(encoding="utf-8"))
    terminal = capsys.readouterr().out
    for text in (page.text, " ".join(terminal.split())):
        assert "unfinished is not finished (last record at step 150)." in text
        assert "new is not finished (nothing logged yet)." in text
        assert "not evaluated on pairs" in text
    assert "The one subtask of pairs" in page.text
    assert page.cells["study", "unfinished", "pairs"]["value"] == "–"
    assert not list(runs.glob(".*"))
    write_evaluation(done, "others", {"one": right(60), "two": right(50)})
    text = Page(render(page_content(read_runs(["done", "unfinished"])))).text
    assert "not evaluated on any of these tasks" in text and "All 2 subtasks of others" in text


@pytest.mark.parametrize("finished", [True, False])
def test_a_study_without_evaluations_is_reported(runs: Path, finished: bool) -> None:
    write_run(runs, "a", finished=finished)
    found = read_runs(["a"])
    assert "No run has been evaluated on minimal pairs yet." in Page(render(page_content(found))).text
    assert "No run has been evaluated on minimal pairs yet." in tables.terminal_text(found)


def test_names_and_configs_are_escaped(runs: Path) -> None:
    folder = write_run(runs, "a")
    name = 'x<b>&"$y$'
    config = {"name": name, "data": {"name": "<img src=x>"}, "note": "</pre><script>alert(1)</script>"}
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    outcomes, phenomena = {"<i>sub</i>": right(60)}, {"<i>sub</i>": "<u>$binding$"}
    stored = write_evaluation(folder, "pairs", outcomes, phenomena=phenomena)
    (folder / "evaluation" / "pairs.json").unlink()
    write_json(folder / "evaluation" / "odd.json", stored | {"task": 'p"<em>'})
    html = render(page_content(read_runs(["a"])))
    page = Page(html)
    assert any("<u>$binding$" in texts(chart) for chart in charts(html))
    assert not {"img", "i", "u", "em", "b"} & set(page.tags)
    assert page.tags.count("script") == len(charts(html)) + 2, "the library's and the page's"
    for text in (name, "<img src=x>", "</pre><script>alert(1)</script>", "<i>sub</i>", 'p"<em>'):
        assert text in page.text


def test_what_is_no_run_is_a_user_error(runs: Path) -> None:
    (runs / "empty").mkdir()
    for name in ("absent", "empty"):
        with pytest.raises(UserError, match=name):
            report([name], runs / "report.html")
    assert not (runs / "report.html").exists()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("result.json", '{"architecture": "llama"}'),
        ("result.json", "{"),
        ("config.yaml", "a: [1"),
        ("identity.json", "[]"),
    ],
)
def test_a_broken_file_is_named(runs: Path, path: str, content: str) -> None:
    folder = write_run(runs, "a")
    (folder / path).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(path)):
        read_runs(["a"])


def test_a_broken_run_does_not_hide_the_others(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("demo/a", "demo/b", "demo/c"):
        write_run(runs, name)
    broken, log = runs / "demo" / "b" / "result.json", runs / "demo" / "c" / "metrics.jsonl"
    broken.write_bytes(b"")
    log.write_bytes(b"\0\n" + log.read_bytes())
    report(["demo"], runs / "report.html")
    page, text = (runs / "report.html").read_text(encoding="utf-8"), capsys.readouterr().out
    for shown in (page, text):
        assert f"{broken}: damaged: the file is empty" in shown
        assert f"{log}: line 1 is damaged, leaving it out" in shown
    assert page.count("<h3>config.yaml</h3>") == 2
    for name in ("a", "c"):
        (runs / "demo" / name / "config.yaml").write_text("a: [1")
    with pytest.raises(UserError, match=r"(?s)a/config.yaml.*b/result.json.*c/config.yaml"):
        report(["demo"], runs / "report.html")


def test_many_runs_have_distinct_marks(runs: Path) -> None:
    marks = {(vega.colour(number), vega.marker_path(number)) for number in range(56)}
    assert len(marks) == 56


def test_short_counts_and_times() -> None:
    assert [tables.compact(n) for n in (999, 1000, 311_296, 58_344_960, 705_000_000, 1_200_000_000)] == [
        "999", "1.000k", "311.3k", "58.34M", "705.0M", "1.200B",
    ]  # fmt: skip
    assert [tables.duration(s) for s in (45.2, 73.25, 7200)] == ["45 s", "1.2 min", "2.0 h"]


def test_a_term_of_wide_range_has_plain_tick_labels_and_no_ring(runs: Path) -> None:
    """Only the dev curve rings the step that was kept; a term is not measured on dev text."""
    folder = write_run(runs, "kd", objective={"hard_target": {"weight": 0.5}, "logit": {"weight": 0.5}})
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for record in records:
        if record["split"] == "train":
            record["logit"] = 8.0 / record["step"] ** 1.5
        elif record["step"] > 200:
            record["step"] = 380
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    found = [read_run(folder)]
    ((_, term),) = term_panels(found, "logit")
    ((_, cross_entropy),) = term_panels(found, None)
    assert term.spec["encoding"]["y"]["scale"]["type"] == "log"
    assert {"0.001", "0.01"} <= {text for text in texts(term) if re.fullmatch(r"[\d.]+", text)}
    kept = [layer["data"]["values"] for layer in cross_entropy.spec["layer"]][-1]
    assert [row["step"] for row in kept] == [found[0].result.best_step] if found[0].result else []
    (folder / "result.json").unlink()
    unfinished = [read_run(folder)]
    assert term_panels(unfinished, "logit") == [(0, term)]
    assert term_panels(unfinished, None) != [(0, cross_entropy)]


def test_a_loss_that_is_not_finite_is_left_out_of_curves(runs: Path) -> None:
    folder = write_run(runs, "a")
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 999, "words": 9990, "tokens": 9999, "split": "train", "loss": NaN, "hard_target": NaN}\n')
        file.write('{"step": 999, "words": 9990, "tokens": 9999, "split": "dev", "loss": Infinity}\n')
    drawn = "".join(chart.__html__() for chart in charts(render(page_content(read_runs(["a"])))))
    assert drawn and '"step":999' not in drawn and "NaN" not in drawn


def test_a_baseline_that_an_earlier_version_began_has_one_curve(runs: Path) -> None:
    """It called its cross-entropy hard_target."""
    folder = write_run(runs, "control")
    path = folder / "metrics.jsonl"
    first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(first + "".join(rest).replace('"hard_target"', '"cross_entropy"'), encoding="utf-8")
    trained = [record for record in read_run(folder).metrics if record["split"] == "train"]
    assert all("cross_entropy" in record and "hard_target" not in record for record in trained)


def test_an_objective_is_told_with_its_course_and_its_scale(runs: Path) -> None:
    falling = {"start": 1.0, "end": 0.25}
    terms = {"hard_target": {"weight": 1}, "logit": {"weight": falling, "reduction": "sequence_sum"}}
    write_run(runs, "kd", objective=terms)
    (run,) = read_runs(["kd"])
    assert tables.objective_text(run) == "1 × hard_target + 1→0.25 × logit summed over sequences"


def test_predictions_of_people_have_a_table(runs: Path) -> None:
    for name, value in (("a", 0.231), ("b", None)):
        folder = write_run(runs, name)
        write_evaluation(folder, "pairs", {"only": right(58)}, protocol="2025")
        if value is not None:
            scores = {"spearman": {"value": value, "stderr": 0.041}}
            content = {"task": "wug_adj_nominalization", "convention": "2025", "n": 200, "scores": scores}
            write_json(folder / "evaluation" / "2025" / "wug_adj_nominalization.json", content)
    assert tables.prediction_table(read_runs(["a", "b"])) is None
    found = read_runs(["a", "b"], "2025")
    table = tables.prediction_table(found)
    assert table is not None and [row.head for row in table.rows] == ["a"]
    [cell] = table.rows[0].cells.values()
    assert (cell.text, cell.spread) == ("23.10", "4.10")
    assert "Predictions of people" in render(page_content(found)) and "23.10 ±4.10" in tables.terminal_text(found)


def test_items_without_their_result_are_named(runs: Path) -> None:
    [run, _] = pair(runs, right(58), right(50))
    (run.folder / "evaluation" / "pairs.json").unlink()
    [found] = read_runs(["a"])
    assert found.evaluations == {} and "pairs.json: missing, though its items are there" in found.broken[0]
