"""The study's tables, in GitHub's Markdown."""

from collections.abc import Callable, Sequence
from statistics import mean, stdev

import numpy as np
from arms import (
    ARMS,
    BLIMP,
    FLOORS,
    NOTHING,
    PLANNED,
    SUPPLEMENT,
    TEACHERS,
    Comparison,
    Correlation,
    Found,
    Records,
    between,
    estimate,
    floor,
    flops,
    found_comparisons,
    of_arm,
    points,
    within,
)

from palenka.evaluation.comparison import SeedDifference, compare_seeds

LEAST_RUNS = 6  # that a correlation is told of
LEAST_ARMS = 5  # the same between arms: of three, every order has a ρ of 0.5 or more in either direction


def leaderboard(records: Records) -> str:
    """Arms by their mean, and the baselines."""
    return table(*ranking(records))


def summary(records: Records) -> str:
    """The same without what only a reader of the study asks for."""
    shown = ("arm", "runs", "BLiMP", "dev, nats/token", "TFLOP")
    heads, rows = ranking(records)
    return table(shown, [[row[heads.index(head)] for head in shown] for row in rows])


def ranking(records: Records) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The heads and rows of the leaderboard."""
    arms = [arm for arm in (*TEACHERS, *ARMS) if points(of_arm(records, arm))]
    ranked = sorted(arms, key=lambda arm: -mean(points(of_arm(records, arm))))
    heads = ("arm", "runs", "BLiMP", "supplement", "dev, nats/token", "TFLOP", "minus control, 95 %", "p", "commit")
    floors = [
        (name, "", floor(records, BLIMP, key), floor(records, SUPPLEMENT, key), "", "", "", "", "")
        for key, name in FLOORS.items()
    ]
    return heads, [*(leaderboard_row(records, arm) for arm in ranked), *floors]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def leaderboard_row(records: Records, arm: str) -> tuple[str, ...]:
    runs = of_arm(records, arm)
    difference = compare_seeds(points(runs), points(of_arm(records, "control"))) if arm != "control" else None
    against = (interval(difference), p_value(difference.p)) if difference else (NOTHING, NOTHING)
    dev = spread([run["dev"]["cross_entropy"] for run in runs], 3)
    commits = ", ".join(sorted({f"`{run['commit'][:7]}`" for run in runs}))
    scores = spread(points(runs)), spread(points(runs, SUPPLEMENT))
    return (arm, str(len(runs)), *scores, dev, f"{mean(map(flops, runs)):.0f}", *against, commits)


def answers(records: Records) -> str:
    """What each planned comparison came to."""
    found = {each.comparison.number: each for each in found_comparisons(records)}
    heads = ("", "asked", "of", "runs", "BLiMP, points [95 %]", "p", "p, Holm", "")
    return table(heads, [answer_row(planned, found.get(planned.number)) for planned in PLANNED])


def answer_row(planned: Comparison, found: Found | None) -> tuple[str, ...]:
    if not found:
        sides = f"{' or '.join(planned.first)} − {' or '.join(planned.second)}"
        return (planned.number, planned.asks, sides, "", "", "", "", "not yet")
    of, runs, p = found.difference, f"{found.runs[0]}, {found.runs[1]}", found.difference.p
    sides = f"{found.first} − {found.second}"
    return (planned.number, planned.asks, sides, runs, interval(of), p_value(p), p_value(found.holm_p), found.answer)


def predictors(records: Records) -> str:
    """Spearman's ρ of dev metrics with BLiMP: between arms, of means; within, of what runs differ from their arms."""
    runs = [record for record in records if record["arm"] in ARMS and points([record])]
    if len(runs) < LEAST_RUNS:
        return f"Not yet: {len(runs)} of at least {LEAST_RUNS} runs."
    metrics = {
        "dev, nats/token": [run["dev"]["cross_entropy"] for run in runs],
        "training, nats/token, last steps": [run["train_loss"] for run in runs],
    }
    for domain in runs[0]["dev"]["domains"]:
        metrics[f"dev {domain}, bits/byte"] = [run["dev"]["domains"][domain] for run in runs]
    arms, scores = np.array([ARMS.index(run["arm"]) for run in runs]), np.array(points(runs))
    number = len(set(arms))
    rows = []
    for name, values in metrics.items():
        among, inside = (estimate(arms, np.array(values), scores, of) for of in (between, within))
        told = correlation(among) if number >= LEAST_ARMS else f"not yet: {number} arms"
        rows.append((name, told, correlation(inside)))
    return table(("metric", "between arms, ρ [95 %]", "within arms, ρ [95 %]"), rows)


def correlation(found: Correlation) -> str:
    return NOTHING if np.isnan(found.rho) else f"{signed(found.rho)} [{signed(found.low)}, {signed(found.high)}]"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation over seeds."""
    if not values:
        return NOTHING
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def interval(found: SeedDifference) -> str:
    return f"{signed(found.difference)} [{signed(found.low)}, {signed(found.high)}]"


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


TABLES: dict[str, Callable[[Records], str]] = {
    "leaderboard": leaderboard,
    "summary": summary,
    "answers": answers,
    "predictors": predictors,
}
