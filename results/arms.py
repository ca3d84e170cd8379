"""The study's records, its arms, the comparisons that results/PLAN.md plans, and what comes out of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from palenka.evaluation.comparison import SeedDifference, compare_seeds, compare_with_one, holm

HERE = Path(__file__).parent
BLIMP, SUPPLEMENT = "blimp_filtered", "supplement_filtered"
FLOORS = {"zipf": "*word frequency*", "ngram": "*5-gram*"}
TEACHERS = ("teacher-gpt2", "teacher-llama")
ARMS = ("control", "kd", "kd-equal-flops", "dskd", "babyllama", "palenkallama-as-run", "mix", "kd-mix", "chain",
        "control-6M")  # fmt: skip
LEVEL = 0.05
RESAMPLES = 10_000
NOTHING = "–"

Record = dict[str, Any]
Records = Sequence[Record]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """A planned one: its number in results/PLAN.md, what it asks, and each side's arms, of which the best is taken.

    Where the first side has a choice, its p counts as that of as many comparisons.
    """

    number: str
    asks: str
    first: tuple[str, ...]
    second: tuple[str, ...]


PLANNED = (
    Comparison("1a", "KD beats the control, equal tokens", ("kd",), ("control",)),
    Comparison("1b", "KD beats the control, equal FLOPs", ("kd-equal-flops",), ("control",)),
    Comparison("2", "deep supervision adds to KD", ("dskd",), ("kd",)),
    Comparison("3", "the scale of the KL alone", ("palenkallama-as-run",), ("babyllama",)),
    Comparison("4", "a student beats its best teacher", ("kd",), TEACHERS),
    Comparison("5a", "a mixed objective beats KD", ("mix",), ("kd",)),
    Comparison("5b", "KD and a mixed objective add", ("kd-mix",), ("kd", "mix")),
    Comparison("6", "a chain of students gains", ("chain",), ("kd",)),
    Comparison("aim", "two points over BabyLlama's, no more FLOPs", ("control", "mix", "kd-mix"), ("babyllama",)),
)


@dataclass(frozen=True)
class Found:
    """A comparison that could be made: the arms taken, their runs, the difference in points, p corrected by Holm."""

    comparison: Comparison
    first: str
    second: str
    runs: tuple[int, int]
    difference: SeedDifference
    holm_p: float

    @property
    def answer(self) -> str:
        if self.holm_p >= LEVEL:
            return "no difference shown"
        return "higher" if self.difference.difference > 0 else "lower"


def read_records() -> Records:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "study").glob("*.json"))]


def of_arm(records: Records, arm: str) -> Records:
    return [record for record in records if record["arm"] == arm]


def points(records: Records, task: str = BLIMP) -> list[float]:
    """Accuracies in percent, by seed."""
    return [100 * record["scores"][task]["accuracy"] for record in records if task in record["scores"]]


def flops(record: Record) -> float:
    """In TFLOP: the training, its teachers' passes and their trainings."""
    return sum(record["flops"].values()) / 1e12


def found_comparisons(records: Records) -> list[Found]:
    """Those of the plan that have the runs; p is corrected as if all had been made."""
    made = []
    for planned in PLANNED:
        first, second = (best(records, side) for side in (planned.first, planned.second))
        difference = compared(points(of_arm(records, first)), points(of_arm(records, second)), planned)
        if difference is not None:
            made.append((planned, first, second, difference))
    chosen = [min(1.0, len(planned.first) * difference.p) for planned, *_, difference in made]
    corrected = holm(chosen + [1.0] * (len(PLANNED) - len(made)))
    found = []
    for (planned, first, second, difference), p in zip(made, corrected, strict=False):
        sizes = (len(of_arm(records, first)), len(of_arm(records, second)))
        found.append(Found(planned, first, second, sizes, difference, p))
    return found


def compared(first: list[float], second: list[float], planned: Comparison) -> SeedDifference | None:
    if planned.second == TEACHERS:
        return compare_with_one(first, second[0]) if second else None
    return compare_seeds(first, second)


def best(records: Records, arms: Sequence[str]) -> str:
    """The arm with the highest mean on BLiMP."""
    return max(arms, key=lambda arm: mean(points(of_arm(records, arm)) or [0.0]))


def floor(records: Records, task: str, key: str) -> str:
    found = [record["scores"][task]["floors"].get(key) for record in records if task in record["scores"]]
    return f"{100 * found[0]:.2f}" if found and found[0] is not None else NOTHING


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ and its 95 % interval by resampling runs; no numbers where there are too few."""

    rho: float
    low: float
    high: float


def estimate(arms: Ints, values: Floats, scores: Floats, of: Callable[[Ints, Floats, Floats], float]) -> Correlation:
    """`of`, which is `between` or `within`, of all runs, and its interval."""
    random = np.random.default_rng(0)
    samples = random.integers(len(arms), size=(RESAMPLES, len(arms)))
    found = of(arms, values, scores)
    if np.isnan(found):
        return Correlation(found, found, found)
    drawn = [of(arms[rows], values[rows], scores[rows]) for rows in samples]
    return Correlation(found, *np.nanquantile(drawn, [0.025, 0.975]))


def between(arms: Ints, values: Floats, scores: Floats) -> float:
    kinds = np.unique(arms)
    return rho(*(np.array([of[arms == kind].mean() for kind in kinds]) for of in (values, scores)))


def within(arms: Ints, values: Floats, scores: Floats) -> float:
    repeated = [kind for kind in np.unique(arms) if (arms == kind).sum() > 1]
    parts = [[of[arms == kind] - of[arms == kind].mean() for kind in repeated] for of in (values, scores)]
    return rho(*map(np.concatenate, parts)) if repeated else float("nan")


def rho(one: Floats, other: Floats) -> float:
    """Spearman's; no number of fewer than three, or of what does not vary."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
