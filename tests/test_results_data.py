"""results/: its tables and figures are what its data make, and the data make what was computed by hand."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import write_evaluation, write_run
from scipy import stats

from palenka.report.results import read_run
from palenka.util.paths import ROOT

RESULTS = ROOT / "results"
sys.path.append(str(RESULTS))  # its programs import each other

import arms  # noqa: E402
import make  # noqa: E402
import tables  # noqa: E402
from record import record  # noqa: E402

RECORDS = sorted((RESULTS / "study").glob("*.json"))


def made(arm: str, *scores: float, dev: float = 4.0) -> list[dict[str, Any]]:
    """Records of an arm's seeds with these accuracies, in percent."""
    return [
        {
            "run": f"{arm}-s{seed}", "arm": arm, "seed": seed, "commit": "0123456789ab", "train_loss": dev - 0.1,
            "flops": {"student": 3e13, "teachers": 1e13, "trainings": 6e13},
            "dev": {"cross_entropy": dev + seed / 100, "domains": {"childes": 2.0 - seed / 10}},
            "scores": {"blimp_filtered": {"accuracy": score / 100, "floors": {"zipf": 0.581, "ngram": None}}},
        }
        for seed, score in enumerate(scores)
    ]  # fmt: skip


def cells(table: str, first: str) -> list[str]:
    """Of the row that begins with it."""
    row = next(line for line in table.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_texts_and_figures_are_what_the_data_make() -> None:
    ran = subprocess.run([sys.executable, "results/make.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_what_is_stale_is_named_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "STUDY.md"
    text.write_text("before\n<!-- made: leaderboard -->\n\nold\n\n<!-- made -->\nafter\n")
    for name, value in {"ROOT": tmp_path, "TEXTS": (text,), "FIGURES": tmp_path / "figures"}.items():
        monkeypatch.setattr(make, name, value)
    monkeypatch.setattr(make, "read_records", lambda: made("control", 50, 52))
    monkeypatch.setattr(sys, "argv", ["make.py", "--check"])
    assert make.main() == 1
    assert "old" in text.read_text()
    monkeypatch.setattr(sys, "argv", ["make.py"])
    assert make.main() == 0
    content = text.read_text()
    assert re.fullmatch(r"before\n<!-- made: leaderboard -->\n\n\|.+\|\n\n<!-- made -->\nafter\n", content, re.S)
    assert "| control | 2 | 51.00 ± 1.41 |" in content
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"arms.svg", "costs.svg", "dev.svg"}
    monkeypatch.setattr(sys, "argv", ["make.py", "--check"])
    assert make.main() == 0


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_repeats_its_run(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["run"] == path.stem
    assert re.fullmatch(rf"{re.escape(found['arm'])}(-s{found['seed']})?", path.stem)
    assert found["config"]["name"] == f"sample/{path.stem}"
    assert (ROOT / re.search(r"--config (\S+)", found["command"])[1]).is_file()  # type: ignore[index]
    assert re.fullmatch(r"[0-9a-f]{12}", found["commit"])
    assert "/" not in found["command"].split()[0]


def test_a_record_of_a_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "sample/kd-s1", objective={"hard_target": {}, "logit": {}}, seed=1, dev=3.5)
    write_evaluation(folder, "blimp_filtered", {"one": [1.0, 0.0], "two": [1.0, 1.0]})
    run = read_run(folder)
    run.environment = {
        "commit": "0123456789ab", "command": "/somewhere/bin/palenka search --config x.yaml", "platform": "Linux",
        "python": "3.11", "torch": "2.13.0", "transformers": "5.23.0",
    }  # fmt: skip
    found = record(run)
    assert (found["run"], found["arm"]) == ("kd-s1", "kd")
    assert found["command"] == "palenka search --config x.yaml"
    assert found["dev"]["cross_entropy"] == 3.5
    last = [line for line in run.metrics if line["split"] == "train" and line["step"] > 300]
    assert found["train_loss"] == pytest.approx(sum(line["hard_target"] for line in last) / 10)
    assert found["scores"]["blimp_filtered"]["accuracy"] == 0.75
    assert found["scores"]["blimp_filtered"]["subtasks"] == {"one": 0.5, "two": 1.0}
    assert json.loads(json.dumps(found)) == found


def test_a_row_of_the_leaderboard_by_hand() -> None:
    # Means 56 and 53, standard deviations 1 and 2; Welch: 3 ± t · √(1/3 + 4/3), of scipy.
    records = made("kd", 55, 56, 57) + made("control", 51, 53, 55)
    table = tables.leaderboard(records)
    welch = stats.ttest_ind([55, 56, 57], [51, 53, 55], equal_var=False)
    low, high = welch.confidence_interval()
    assert cells(table, "kd") == [
        "kd", "3", "56.00 ± 1.00", "–", "4.010 ± 0.010", "100", f"+3.00 [{low:+.2f}, {high:+.2f}]".replace("-", "−"),
        f"{welch.pvalue:.3f}", "`0123456`",
    ]  # fmt: skip
    assert cells(table, "control")[-3:-1] == ["–", "–"]
    assert cells(table, "*word frequency*")[2] == "58.10"
    assert cells(table, "*5-gram*")[2] == "–"
    assert table.index("| kd |") < table.index("| control |")
    assert cells(tables.summary(records), "kd") == ["kd", "3", "56.00 ± 1.00", "4.010 ± 0.010", "100"]
    assert cells(tables.summary(records), "*5-gram*") == ["*5-gram*", "", "–", "", ""]


def test_planned_comparisons_are_corrected_for_all_of_the_plan() -> None:
    records = made("kd", 55, 56, 57) + made("control", 51, 53, 55) + made("dskd", 60, 61, 62.5)
    found = {each.comparison.number: each for each in arms.found_comparisons(records)}
    assert set(found) == {"1a", "2"}
    least = stats.ttest_ind([60, 61, 62.5], [55, 56, 57], equal_var=False).pvalue
    other = stats.ttest_ind([55, 56, 57], [51, 53, 55], equal_var=False).pvalue
    assert found["2"].holm_p == pytest.approx(9 * least)
    assert found["1a"].holm_p == pytest.approx(min(1, 8 * other))
    assert found["1a"].answer == "no difference shown"
    assert cells(tables.answers(records), "6")[-1] == "not yet"


def test_the_best_of_several_arms_is_taken_and_paid_for() -> None:
    records = made("babyllama", 50, 50.5, 51) + made("mix", 55, 56, 57) + made("control", 51, 53, 55)
    found = {each.comparison.number: each for each in arms.found_comparisons(records)}["aim"]
    assert (found.first, found.second) == ("mix", "babyllama")
    assert found.holm_p == pytest.approx(9 * 3 * stats.ttest_ind([55, 56, 57], [50, 50.5, 51], equal_var=False).pvalue)
    assert found.answer == "no difference shown"


def test_a_student_is_held_against_its_better_teacher() -> None:
    records = made("kd", 55, 56, 58) + made("teacher-gpt2", 54) + made("teacher-llama", 57)
    found = next(each for each in arms.found_comparisons(records) if each.comparison.number == "4")
    assert (found.second, found.runs) == ("teacher-llama", (3, 1))
    assert found.difference.p == pytest.approx(stats.ttest_1samp([55, 56, 58], 57).pvalue)


def test_correlations_between_and_within_arms() -> None:
    # Means 7/3 and 41/3, and 0.8/3 and 10.3/3. Ranks of what runs differ from them: 2 4 5 1 3 6 and 2 3 5 1 4 6, so
    # that ρ = 1 − 6 · 2 / (6 · 35).
    kinds, values = np.array([0, 0, 0, 1, 1, 1]), np.array([1.0, 2, 4, 10, 13, 18])
    scores = np.array([0.1, 0.2, 0.5, 3, 3.4, 3.9])
    assert arms.within(kinds, values, scores) == pytest.approx(1 - 12 / 210)
    assert np.isnan(arms.between(kinds, values, scores))  # of two arms
    kinds, values = np.append(kinds, 2), np.append(values, 0)
    assert arms.between(kinds, values, np.append(scores, 9)) == pytest.approx(-0.5)  # ranks 2 3 1 and 1 2 3
    assert arms.within(kinds, values, np.append(scores, 9)) == pytest.approx(1 - 12 / 210)


def test_a_table_of_what_predicts() -> None:
    records = made("control", 50, 51, 52.5, dev=4.2) + made("kd", 55, 56, 57, dev=4.1) + made("dskd", 60, 61, 62, dev=4)
    assert cells(tables.predictors(records), "dev, nats/token")[1] == "not yet: 3 arms"
    records += made("mix", 63, dev=3.9) + made("chain", 64, dev=3.8)
    rows = tables.predictors(records)
    assert cells(rows, "dev, nats/token")[1].startswith("−1.00 [")
    assert cells(rows, "dev childes, bits/byte")[2].startswith("−")
    assert cells(rows, "dev, nats/token")[2].startswith("+")
    assert tables.predictors(records[:5]).startswith("Not yet: 5")


def test_spearman_is_that_of_scipy() -> None:
    random = np.random.default_rng(3)
    one, other = random.normal(size=(2, 12)).round(1)
    assert arms.rho(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


def planned_arms() -> Iterator[str]:
    for planned in arms.PLANNED:
        yield from (*planned.first, *planned.second)


def test_the_plan_names_every_arm_and_the_makefile_trains_it() -> None:
    plan, makefile = ((RESULTS / name).read_text(encoding="utf-8") for name in ("PLAN.md", "study.mk"))
    trained = re.findall(r"^(?:ARMS|TEACHERS) := (.+)$", makefile, re.MULTILINE)
    assert set(planned_arms()) <= {name for line in trained for name in line.split()}
    assert [arm for arm in arms.ARMS if f"`{arm}`" not in plan and arm != "control-6M"] == []


@pytest.mark.parametrize("ended", [False, True])
def test_a_search_is_made_again_until_it_has_ended(tmp_path: Path, ended: bool) -> None:
    search = tmp_path / "search/sample-control"
    search.mkdir(parents=True)
    (search / "search.json").write_text("{}")  # written after every trial
    if ended:
        (search / ".searched").touch()
    command = ["make", "-n", "-f", "results/study.mk", f"PALENKA_RUNS={tmp_path}", str(search / ".searched")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ("palenka search" in ran.stdout) is not ended
