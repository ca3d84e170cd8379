"""A search in the report: what a search.json, made by hand, says of its axes, its finalists and its best."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_runs import write_json, write_run
from page_charts import labels, texts

from palenka.report.importance import LEAST, average_ranks, importance
from palenka.report.page import page_content, render
from palenka.report.results import read_runs
from palenka.report.search_figures import axis_figure, budget_figure, coordinates_figure
from palenka.report.search_tables import finalists_table, headline, importance_text, selected
from palenka.report.searches import Search, without_trials
from palenka.report.tables import study_table
from palenka.report.vega import COLOURS
from palenka.report.write import report
from palenka.util.errors import UserError

LR, NAME, ADAM_LR = "training.lr", "training.optimizer.name", "training.optimizer.adam_lr"
AXES: dict[str, Any] = {
    NAME: {"choice": ["adamw", "muon"]},
    LR: {"log_uniform": [1e-4, 1e-1]},
    ADAM_LR: {"log_uniform": [1e-4, 1e-1], "when": {NAME: "muon"}},
}
BALANCED = ["adamw", "muon", "muon", "adamw"]  # of each four ranks in a row both have the same mean


def trial(number: int, dev: float | None, state: str = "finished", **values: Any) -> dict[str, Any]:
    named = {key: values[name] for name, key in (("lr", LR), ("name", NAME), ("adam_lr", ADAM_LR)) if name in values}
    found = {"number": number, "run": f"study/search/trial-{number:03d}", "values": named, "flops": 1e12}
    return found | {"state": state} | ({"dev": {"cross_entropy": dev, "bits_per_byte": dev / 3}} if dev else {})


def record(trials: Sequence[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    """A search.json, the finished trials first, by their loss."""
    in_order = sorted(trials, key=lambda each: each.get("dev", {}).get("cross_entropy", math.inf))
    found = {"name": "study/search", "sampler": "random", "asked": len(trials), "axes": AXES, "trials": in_order}
    return found | {"flops": 1e12 * len(trials), "budget": None, "finalists": []} | keys


def search(trials: Sequence[dict[str, Any]], **keys: Any) -> Search:
    return Search.model_validate(record(trials, **keys))


def decided_by_lr(count: int) -> list[dict[str, Any]]:
    """The larger the learning rate, the worse; the optimizer makes no difference."""
    return [trial(n, 3 + n / 10, lr=1e-4 * 1.3**n, name=BALANCED[n % 4]) for n in range(count)]


def said(found: Search, key: str) -> str:
    return importance_text(found.importance_of(key), len(found.over(key)))


def finalist(of: str, seed: int, dev: float, test: float | None = None) -> dict[str, Any]:
    return {"of": of, "seed": seed, "run": "", "state": "finished", "dev": dev} | ({"test": test} if test else {})


FINALISTS = [
    finalist("default", 1, 4.0, 4.5), finalist("trial-003", 1, 3.1, 3.7), finalist("trial-000", 1, 3.4, 3.6),
    finalist("default", 2, 4.2, 4.7), finalist("trial-003", 2, 3.5, 4.1), finalist("trial-000", 2, 3.4, 3.6),
]  # fmt: skip


# Importance


def test_an_axis_that_decides_everything_and_one_that_does_nothing() -> None:
    found = search(decided_by_lr(24))
    lr, name = found.importance_of(LR), found.importance_of(NAME)
    assert lr is not None and name is not None
    assert (lr.share, lr.low, lr.high) == pytest.approx((1, 1, 1)), "a parabola in ranks holds every monotone function"
    assert (name.share, name.low) == (0, 0) and name.high < 0.5
    assert said(found, LR) == "1.00 [1.00, 1.00], 24 trials"


def test_noise_is_in_the_interval() -> None:
    """Neighbours change places, which leaves a rank correlation of 1 − 6·24/(24·575)."""
    lr = importance(range(24), [n ^ 1 for n in range(24)], is_choice=False)
    assert lr is not None
    assert 0.95 < lr.share < 1 and lr.low < lr.share <= lr.high < 1
    small, large = (importance(range(n), [n * 7 % 11 for n in range(n)], is_choice=False) for n in (24, 240))
    assert small is not None and large is not None
    assert large.high - large.low < small.high - small.low, "more trials say more"


def test_a_best_value_in_the_middle_is_seen() -> None:
    """Ranks that grow as |u| are explained by u² to cov²/(var·var) = (1/12)² / (1/12 · 4/45) = 15/16."""
    found = importance(range(200), [abs(n - 99.5) for n in range(200)], is_choice=False)
    assert found is not None and found.share == pytest.approx(15 / 16, abs=0.005)


def test_choices_by_their_means() -> None:
    """Ranks 0…23 in three rows of eight: of a variance of (24² − 1)/12, (8² − 1)/12 is left within rows."""
    places = [n // 8 for n in (*range(16, 24), *range(8), *range(8, 16))]
    found = importance(places, [*range(16, 24), *range(8), *range(8, 16)], is_choice=True)
    assert found is not None and found.share == pytest.approx(1 - (8**2 - 1) / (24**2 - 1) * 23 / 21)
    assert found.low < found.share < found.high


def test_a_conditional_axis_is_rated_among_the_trials_that_have_it() -> None:
    def made(count: int) -> Search:
        muon = [trial(n, 3 + n / 100, lr=1e-3, name="muon", adam_lr=1e-4 * 1.1**n) for n in range(count)]
        return search([*muon, *(trial(count + n, 5 - n / 100, lr=1e-3, name="adamw") for n in range(24))])

    assert said(made(24), ADAM_LR) == "1.00 [1.00, 1.00], 24 trials"
    assert said(made(12), ADAM_LR) == "no statement from 12 trials"
    assert said(made(24), LR) == "no statement from 48 trials", "it has one value only"
    assert made(24).importance_of(NAME) is not None


@pytest.mark.parametrize("count", [0, 3, LEAST - 1])
def test_few_trials_allow_no_statement(count: int) -> None:
    found = search(decided_by_lr(count))
    assert said(found, LR) == f"no statement from {count} trials"
    assert search(decided_by_lr(LEAST)).importance_of(LR) is not None


def test_many_choices_need_many_trials() -> None:
    assert importance([n % 5 for n in range(24)], range(24), is_choice=True) is None
    assert importance([n % 5 for n in range(25)], range(25), is_choice=True) is not None


def test_what_did_not_finish_is_behind_what_did() -> None:
    """The later it was pruned, the better it was; what diverged is last, together."""
    early, late = ({"state": "pruned", "share": share, "loss": 2.0} for share in (0.25, 0.5))
    trials = [trial(0, None, "diverged"), trial(1, None) | early, trial(2, None) | late, trial(3, 9.0),
              trial(4, None, "diverged")]  # fmt: skip
    found = Search.model_validate(record([]) | {"trials": trials})
    assert average_ranks([each.outcome for each in found.trials]).tolist() == [3.5, 2, 1, 0, 3.5]


# Finalists


def test_finalists_beside_the_run_without_the_search() -> None:
    table = finalists_table(search(decided_by_lr(4), finalists=FINALISTS))
    assert table is not None and [row.head for row in table.rows] == ["default", "trial-003", "trial-000"]
    default, third, first = (row.cells for row in table.rows)
    assert third["search"].text == "3.3000"
    # The standard error of two values is half their distance; Student's t with one degree of freedom is Cauchy's.
    assert (third["dev"].text, third["dev"].spread) == ("3.3000", f"{0.2 * math.tan(0.475 * math.pi):.4f}")
    assert (third["dev difference"].text, third["test difference"].text) == ("−0.8000", "−0.7000")
    assert first["seeds"].text == "2" and default["dev difference"].text == ""
    assert not third["dev difference"].best, "two seeds so far apart say little"
    means = {"default": 4.0, "trial-000": 3.0}
    alike = [finalist(of, seed, dev + seed / 1000) for seed in (1, 2, 3) for of, dev in means.items()]
    table = finalists_table(search(decided_by_lr(4), finalists=alike))
    assert table is not None and table.rows[1].cells["dev difference"].best
    assert table.rows[1].cells["test"].text == "–"


def test_the_selected_is_named_with_the_optimism_of_selection() -> None:
    """It is 0.8 better than the default on the text that chose it, and 0.7 on another."""
    text = selected(search(decided_by_lr(4), finalists=FINALISTS))
    assert text.startswith("trial-003 is selected, by the least mean dev loss of 2 finalists, 3.3000 over 2 seeds.")
    assert "Beside default, −0.8000 ± " in text and text.endswith("the optimism of selection is +0.1000.")


def test_what_is_not_known_of_the_selected_is_said() -> None:
    waiting = [{"of": of, "seed": 1, "run": "", "state": "waiting"} for of in ("default", "trial-000")]
    for finalists in ([], waiting):
        found = search(decided_by_lr(4), finalists=finalists)
        assert finalists_table(found) is None
        assert selected(found).startswith("trial-000 is selected, by the least dev loss of 4 finished trials")
        assert selected(found).endswith("is not known: nothing has been trained anew.")
    of_dev = [finalist(of, 1, dev) for of, dev in (("default", 4.0), ("trial-000", 3.0))]
    found = search(decided_by_lr(4), finalists=[*of_dev, *waiting])
    assert selected(found).endswith("there is no loss on text that chose nothing.")
    table = finalists_table(found)
    assert table is not None and table.notes[0] == "2 finalists still to be trained."
    assert selected(search([trial(0, None, "running")])) == "No trial has finished yet."


# Figures and page


def test_how_far_it_is_and_what_it_cost() -> None:
    found = search([*decided_by_lr(2), trial(2, None, "running")], asked=9, budget=9e12)
    assert headline(found) == "3 of 9 trials by random: 2 finished, 1 running; 3e+12 of 9e+12 FLOPs."


def test_there_is_no_figure_of_what_is_not_known() -> None:
    unfinished = search([trial(0, None, "diverged", lr=1e-3)])
    assert axis_figure(unfinished, LR) is budget_figure(unfinished) is None
    without_costs = [each | {"flops": None} for each in decided_by_lr(3)]
    assert budget_figure(search(without_costs)) is None
    assert "training lr" in texts(axis_figure(search(without_costs), LR))


def test_lines_across_all_axes() -> None:
    """A line has a dot where its trial has the axis; ends are the values that were tried."""
    trials = [trial(n, 3 + n / 10, lr=1e-4 * 10**n, name="adamw") for n in range(3)]
    with_rate = [trial(3, 2.0, lr=1e-3, name="muon", adam_lr=2e-3), trial(4, None, "running", lr=0.1, name="muon")]
    figure = coordinates_figure(search([*trials, *with_rate]))
    assert figure is not None
    rows = figure.spec["layer"][0]["data"]["values"]
    assert sum(row["height"] is not None for row in rows) == 3 * 2 + 3, "what runs has no line yet"
    assert {"adamw", "muon", "0.0001", "0.01", "0.002", "lr", "adam_lr"} <= {*texts(figure)}
    assert figure.svg(600).count(f'stroke="{COLOURS["series-0"]}"') == 1, "the best of four is the best quarter"
    assert coordinates_figure(search(trials)) is None, "of three a quarter is none"
    alone = {"axes": {LR: AXES[LR]}}
    assert coordinates_figure(search(decided_by_lr(8), **alone)) is None


def test_what_is_far_worse_stands_on_top_and_finalists_are_ringed() -> None:
    """Dots lie at their losses; the pruned and the diverged at one height above them all."""
    ended = [trial(24, None, "diverged", lr=0.1, name="adamw"), trial(25, 9.0, lr=0.08, name="adamw")]
    figure = axis_figure(search([*decided_by_lr(24), *ended], finalists=FINALISTS), LR)
    assert figure is not None
    rows = {row["trial"]: row for row in figure.spec["data"]["values"]}
    near = {name for name, row in rows.items() if row["near"]}
    assert near == {f"trial-{number:03d}" for number in range(24)}
    assert all(rows[name]["y"] == rows[name]["dev"] for name in near)
    assert rows["trial-024"]["y"] == rows["trial-025"]["y"] > max(rows[name]["y"] for name in near)
    assert {name for name, row in rows.items() if row["retrained"]} == {"trial-000", "trial-003"}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALENKA_RUNS", str(tmp_path))
    return tmp_path


def write_search(runs: Path, content: dict[str, Any]) -> None:
    """With the runs of one trial and one finalist."""
    write_run(runs, "study/search/trial-000")
    write_run(runs, "study/search/finalists/default-s1", seed=1)
    write_json(runs / "study" / "search" / "search.json", content)


def test_the_page_has_the_search_of_its_runs(runs: Path) -> None:
    ended = [trial(24, None, "diverged", lr=0.1, name="muon", adam_lr=0.1),
             trial(25, None, "pruned", lr=0.09, name="muon", adam_lr=0.1) | {"share": 0.5, "loss": 6.0},
             trial(26, 9.0, lr=0.08, name="muon", adam_lr=0.1)]  # fmt: skip
    write_search(runs, record([*decided_by_lr(24), *ended], finalists=FINALISTS, budget=3e13))
    report(["study/search"], runs / "report.html")
    page = (runs / "report.html").read_text(encoding="utf-8")
    assert page.count("<h2>The search study/search</h2>") == 1, "of trial and finalist once"
    keys = re.findall(r"<figcaption><strong>([\w.]+)</strong>: ([^<]+)</figcaption>", page)
    assert [key for key, _ in keys] == [LR, NAME, ADAM_LR], "the most important one first"
    assert keys[2][1] == "no statement from 3 trials"
    of_all = "Dev cross-entropy against budget spent", "Trials across all axes"
    for label in (*(f"Trials over {key}" for key in AXES), *of_all):
        assert labels(page).count(label) == 1
    assert "the optimism of selection is +0.1000." in page
    of_runs = page.split("<h2>The study</h2>")[1]
    assert "default-s1" in of_runs and "trial-000" not in of_runs, "trials are dots of the search, and no rows"
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_report_of_other_runs_has_no_search(runs: Path) -> None:
    write_search(runs, record(decided_by_lr(3)))
    write_run(runs, "study/control")
    assert "The search" not in render(page_content(read_runs(["study/control"])))


def test_trials_are_rows_where_no_finalist_is_or_they_are_asked_for(runs: Path) -> None:
    write_search(runs, record(decided_by_lr(3), finalists=FINALISTS))
    write_run(runs, "study/control")
    found = {run.folder.name: run for run in read_runs(["study/search", "study/control"])}
    trial, finalist, control = (found[name] for name in ("trial-000", "default-s1", "control"))
    assert without_trials([trial, finalist, control]) == [finalist, control]
    assert without_trials([trial, control]) == [trial, control]
    (runs / "study" / "search" / "search.json").unlink()
    assert without_trials([trial, finalist]) == [trial, finalist], "folders of these names that no search made"


def test_what_was_pruned_says_so(runs: Path) -> None:
    folder = write_run(runs, "study/search/trial-000", finished=False)
    write_json(folder / "pruned.json", {"step": 100, "share": 0.25, "loss": 4.0, "place": 2, "of": 2})
    [run] = read_runs(["study/search/trial-000"])
    assert "trial-000 is not finished (pruned at step 100)." in study_table([run]).notes


def test_a_damaged_record_is_named(runs: Path) -> None:
    write_search(runs, {"name": "study/search"})
    with pytest.raises(UserError, match=r"search\.json: .*trials"):
        render(page_content(read_runs(["study/search"])))
