"""Grids: which students, in which cohorts, ranked by what; and what a person is told."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from made_runs import write_run
from page_charts import charts, texts
from run_files import outcome, snapshot
from shared_fixtures import Call, WriteConfig

import palenka.search.grid
import palenka.util.hardware
from palenka import cli
from palenka.cost import estimate
from palenka.report.page import page_content, render
from palenka.report.results import read_runs
from palenka.search.grid import Grid, Part, cohort_flops, fitting_cohort, load_grid, selection_table
from palenka.search.schema import GridConfig
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig
from palenka.training.session import Diverged
from palenka.util.config import read_yaml
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json
from palenka.util.hardware import available_memory
from palenka.util.paths import ROOT

Run = Callable[..., tuple[int, str, str]]
AXES: dict[str, list[Any]] = {"objective.logit.weight": [0.0, 0.5], "objective.hidden_state.weight": [0.1, 1.0]}
LABELS = ["L0-H0.1", "L0-H1", "L0.5-H0.1", "L0.5-H1"]


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def grid_values(axes: dict[str, list[Any]] | None = None, **section: Any) -> dict[str, Any]:
    """A grid of two-step students on a tenth of the text; finalists take four."""
    values = tiny.distill_values(name="study/grid", grid={"axes": AXES if axes is None else axes} | section)
    values["training"] |= {"max_steps": 2, "eval_steps": 1}
    return values | {"data": values["data"] | {"fraction": 0.5}}


def make_grid(axes: dict[str, list[Any]] | None = None, **section: Any) -> Grid:
    return Grid(GridConfig.model_validate(grid_values(axes, **section)), "test")


# Trials


@pytest.mark.usefixtures("teacher")
def test_trials_are_all_combinations_the_last_axis_changing_fastest() -> None:
    grid = make_grid()
    assert list(grid.plans) == LABELS
    plan = grid.plans["L0.5-H0.1"]
    assert plan.config.name == "study/grid/L0.5-H0.1"
    weights = {name: config.weight.start for name, config in plan.config.terms.items()}
    assert weights == {"hard_target": 1.0, "logit": 0.5, "hidden_state": 0.1}
    assert set(grid.plans["L0-H1"].config.terms) == {"hard_target", "hidden_state"}, "weight 0 is no term"


@pytest.mark.usefixtures("teacher")
def test_labels_are_short_for_the_studys_axes_and_full_for_others() -> None:
    grid = make_grid({"objective.contrastive.weight": [0.25], "objective.logit.weight": [1], "seed": [3]})
    assert list(grid.plans) == ["contrastive0.25-L1-s3"]


@pytest.mark.usefixtures("teacher")
@pytest.mark.parametrize(("given", "expected"), [(None, 7), (5, 5)])
def test_all_trials_see_the_same_text(given: int | None, expected: int) -> None:
    """`data.seed` is one for all, the base's seed by default, also where `seed` is an axis."""
    values = grid_values({"seed": [1, 2, 3]})
    values["data"]["seed"] = given
    grid = Grid(GridConfig.model_validate(values), "test")
    assert [plan.config.seed for plan in grid.plans.values()] == [1, 2, 3]
    assert {plan.config.data.seed for plan in grid.plans.values()} == {expected}
    assert {plan.windows().seed for plan in grid.plans.values()} == {expected}
    assert grid.finalist.config.data.seed == expected


@pytest.mark.usefixtures("teacher")
def test_a_trial_is_the_run_that_its_config_describes(write_config: WriteConfig) -> None:
    """distill.py, given a trial's config, finds the same run: teachers' layers by number, too."""
    values = grid_values() | {"teachers": [{"run": "teacher", "layer_mapping": {3: 2}}]}
    grid = Grid(GridConfig.model_validate(values), "test")
    for plan in grid.plans.values():
        alone = load_plan(write_config(plan.resolved), [], DistillConfig)
        assert alone.identity() == plan.identity()
        assert alone.config.name == plan.config.name


@pytest.mark.usefixtures("teacher")
def test_finalists_are_trials_with_the_overrides() -> None:
    grid = make_grid(finalists={"count": 1, "overrides": {"data.fraction": 1.0, "training.max_steps": 4}})
    trial, again = (config.resolved for config in (grid.plans[LABELS[0]], grid.finalist))
    assert again["name"] == "study/grid/finalists/L0-H0.1"
    assert (trial["data"].pop("fraction"), again["data"].pop("fraction")) == (0.5, 1.0)
    assert (trial["training"].pop("max_steps"), again["training"].pop("max_steps")) == (2, 4)
    assert trial | {"name": ""} == again | {"name": ""}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"axes": {"objective.logits.weight": [1]}}, "unknown objective 'logits'; did you mean 'logit'?"),
        ({"axes": {"training.lr": [1e-3]}}, "expected seed or objective.NAME.weight, got 'training.lr'"),
        ({"axes": {"objective.logit.temperature": [1]}}, "got 'objective.logit.temperature'"),
        ({"axes": {"objective.logit.weight": []}}, "expected at least one value"),
        ({"axes": {"objective.logit.weight": [0.5, 0.50]}}, "L0.5 appears twice"),
        ({"axes": {"objective.logit.weight": [-1]}}, "trial L-1: objective.logit.weight"),
        ({"axes": {"seed": [1.5]}}, "trial s1.5: seed"),
        ({"axes": {}}, "grid.axes"),
        ({"axes": {"objective.hard_target.weight": [0]}, "finalists": {"overrides": {}}}, ""),
        ({"finalists": {"overrides": {"data.fractoin": 1}}}, "data.fractoin"),
        ({"finalists": {"overrides": {"name.fraction": 1}}}, "name.fraction: name has no keys below it"),
        ({"finalists": {"overrides": {"training.precision": "fp32"}}}, "training.precision is one and the same"),
        ({"cohort_size": 0}, "grid.cohort_size"),
        ({"cohort": 2}, "grid.cohort (command line): unknown key"),
        ({"tasks": ["nothing"]}, "there is no folder 'nothing'"),
    ],
)
def test_wrong_grids_are_refused(
    call: Call, teacher: Path, write_config: WriteConfig, section: dict[str, Any], expected: str
) -> None:
    values = grid_values()
    if not expected:  # a trial without any term
        values["objective"] = {"hard_target": {"weight": 1.0}}
        expected = "trial hard_target0: objective: no term has a weight above 0"
    values["grid"] |= section
    code, _, errors = call(cli.main, ["grid", "--config", str(write_config(values))])
    assert code == 2
    assert expected.replace("command line", "run.yaml") in re.sub(r"\([^ ]*/run\.yaml\)", "(run.yaml)", errors)


# Parts and cohorts


def test_parts_share_out_everything_once() -> None:
    for count in range(1, 30):
        parts = [Part(index, count).of(range(25)) for index in range(count)]
        assert [trial for part in parts for trial in part] == list(range(25))
        assert max(map(len, parts)) == -(-25 // count)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["3/3", "1", "a/2", "-1/2", "1/0", "0/", "1/2/3"])
def test_a_part_that_there_is_not(text: str) -> None:
    with pytest.raises(UserError, match="expected I/N"):
        Part.read(text)


@pytest.mark.usefixtures("teacher")
@pytest.mark.parametrize(
    ("size", "part", "expected"),
    [
        (3, None, [2, 2]), (4, None, [4]), (1, None, [1, 1, 1, 1]), (4, Part(1, 3), [1]), (4, Part(5, 6), [1]),
        (4, Part(0, 9), []), (1, Part(1, 2), [1, 1]),
    ],
)  # fmt: skip
def test_cohorts_are_alike_in_size_and_of_one_part(size: int, part: Part | None, expected: list[int]) -> None:
    assert [len(cohort) for cohort in make_grid(cohort_size=size).cohorts(part) if cohort] == expected


@pytest.mark.usefixtures("teacher")
def test_by_default_as_many_as_the_free_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = make_grid()
    plan = grid.plans["L0.5-H1"]
    for students, expected in ((1, [1, 1, 1, 1]), (3, [2, 2]), (100, [4])):
        free = estimate.memory(plan, "cpu", students).total / estimate.USABLE
        monkeypatch.setattr(palenka.search.grid, "available_memory", lambda device, free=free: free + 100)
        assert fitting_cohort(plan, 200) == students
        assert [len(cohort) for cohort in grid.cohorts() if cohort] == expected
    monkeypatch.setattr(palenka.search.grid, "available_memory", lambda device: 0)
    assert fitting_cohort(plan, 200) == 1


@pytest.mark.usefixtures("teacher")
def test_flops_of_a_cohort_by_hand() -> None:
    plan = make_grid().plans["L0.5-H1"]
    alone = cohort_flops([plan])
    assert alone == 2 * 8 * 16 * estimate.flops_per_token(plan).of()
    # A further student costs itself and two projections of 16 × 24.
    further = 3 * estimate.forward_flops(plan.model, 16) + 6 * 768
    assert cohort_flops([plan] * 3) - alone == pytest.approx(2 * further * 2 * 8 * 16)


# The command


@pytest.fixture
def run(call: Call, teacher: Path, write_config: WriteConfig) -> Run:
    """run(values, *arguments) calls `palenka grid`."""

    def called(values: dict[str, Any], *arguments: str) -> tuple[int, str, str]:
        return call(cli.main, ["grid", "--config", str(write_config(values)), *arguments])

    return called


def test_the_whole_way(run: Run, runs_folder: Path) -> None:
    """Trials, selection, finalists; in parts or at once the same; nothing is done twice."""
    values = grid_values(finalists={"count": 2, "overrides": {"data.fraction": 1.0, "training.max_steps": 4}})
    code, output, _ = run(values, "grid.cohort_size=3")
    assert code == 0
    folder = runs_folder / "study" / "grid"
    selection = read_json(folder / "grid.json")
    losses = {label: read_json(folder / label / "result.json")["dev"]["cross_entropy"] for label in LABELS}
    order = sorted(LABELS, key=losses.__getitem__)
    assert [trial["cell"] for trial in selection["cells"]] == order
    assert [trial["rank"] for trial in selection["cells"]] == [1, 2, 3, 4]
    assert selection["cells"][0]["dev"]["cross_entropy"] == min(losses.values())
    assert [found["cell"] for found in selection["finalists"]] == order[:2]
    assert sorted(path.name for path in (folder / "finalists").iterdir()) == sorted(order[:2])
    assert read_json(folder / "finalists" / order[0] / "result.json")["steps"] == 4
    assert len(re.findall(r"^1  ", output, re.MULTILINE)) == 1 and order[0] in output
    assert "Ranked by dev cross-entropy alone" in output
    assert all((folder / label / "README.md").exists() for label in LABELS)

    before = snapshot(folder)
    cards = [f"{label}/README.md" for label in (*LABELS, *(f"finalists/{label}" for label in order[:2]))]
    code, _, errors = run(values)
    assert code == 0 and errors == ""
    after = snapshot(folder)
    assert {name: text for name, (text, _) in before.items()} == {name: text for name, (text, _) in after.items()}
    assert {name for name in before if before[name] != after[name]} <= {"grid.json", *cards}, "written anew, the same"

    other = values | {"name": "parts"}
    for part in ("0/3", "1/3", "2/3"):
        code, output, _ = run(other, "--part", part)
        assert code == 0 and "Ranked" not in output
    assert not (runs_folder / "parts" / "grid.json").exists()
    assert run(other, "--select")[0] == 0
    for number in ("1", "2"):
        assert run(other, "--finalist", number)[0] == 0
    for name in (*LABELS, *(f"finalists/{label}" for label in order[:2])):
        assert outcome(runs_folder / "parts" / name) == outcome(folder / name)


def test_selection_needs_all_trials_and_finalists_a_selection(run: Run, runs_folder: Path) -> None:
    values = grid_values({"objective.logit.weight": [0.1, 0.5, 1.0]})
    assert run(values, "--part", "0/3")[0] == 0
    code, _, errors = run(values, "--select")
    assert code == 2
    assert "not trained to their end: L0.5, L1" in errors
    code, _, errors = run(values, "--finalist", "1")
    assert code == 2
    assert "rank the trials first" in errors
    ranked = [{"cell": "L0.1", "rank": 1}, {"cell": "L9", "rank": 2}, {"cell": "L0.5", "rank": None}]
    write_json(runs_folder / "study" / "grid" / "grid.json", {"cells": ranked})
    for number, expected in (("0", "the first is 1"), ("3", "ranks 2 trials"), ("2", "a trial L9 that this grid")):
        code, _, errors = run(values, "--finalist", number)
        assert code == 2
        assert expected in errors


def test_a_trial_that_diverges_is_named_and_left_out(
    run: Run, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = grid_values({"objective.logit.weight": [0.1, 1e300]}, finalists={"count": 2})
    code, output, errors = run(values)
    assert code == 1 and "L1e300: the loss is inf" in errors
    assert "diverged" in output
    folder = runs_folder / "study" / "grid"
    selection = read_json(folder / "grid.json")
    assert [(trial["cell"], trial["rank"]) for trial in selection["cells"]] == [("L0.1", 1), ("L1e300", None)]
    assert "the loss is inf" in selection["cells"][1]["diverged"]
    assert [path.name for path in (folder / "finalists").iterdir()] == ["L0.1"]
    monkeypatch.setattr("palenka.training.cohort.side_by_side", lambda runs: pytest.fail("trained again"))
    code, _, errors = run(values)
    assert code == 1 and "is not trained again" in errors
    assert run(values, "--select")[0] == 0

    result = folder / "L0.1" / "result.json"
    result.write_bytes(b"")
    code, output, _ = run(values, "--select")
    assert code == 0 and f"L0.1: {result}: damaged: the file is empty" in output
    trials = {trial["cell"]: trial for trial in read_json(folder / "grid.json")["cells"]}
    assert trials["L0.1"]["rank"] is None and "the loss is inf" in trials["L1e300"]["diverged"]
    code, _, errors = run(values)
    assert code == 2 and f"{result}: damaged" in errors


def test_a_process_that_ends_first_does_not_fail_because_of_a_diverged_trial(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun ends all processes when one fails, and the first has the selection still to make."""
    def diverged(*arguments: Any) -> None:
        raise Diverged("the loss is inf")

    monkeypatch.setattr("palenka.commands.grid.train_cohorts", diverged)
    monkeypatch.setenv("RANK", "1")
    code, output, _ = run(grid_values({"objective.logit.weight": [0.1, 1e300]}))
    assert (code, output) == (0, "")


def test_a_taken_name_is_refused_before_any_training(run: Run, runs_folder: Path) -> None:
    assert run(grid_values({"objective.logit.weight": [0.1]}), "--part", "0/1")[0] == 0
    before = snapshot(runs_folder)
    code, _, errors = run(grid_values({"objective.logit.weight": [0.5, 0.1]}), "training.lr=0.5")
    assert code == 2
    assert "config.training.lr: 0.001 there, 0.5 here" in errors
    assert snapshot(runs_folder) == before


def test_the_dry_run_shows_cohorts_and_cost(run: Run, runs_folder: Path) -> None:
    code, output, _ = run(grid_values(cohort_size=2), "--dry-run")
    assert code == 0
    assert yaml.safe_load(output.split("\n\n")[0])["grid"]["cohort_size"] == 2
    assert re.search(r"a cohort of 2, 2 steps, about \S+ GiB: L0-H0.1, L0-H1\n.*L0.5-H0.1, L0.5-H1\n", output)
    assert [path.name for path in runs_folder.iterdir()] == ["teacher"]
    code, output, _ = run(grid_values(), "--dry-run", "--part", "3/4")
    assert "a cohort of 1, 2 steps" in output and "L0.5-H1" in output
    assert "no trial is left to train; then" in run(grid_values(), "--dry-run", "--part", "0/9")[1]


def test_the_dry_run_reckons_with_the_terms_of_each_trial_and_leaves_out_what_is_finished(run: Run) -> None:
    """The first trial here is a control, which costs and holds the least."""
    axes = {"objective.logit.weight": [0.0, 0.1, 0.5], "objective.hidden_state.weight": [0.0]}
    grid = make_grid(axes)
    control, trial = (grid.plans[label] for label in ("L0-H0", "L0.5-H0"))
    both = cohort_flops([control, trial, trial])
    of_control, of_trial = (estimate.flops_per_token(plan) for plan in (control, trial))
    assert of_control.teachers == 0 < of_trial.teachers
    expected = of_control.student + 2 * of_trial.student + of_trial.teachers
    assert both == 2 * 8 * 16 * expected
    values = grid_values(axes, cohort_size=3)
    alone = 2 * 8 * 16 * (of_control.of() + 2 * of_trial.of())
    assert f"  {both:.3g} FLOPs, {both / alone:.2f} of what" in run(values, "--dry-run")[1]
    assert run(values, "--part", "0/3")[0] == 0
    output = run(values, "--dry-run")[1]
    assert "finished already: L0-H0\n" in output and "a cohort of 2, 2 steps" in output


def test_a_finalist_of_another_grid_is_refused_before_any_training(run: Run, runs_folder: Path) -> None:
    values = grid_values({"objective.logit.weight": [0.1]}, finalists={"count": 1, "overrides": {}})
    assert run(values)[0] == 0
    shutil.rmtree(runs_folder / "study" / "grid" / "L0.1")
    before = snapshot(runs_folder)
    values["grid"]["finalists"]["overrides"] = {"training.lr": 0.5}
    code, _, errors = run(values)
    assert code == 2 and "config.training.lr" in errors
    assert snapshot(runs_folder) == before


def test_all_processes_train_the_first_ones_cohorts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sees another amount of free memory; what the first one chose is what they train."""

    def of_the_first(values: list[Any]) -> None:
        if values[0] and isinstance(values[0][0], list):
            values[0] = [[], *([name] for cohort in values[0] for name in cohort)]

    monkeypatch.setattr(palenka.search.grid, "broadcast_object_list", of_the_first)
    chosen = list(make_grid(cohort_size=4).to_train(Part(0, 1)))
    assert [len(cohort) for cohort in chosen] == [0, 1, 1, 1, 1]


def test_trials_are_evaluated_where_items_are(
    run: Run, runs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALENKA_EVAL", str(tmp_path / "items"))
    items = tmp_path / "items" / "blimp_filtered"
    items.mkdir(parents=True)
    orders = [{"sentence_good": f"The cat sees a {n}.", "sentence_bad": f"Cat the a {n} sees."} for n in tiny.NOUNS]
    (items / "order.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in orders), encoding="utf-8")
    values = grid_values({"objective.logit.weight": [0.1, 0.5]}, finalists={"count": 1})
    code, output, _ = run(values)
    assert code == 0
    assert len(re.findall(r"^.*L0\.\d .* \d+\.\d\d ± \d+\.\d\d$", output, re.MULTILINE)) == 3
    folder = runs_folder / "study" / "grid"
    assert (folder / "L0.1" / "evaluation" / "blimp_filtered.json").exists()
    assert set(read_json(folder / "grid.json")["cells"][0]["tasks"]) == {"blimp_filtered"}
    assert "blimp_filtered" in (folder / "L0.1" / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(palenka.search.grid, "evaluate", lambda *rest: pytest.fail("evaluated again"))
    assert run(values)[0] == 0

    broken = folder / "L0.1" / "evaluation" / "blimp_filtered.json"
    whole = read_json(broken)
    for content in (json.dumps(whole | {"accuracy": whole["accuracy"] + 0.1}), json.dumps(whole)[:40]):
        broken.write_text(content, encoding="utf-8")
        code, _, errors = run(values, "--select")
        assert code == 0 and f"{broken}: damaged" in errors and "(re-evaluate it)" in errors
        tasks = {trial["cell"]: set(trial["tasks"]) for trial in read_json(folder / "grid.json")["cells"]}
        assert tasks == {"L0.1": set(), "L0.5": {"blimp_filtered"}}


def test_the_table_is_ranked_by_cross_entropy_whatever_the_accuracies() -> None:
    def row(trial: str, rank: int, loss: float, accuracy: float) -> dict[str, Any]:
        tasks = {"blimp_filtered": {"accuracy": accuracy, "stderr": 0.005}}
        return {"cell": trial, "rank": rank, "dev": {"cross_entropy": loss, "bits_per_byte": loss / 3}, "tasks": tasks}

    trials = [row("L0.1", 1, 3.0, 0.61), row("L0.5", 2, 3.3, 0.72), {"cell": "L0.9", "rank": None, "diverged": "…"}]
    finalists = [row("L0.1", 0, 2.5, 0.7) | {"tasks": {}}]
    lines = selection_table({"name": "g", "cells": trials, "finalists": finalists}).splitlines()
    assert [line.split() for line in lines[1:8] if "---" not in line] == [
        ["rank", "trial", "nats/token", "bits/byte", "blimp_filtered"],
        ["1", "L0.1", "3.0000", "1.0000", "61.00", "±", "0.50"],
        ["2", "L0.5", "3.3000", "1.1000", "72.00", "±", "0.50"],
        ["–", "L0.9", "diverged"],
        ["retrained", "L0.1", "2.5000", "0.8333", "–"],
    ]


def test_the_free_memory_is_no_more_than_the_jobs_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = available_memory(tiny.CPU)
    assert 0 < here < 2**50
    files = dict.fromkeys(("", "memory"), (tmp_path, "limit", "anon"))
    monkeypatch.setattr(palenka.util.hardware, "CGROUP_FILES", files)
    (tmp_path / "memory.stat").write_text("file 900000\nanon 400000\ninactive_anon 300000\n")
    (tmp_path / "limit").write_text("1000000\n")
    assert available_memory(tiny.CPU) == 600_000, "what is in the file cache can be dropped"
    (tmp_path / "limit").write_text("max\n")
    assert available_memory(tiny.CPU) == pytest.approx(here, rel=0.5)


# The report


def test_the_report_draws_the_grid(runs_folder: Path) -> None:
    weights = {"objective.logit.weight": [0.1, 0.5], "objective.hidden_state.weight": [0.3, 0.7]}
    trials: list[dict[str, Any]] = []
    for logit, hidden, loss in ((0.1, 0.3, 3.125), (0.1, 0.7, 3.25), (0.5, 0.3, 3.5), (0.5, 0.7, None)):
        name = f"L{logit}-H{hidden}"
        terms = {"hard_target": {"weight": 1.0}, "logit": {"weight": logit}, "hidden_state": {"weight": hidden}}
        write_run(runs_folder, f"grid/{name}", objective=terms, dev=loss or 9.0, finished=loss is not None)
        trial: dict[str, Any] = {"cell": name, "rank": None, "values": dict(zip(weights, (logit, hidden), strict=True))}
        if loss:
            task = {"blimp_filtered": {"accuracy": loss / 5, "stderr": 0.01}}
            trial |= {"dev": {"cross_entropy": loss, "bits_per_byte": 1.0}, "tasks": task}
        trials.append(trial)
    grid = {"name": "grid", "axes": weights, "cells": trials, "finalists": trials[:1]}
    write_json(runs_folder / "grid" / "grid.json", grid)
    page = render(page_content(read_runs(["grid"])))
    pictures = {chart.label: chart for chart in charts(page) if "over the grid" in chart.label}
    assert [*pictures] == ["Dev cross-entropy over the grid", "blimp_filtered over the grid"]
    first, second = pictures.values()
    assert {"3.125", "3.250", "3.500", "diverged", "logit weight", "hidden_state weight"} <= {*texts(first)}
    assert "62.5 ± 1.0" in texts(second)
    assert first.svg(300).count('fill-opacity="0.56"') == 1, "the best is the deepest"


# Shipped


GRIDS = sorted(path for path in (ROOT / "config").rglob("*.yaml") if "axes" in (read_yaml(path).get("grid") or {}))


@pytest.mark.usefixtures("prepared", "runs_folder")
@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_a_shipped_grid_says_how_it_is_run_and_has_a_plan(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALENKA_EVAL", str(tmp_path))
    (tmp_path / "demo_pairs").mkdir()
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert f"#   palenka grid --config {path.relative_to(ROOT)}" in header
    short = ["data.name=tiny", "training.max_steps=3", "training.num_epochs=null"]
    described = load_grid(path, short, dry_run=True).describe()
    assert read_yaml(path)["name"] in described
    assert "of what the same runs cost one by one" in described


@pytest.mark.usefixtures("prepared", "runs_folder")
def test_the_studys_grid_is_the_published_one() -> None:
    short = ["data.name=tiny", "training.max_steps=3", "training.num_epochs=null"]
    grid = load_grid(ROOT / "config/grid/PalenkaLlama1-58M.yaml", short, dry_run=True)
    weights = ("0.1", "0.3", "0.5", "0.7", "0.9")
    assert list(grid.plans) == [f"L{logit}-H{hidden}" for logit in weights for hidden in weights]
    config = grid.plans["L0.1-H0.5"].config
    assert (config.data.fraction, config.terms["hard_target"].weight.start) == (0.2, 1.0)
    assert (grid.finalist.config.data.fraction, grid.config.grid.finalists.count) == (1.0, 3)
    vocabulary = tiny.TOKEN_IDS | {"vocab_size": 16_000}
    plan = grid.plans["L0.1-H0.5"]
    for model in (plan.model, *(teacher.model for teacher in plan.teachers)):
        model.update(vocabulary)
    in_a_cohort = 313 + 126 + (2047 + 82) / 25  # docs/grid.md
    assert cohort_flops([plan] * 25) / (25 * cohort_flops([plan])) == pytest.approx(in_a_cohort / 2568, abs=1e-3)
    tokens = 6 * 0.2 * 15e6  # as in the configs' headers: 10M words are 15 million tokens
    assert cohort_flops([plan] * 25) / (3 * 32 * 128) * tokens == pytest.approx(2.4e17, rel=0.02)
