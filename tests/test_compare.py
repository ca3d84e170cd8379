"""Comparison of two models: statistics by hand and under simulations with known truth, and the command."""

import itertools
import json
import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import yaml
from made_runs import blimp_outcomes, made_outcomes, write_evaluation, write_json, write_run, write_study
from shared_fixtures import Call

from palenka import cli
from palenka.evaluation.comparison import (
    ItemDifference,
    Outcomes,
    compare_items,
    compare_seeds,
    compare_with_one,
    discordant,
    holm,
    mean_outcomes,
    resampled,
)


def outcomes(**subtasks: list[float]) -> Outcomes:
    return {name: np.array(values, float) for name, values in subtasks.items()}


def compared(first: Outcomes, second: Outcomes, resamples: int = 2000, single_runs: bool = True) -> ItemDifference:
    return compare_items(first, second, resampled(first, second, resamples), list(first), single_runs)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (8, 1, 2 * (1 + 9) / 512),
        (2, 10, 2 * (1 + 12 + 66) / 4096),
        (7, 7, 1.0),
    ],
)
def test_mcnemar_by_hand(first: int, second: int, p: float) -> None:
    ahead, behind = outcomes(x=[1] * first + [0] * second + [1]), outcomes(x=[0] * first + [1] * second + [1])
    found = compared(ahead, behind, 2)
    assert (found.a_ahead, found.b_ahead) == (first, second)
    assert found.mcnemar_p == found.p == pytest.approx(p, rel=1e-12)
    assert compared(behind, ahead, 2).p == found.p


def test_holm_by_hand() -> None:
    # In order: 4 × 0.005, 3 × 0.01, max(0.03, 2 × 0.03), max(0.06, 0.04).
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_ties_of_one_side_are_discordant_and_weigh_half() -> None:
    # right–right, right–tie, tie–wrong, tie–tie, wrong–tie, wrong–right: all half points but the last.
    first, second = outcomes(x=[1, 1, 0.5, 0.5, 0, 0]), outcomes(x=[1, 0.5, 0, 0.5, 0.5, 1])
    assert discordant(first, second) == (2, 2)
    assert compared(first, second).difference == pytest.approx((0.5 + 0.5 - 0.5 - 1) / 6)


def test_a_model_against_itself() -> None:
    same = outcomes(x=[1, 0, 0.5], y=[1, 1])
    found = compared(same, same)
    assert (found.difference, found.low, found.high, found.a_ahead, found.p) == (0, 0, 0, 0, 1)


def test_swapping_the_sides_mirrors_everything() -> None:
    first, second = outcomes(x=[1, 1, 0.5, 0, 1, 0], y=[1, 0]), outcomes(x=[1, 0, 0, 0.5, 0, 0], y=[0, 1])
    one, other = compared(first, second, 20_000), compared(second, first, 20_000)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.a_ahead, one.p, one.mcnemar_p) == (other.b_ahead, other.p, other.mcnemar_p)
    assert one.low == pytest.approx(-other.high, abs=0.05)


def test_resamples_follow_the_distribution_of_resampled_items() -> None:
    """All 4^4 × 2^2 ways to draw the items of two subtasks, counted out, against the draws."""
    first, second = outcomes(x=[1, 1, 0, 0.5], y=[1, 0]), outcomes(x=[0, 1, 1, 0], y=[0, 0])
    steps = {name: first[name] - second[name] for name in first}
    means = {name: [np.mean(drawn) for drawn in itertools.product(values, repeat=len(values))]
             for name, values in steps.items()}  # fmt: skip
    exact = np.array([(x + y) / 2 for x in means["x"] for y in means["y"]])
    drawn = resampled(first, second, 100_000)
    macro = (drawn["x"] + drawn["y"]) / 2
    for value in np.unique(exact.round(6)):
        assert np.mean(np.isclose(macro, value)) == pytest.approx(np.mean(np.isclose(exact, value)), abs=0.008)
    assert set(macro.round(6)) <= set(exact.round(6))


def test_the_interval_is_the_quantiles_of_the_macro_mean() -> None:
    random = np.random.default_rng(1)
    first = {name: random.integers(0, 3, size) / 2 for name, size in (("x", 40), ("y", 8))}
    second = {name: random.integers(0, 3, len(values)) / 2 for name, values in first.items()}
    drawn = resampled(first, second, 500)
    found = compare_items(first, second, drawn, ["x", "y"])
    macro = sorted((drawn["x"] + drawn["y"]) / 2)
    assert macro[11] <= found.low <= macro[13]
    assert macro[486] <= found.high <= macro[488]


def test_the_interval_of_many_items_is_the_normal_one() -> None:
    random = np.random.default_rng(0)
    sizes = {"x": 4000, "y": 900, "z": 2500}
    first = {name: (random.random(size) < 0.7).astype(float) for name, size in sizes.items()}
    second = {name: np.where(random.random(len(of)) < 0.3, 1 - of, of) for name, of in first.items()}
    found = compared(first, second, 50_000)
    assert found.stderr is not None
    margin = NormalDist().inv_cdf(0.975) * found.stderr
    assert found.low == pytest.approx(found.difference - margin, abs=0.02 * margin)
    assert found.high == pytest.approx(found.difference + margin, abs=0.02 * margin)


def test_draws_of_a_subtask_depend_on_nothing_else_and_repeat() -> None:
    first, second = outcomes(x=[1, 0, 1, 1], y=[1, 0]), outcomes(x=[0, 0, 1, 0], y=[0, 1])
    alone = resampled({"x": first["x"]}, {"x": second["x"]}, 200)
    assert (alone["x"] == resampled(first, second, 200)["x"]).all()
    assert (alone["x"] != resampled(first, second, 200, seed=1)["x"]).any()


def test_subtasks_are_drawn_independently() -> None:
    values = [1.0] * 30 + [0.0] * 30
    first, second = outcomes(x=values, y=values), outcomes(x=[0.5] * 60, y=[0.5] * 60)
    drawn = resampled(first, second, 5000)
    assert abs(np.corrcoef(drawn["x"], drawn["y"])[0, 1]) < 0.05


def simulated(random: np.random.Generator, truth: dict[str, tuple[int, float, float]]) -> tuple[Outcomes, Outcomes]:
    """Outcomes of a pair of models, (items, accuracy of A, of B) by subtask, correlated through difficulty."""
    pair: tuple[Outcomes, Outcomes] = {}, {}
    for name, (size, *accuracies) in truth.items():
        difficulty = random.normal(size=size)
        for side, level in zip(pair, accuracies, strict=True):
            own = 0.8 * difficulty + 0.6 * random.normal(size=size)
            side[name] = (own < NormalDist().inv_cdf(level)).astype(float)
    return pair


@pytest.mark.slow
def test_intervals_cover_the_true_macro_difference() -> None:
    random = np.random.default_rng(0)
    truth = {"large": (800, 0.7, 0.66), "middle": (150, 0.55, 0.6), "small": (50, 0.8, 0.65)}
    known = sum(a - b for _, a, b in truth.values()) / 3
    runs = 400
    found = [compared(*simulated(random, truth), resamples=1000) for _ in range(runs)]
    assert 0.92 <= sum(each.low <= known <= each.high for each in found) / runs <= 0.98
    # The pooled difference, which subtasks of these sizes do not share, is elsewhere.
    pooled = sum(n * (a - b) for n, a, b in truth.values()) / 1000
    assert abs(pooled - known) > 0.01


@pytest.mark.parametrize("sizes", [{"only": 300}, {"large": 800, "middle": 150, "small": 50}])
def test_p_values_without_a_difference(sizes: dict[str, int]) -> None:
    random = np.random.default_rng(0)
    runs = 400
    null = {name: (size, 0.65, 0.65) for name, size in sizes.items()}
    found = [compared(*simulated(random, null), resamples=100) for _ in range(runs)]
    for p_values in ([each.p for each in found], [each.mcnemar_p for each in found]):
        shares = [sum(p is not None and p < level for p in p_values) / runs for level in (0.05, 0.5)]
        assert 0.01 <= shares[0] <= 0.08
        assert 0.38 <= shares[1] <= 0.58


def test_a_macro_difference_is_not_tested_by_counting_items() -> None:
    """A is better on the many items of one subtask, B on the few of two: the counts and the mean point elsewhere."""
    first = {"large": np.ones(1000), "s": np.zeros(20), "t": np.zeros(20)}
    second = {"large": np.repeat([0.0, 1.0], [60, 940]), "s": np.repeat([1.0, 0.0], [2, 18]),
              "t": np.repeat([1.0, 0.0], [2, 18])}  # fmt: skip
    found = compared(first, second)
    assert found.difference < 0 and found.a_ahead > found.b_ahead
    assert found.mcnemar_p is not None and found.mcnemar_p < 1e-6
    assert found.p > 0.1
    assert found.low < 0 < found.high


def test_several_runs_are_averaged_item_by_item() -> None:
    first = mean_outcomes([outcomes(x=[1, 1, 0]), outcomes(x=[1, 0, 0]), outcomes(x=[1, 0.5, 0])])
    assert first["x"].tolist() == [1, 0.5, 0]
    found = compared(first, outcomes(x=[0, 0.5, 0.5]), single_runs=False)
    assert found.mcnemar_p is None
    assert (found.a_ahead, found.b_ahead) == (1, 1)
    assert found.stderr is not None
    assert found.p == pytest.approx(2 * NormalDist().cdf(-found.difference / found.stderr))


def test_seeds_by_hand() -> None:
    # Means 3 and 6, variances 1 over 3 and 8 over 2: squared error 1/3 + 4, freedom (13/3)² / (1/18 + 16) = 1.16955.
    found = compare_seeds([2, 3, 4], [4, 8])
    assert found is not None
    assert found.difference == -3
    assert found.stderr == pytest.approx(math.sqrt(13 / 3))
    assert found.freedom == pytest.approx((13 / 3) ** 2 / (1 / 18 + 16))
    assert found.p == pytest.approx(0.3603582452)  # scipy.stats.ttest_ind(…, equal_var=False)
    # Equal variances and sizes give n + n − 2 = 4 degrees, t 2.776445.
    even = compare_seeds([1, 2, 3], [2, 3, 4])
    assert even is not None
    assert even.freedom == pytest.approx(4)
    assert even.high - even.difference == pytest.approx(2.776445 * math.sqrt(2 / 3), rel=1e-6)
    assert even.difference - even.low == pytest.approx(even.high - even.difference)


def test_seeds_against_one_run_by_hand() -> None:
    # Mean 10/3, variance 7/3 over 3: t = (10/3 − 4) / √(7/9) = −0.755929 with 2 degrees of freedom, of which
    # P(T > t) = ½ − t / (2 √(2 + t²)).
    found = compare_with_one([2, 3, 5], 4)
    assert found is not None
    assert (found.difference, found.stderr, found.freedom) == pytest.approx((-2 / 3, math.sqrt(7) / 3, 2))
    assert found.p == pytest.approx(1 - 0.755929 / math.sqrt(2 + 0.755929**2), rel=1e-5)
    assert found.high - found.difference == pytest.approx(4.302653 * math.sqrt(7) / 3, rel=1e-6)
    assert compare_with_one([2], 4) is compare_with_one([2, 2], 4) is None


@pytest.mark.parametrize(("first", "second"), [([0.5], [0.5, 0.6]), ([0.5], [0.6]), ([0.5, 0.5], [0.6, 0.6])])
def test_no_statement_over_seeds_without_spread(first: list[float], second: list[float]) -> None:
    assert compare_seeds(first, second) is None


@pytest.fixture
def compare(call: Call) -> Call:
    """compare("A", "B", …) runs the command; returns exit code, output and errors."""
    return lambda *arguments: call(cli.main, ["compare", *map(str, arguments)])


def fails(result: tuple[int, str, str], *expected: str) -> None:
    code, output, errors = result
    assert (code, output) == (2, "")
    assert errors.startswith("error: ") and errors.count("error:") == 1 and "Traceback" not in errors
    for text in expected:
        assert text in errors


def right(count: int, n: int = 100) -> list[float]:
    return [1.0] * count + [0.0] * (n - count)


def write_pair(runs_folder: Path, first: list[float], second: list[float]) -> list[Path]:
    folders = [write_run(runs_folder, name) for name in "ab"]
    for folder, values in zip(folders, (first, second), strict=True):
        write_evaluation(folder, "pairs", {"only": values})
    return folders


def change(path: Path, **values: Any) -> None:
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | values)


def test_the_numbers_of_two_runs(runs_folder: Path, compare: Call) -> None:
    # The first is right wherever the second is, and on 8 items more: McNemar 2 / 2^8.
    write_pair(runs_folder, right(58), right(50))
    code, output, _ = compare("a", "b", "--out", runs_folder / "deep" / "out.json")
    assert code == 0
    row = next(line for line in output.splitlines() if line.startswith("pairs "))
    assert row.split()[:4] == ["pairs", "58.00", "50.00", "+8.00"]
    assert row.split()[-4:] == ["0.0078", "8", "0", "0.0078"]
    assert "no statement over seeds is possible" in output
    stored = json.loads((runs_folder / "deep" / "out.json").read_text(encoding="utf-8"))["tasks"]["pairs"]
    items = stored["over_items"]
    assert (items["difference"], items["mcnemar_p"]) == (pytest.approx(0.08), pytest.approx(2 / 256))
    assert 0.02 < items["low"] < 0.04 and 0.12 < items["high"] < 0.15
    assert stored["over_seeds"] == {"a": [0.58], "b": [0.5], "difference": None}


@pytest.mark.slow
def test_a_study_fits_the_terminal_and_shows_only_what_differs(runs_folder: Path, compare: Call) -> None:
    write_study(runs_folder)
    code, brief, _ = compare("demo/teacher-llama", "demo/student-control")
    assert code == 0
    assert max(map(len, brief.splitlines())) <= 100
    _, everything, _ = compare("demo/teacher-llama", "demo/student-control", "--all", "--out", runs_folder / "out.json")
    assert max(map(len, everything.splitlines())) <= 100
    stored = json.loads((runs_folder / "out.json").read_text(encoding="utf-8"))["tasks"]
    parts = stored["blimp_filtered"]
    assert len(parts["subtasks"]) == 67 and len(parts["phenomena"]) == 13 and "fields" not in parts
    lines = {line.split()[0] for line in brief.splitlines() if line}
    significant = {name for name, part in parts["subtasks"].items() if part["p_holm"] < 0.05}
    assert {name for name in parts["subtasks"] if name in lines} == significant
    assert set(parts["subtasks"]) <= {line.split()[0] for line in everything.splitlines() if line}
    assert f"{len(significant)} of 67 subtasks" in brief
    # 67 subtasks of BLiMP, 4 of the supplement and 11 of EWoK are one family.
    every = [part for task in stored.values() for part in task["subtasks"].values()]
    assert len(every) == 82 and "82 subtasks" in brief
    assert [part["p_holm"] for part in every] == pytest.approx(holm([part["p"] for part in every]))
    assert "EWoK holds each item twice" in brief


def test_long_names_are_shortened(runs_folder: Path, compare: Call) -> None:
    name = "a_subtask_of_a_very_long_name" * 4
    for run, count in (("a", 90), ("b", 40)):
        write_evaluation(write_run(runs_folder, run), "pairs", {name: right(count), "other": right(50)})
    _, output, _ = compare("a", "b")
    assert max(map(len, output.splitlines())) <= 100
    assert f"{name[:40]}" in output and "…  90.00" in output


def test_a_phenomenon_is_a_mean_of_its_subtasks(runs_folder: Path, compare: Call) -> None:
    phenomena = {"x": "binding", "y": "binding", "z": "ellipsis"}
    for run, counts in (("a", (60, 80, 50)), ("b", (50, 60, 50))):
        values = dict(zip("xyz", map(right, counts), strict=True)) | {"y": right(counts[1], 400)}
        write_evaluation(write_run(runs_folder, run), "pairs", values, phenomena=phenomena)
    compare("a", "b", "--out", runs_folder / "out.json")
    parts = json.loads((runs_folder / "out.json").read_text(encoding="utf-8"))["tasks"]["pairs"]
    binding = parts["phenomena"]["binding"]
    assert binding["difference"] == pytest.approx((0.1 + 0.05) / 2)
    assert (binding["items"], binding["a_ahead"], binding["b_ahead"]) == (500, 30, 0)


@pytest.mark.parametrize("phenomena", [{"x": "binding", "y": "binding"}, {"x": "binding", "y": "ellipsis"}])
def test_phenomena_that_repeat_the_task_or_its_subtasks_are_left_out(
    runs_folder: Path, compare: Call, phenomena: dict[str, str]
) -> None:
    for run in "ab":
        write_evaluation(write_run(runs_folder, run), "pairs", {"x": right(60), "y": right(50)}, phenomena=phenomena)
    _, output, _ = compare("a", "b", "--all")
    assert "phenomena" not in output and "2 subtasks" in output


def write_seeds(runs_folder: Path, kind: str, counts: list[int], **options: Any) -> str:
    for seed, count in enumerate(counts):
        folder = write_run(runs_folder, f"{kind}-s{seed}", seed=seed, **options)
        write_evaluation(folder, "pairs", {"x": right(count), "y": right(50)})
    return ",".join(f"{kind}-s{seed}" for seed in range(len(counts)))


def test_groups_of_seeds(runs_folder: Path, compare: Call) -> None:
    kd, control = (
        write_seeds(runs_folder, "kd", [60, 62, 64], objective={"logit": {"weight": 1.0}}),
        write_seeds(runs_folder, "control", [50, 54, 58]),
    )
    code, output, _ = compare(kd, control, "--out", runs_folder / "out.json")
    assert code == 0 and "no statement over seeds" not in output and "McNemar" not in output
    stored = json.loads((runs_folder / "out.json").read_text(encoding="utf-8"))["tasks"]["pairs"]
    # Accuracies 0.55, 0.56, 0.57 and 0.50, 0.52, 0.54.
    over_seeds = stored["over_seeds"]["difference"]
    assert over_seeds["difference"] == pytest.approx(stored["over_items"]["difference"]) == pytest.approx(0.04)
    assert over_seeds["stderr"] == pytest.approx(math.sqrt((0.0001 + 0.0004) / 3))
    assert stored["over_items"]["mcnemar_p"] is None
    row = [line for line in output.splitlines() if line.startswith("pairs ")][1]
    assert row.split()[:7] == ["pairs", "56.00", "±1.00", "52.00", "±2.00", "+4.00", "±1.29"]


def test_one_seed_on_a_side_allows_no_statement_over_seeds(runs_folder: Path, compare: Call) -> None:
    kd, control = write_seeds(runs_folder, "kd", [60, 62], hidden_size=32), write_seeds(runs_folder, "control", [50])
    code, output, _ = compare(kd, control)
    assert code == 0
    assert "B has one seed: no statement over seeds is possible" in " ".join(output.split())


def test_a_seed_of_the_data_is_a_seed(runs_folder: Path, compare: Call) -> None:
    group, other = write_seeds(runs_folder, "a", [60, 62]), write_seeds(runs_folder, "b", [50])
    path = runs_folder / "a-s1" / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(config | {"data": config["data"] | {"seed": 7}, "seed": 0}), encoding="utf-8")
    assert compare(group, other)[0] == 0
    path.write_text(yaml.safe_dump(config | {"seed": 0}), encoding="utf-8")
    fails(compare(group, other), "a-s0 and a-s1: the same seeds (0, None)")
    path.write_text(yaml.safe_dump(config | {"training": config["training"] | {"lr": 0.5}}), encoding="utf-8")
    fails(compare(group, other), "differ in more than their seeds", "training.lr: 0.001 there, 0.5 here")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"convention": "2025"}, "evaluated under the protocols 2024 and 2025"),
        ({"identity": {"items": "9f3a"}}, "items of the same number but other content (digests unknown and 9f3a)"),
    ],
)
def test_what_was_evaluated_differently(runs_folder: Path, compare: Call, values: dict[str, Any], reason: str) -> None:
    _, second = write_pair(runs_folder, right(58), right(50))
    change(second / "evaluation" / "pairs.json", **values)
    fails(compare("a", "b"), f"pairs: a and b cannot be compared: {reason}")


def test_other_items(runs_folder: Path, compare: Call) -> None:
    write_pair(runs_folder, right(58), right(50, 90))
    fails(compare("a", "b"), "subtask only with 100 and 90 items")


def test_a_missing_evaluation(runs_folder: Path, compare: Call) -> None:
    write_evaluation(write_run(runs_folder, "a"), "pairs", {"only": right(60)})
    write_run(runs_folder, "b")
    fails(compare("a", "b"), "no task on which all were evaluated (a: pairs; b: none)")
    fails(compare("a", "b", "--tasks", "pairs"), "not evaluated on 'pairs': b")
    fails(compare("a", "nobody"), "no run 'nobody'")


def test_tasks_of_one_side_are_named_and_left_out(runs_folder: Path, compare: Call) -> None:
    first, _ = write_pair(runs_folder, right(58), right(50))
    write_evaluation(first, "more", {"only": right(50)})
    assert "Left out, since not all runs were evaluated on it: more." in compare("a", "b")[1]
    fails(compare("a", "b", "--tasks", "pairz"), "not evaluated on 'pairz': a, b; did you mean 'pairs'?")


def test_missing_and_contradicting_items(runs_folder: Path, compare: Call) -> None:
    first, second = write_pair(runs_folder, right(58), right(50))
    path = second / "evaluation" / "pairs.items.jsonl"
    path.write_text((first / "evaluation" / "pairs.items.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    fails(compare("a", "b"), "pairs.items.jsonl: contradicts the accuracies in pairs.json")
    path.write_text('{"item": 1}\n', encoding="utf-8")
    fails(compare("a", "b"), "pairs.items.jsonl: a line lacks subtask")
    path.unlink()
    fails(compare("a", "b"), "pairs.items.jsonl: missing")


def test_twins_are_drawn_together(runs_folder: Path, compare: Call) -> None:
    # Both twins of 8 of 50 clusters differ: 8 discordant draws, not 16.
    for name, count in (("a", 58), ("b", 42)):
        write_evaluation(write_run(runs_folder, name), "ewok", {"only": right(count)}, twins=True)
    code, _, _ = compare("a", "b", "--out", runs_folder / "out.json")
    items = json.loads((runs_folder / "out.json").read_text(encoding="utf-8"))["tasks"]["ewok"]["over_items"]
    assert (code, items["items"], items["a_ahead"], items["b_ahead"]) == (0, 50, 8, 0)
    assert (items["difference"], items["mcnemar_p"]) == (pytest.approx(0.16), pytest.approx(2 / 256))


def test_each_protocol_is_compared_by_itself(runs_folder: Path, compare: Call) -> None:
    for name, count in (("a", 58), ("b", 42)):
        folder = write_run(runs_folder, name)
        write_evaluation(folder, "pairs", {"only": right(50)})
        write_evaluation(folder, "pairs", {"only": right(count)}, protocol="2025")
    for protocol, difference in (("2024", 0.0), ("2025", 0.16)):
        code, _, _ = compare("a", "b", "--out", runs_folder / "out.json", "--protocol", protocol)
        task = json.loads((runs_folder / "out.json").read_text(encoding="utf-8"))["tasks"]["pairs"]
        assert (code, task["convention"]) == (0, protocol)
        assert task["over_items"]["difference"] == pytest.approx(difference)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a", "a"], "named 2 times"),
        (["a,b", "a"], "named 2 times"),
        (["a", "b", "--out", "."], "is a folder"),
    ],
)
def test_wrong_arguments(runs_folder: Path, compare: Call, arguments: list[str], reason: str) -> None:
    write_pair(runs_folder, right(58), right(50))
    fails(compare(*arguments), reason)


def test_a_model_folder_that_is_no_run(runs_folder: Path, compare: Call) -> None:
    write_pair(runs_folder, right(58), right(50))
    (runs_folder / "a" / "config.yaml").unlink()
    assert "+8.00" in compare("a", "b")[1]


def test_few_items_are_pointed_out(runs_folder: Path, compare: Call) -> None:
    for name in "ab":
        values = {"long": right(50), "short": right(3, 5)}
        write_evaluation(write_run(runs_folder, name), "pairs", values)
    assert "Fewer than 20 items, so that intervals are too narrow: short." in compare("a", "b")[1]


def test_the_same_call_says_the_same(runs_folder: Path, compare: Call) -> None:
    for name, skill in (("a", 0.6), ("b", 0.65)):
        found, phenomena = blimp_outcomes(skill, name, n=20)
        folder = write_run(runs_folder, name)
        write_evaluation(folder, "blimp_filtered", found, phenomena=phenomena)
        write_evaluation(folder, "other", made_outcomes({"x": 50, "y": 20}, skill, name))
    whole = compare("a", "b")[1]
    assert whole == compare("a", "b")[1]
    row = next(line for line in whole.splitlines() if line.startswith("other"))
    alone = compare("a", "b", "--tasks", "other")[1]
    assert row.split()[:7] == next(line for line in alone.splitlines() if line.startswith("other ")).split()[:7]
