"""The figures of a study, as inline SVG."""

from collections.abc import Callable, Iterable

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from palenka.report import comparison
from palenka.report.comparison import Group
from palenka.report.drawing import (
    BAND,
    DASHES,
    INK,
    MUTED,
    PAPER,
    RULE,
    SERIES,
    as_svg,
    axis_name,
    canvas,
    style,
)  # fmt: skip
from palenka.report.results import Acquisition, Grid, GridTrial, Run

MOST_POINTS = 240
BEGINNING = 0.12
BASELINE_DASHES = {"zipf": (0, (1, 1.2)), "ngram": (0, (4, 1.5))}


def x_key(runs: Iterable[Run]) -> str:
    """What curves are drawn against: words, else tokens, else steps, the first that every record has."""
    records = [record for run in runs for record in run.metrics]
    return next((key for key in ("words", "tokens") if all(key in record for record in records)), "step")


def _series(run: Run, split: str, term: str, key: str) -> NDArray[np.float64]:
    """(points, 2) array of x and the term."""
    points = [(r[key], r[term]) for r in run.metrics if r.get("split") == split and r.get(term) is not None]
    return np.array(points, dtype=float).reshape(-1, 2)


def _binned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most MOST_POINTS points, each the mean of its neighbours."""
    if len(points) <= MOST_POINTS:
        return points
    return np.array([part.mean(axis=0) for part in np.array_split(points, MOST_POINTS)])


def train_term(run: Run) -> str:
    """Where a run's training cross-entropy stands: `cross_entropy` of a plain one, `hard_target` of a student; `loss`
    where no term is named."""
    recorded = {term for record in run.metrics for term in ("cross_entropy", "hard_target") if term in record}
    return min(recorded, default="hard_target" if run.weights else "loss")


def terms(runs: list[Run]) -> list[str]:
    """Objective terms besides the cross-entropy that any run has logged."""
    named = [term for run in runs for term in run.weights if term != "hard_target"]
    return [term for term in dict.fromkeys(named) if any(term in r for run in runs for r in run.metrics)]


def comparison_figure(runs: list[Run]) -> str:
    """Dev cross-entropy of all runs; empty where none has a dev record."""
    key = x_key(runs)
    curves = [(number, _series(run, "dev", "loss", key)) for number, run in enumerate(runs)]
    curves = [(number, points) for number, points in curves if len(points)]
    if not curves:
        return ""

    def draw() -> Figure:
        figure, axes = canvas(760, 300, 52, 12, 10, 40)
        for place, (number, points) in enumerate(curves):
            every = max(1, len(points) // 10)
            axes.plot(
                *points.T,
                **style(number, 5.5),
                linewidth=1.5,
                linestyle=DASHES[number // len(SERIES) % len(DASHES)],
                markevery=(place % every, every),
            )
        axes.set_ylim(*_limits([points for _, points in curves]))
        _x_axis(axes, key)
        axes.set_ylabel("dev cross-entropy, nats/token")
        axes.grid(axis="y", color=RULE, linewidth=0.7)
        return figure

    return as_svg("dev", "Dev cross-entropy of all runs during training", 760, 300, draw)


def milestone_tasks(runs: list[Run]) -> list[str]:
    """Tasks that milestones were scored on during training."""
    found = [r for run in runs for r in run.metrics if r.get("split") == "evaluation"]
    return list(dict.fromkeys(key for record in found for key in record if f"{key}_stderr" in record))


def milestone_figure(runs: list[Run], task: str, name: str) -> str:
    """Accuracy of the runs' milestones over the words seen, ± one standard error, on one task."""

    def draw() -> Figure:
        figure, axes = canvas(760, 240, 52, 12, 10, 40)
        for number, run in enumerate(runs):
            points = _series(run, "evaluation", task, "words")
            errors = 100 * _series(run, "evaluation", f"{task}_stderr", "words")[:, 1]
            words, accuracy = points[:, 0], 100 * points[:, 1]
            dashes = DASHES[number // len(SERIES) % len(DASHES)]
            axes.plot(words, accuracy, **style(number, 5.5), linewidth=1.5, linestyle=dashes)
            band = (accuracy - errors, accuracy + errors)
            axes.fill_between(words, *band, color=SERIES[number % len(SERIES)], alpha=0.15, linewidth=0)
        for chance in {100 * run.evaluations[task].chance for run in runs if task in run.evaluations}:
            axes.axhline(chance, color=MUTED, linewidth=1, zorder=1)
        _words_axis(axes.xaxis, axes.set_xscale)
        axes.set_xlabel("words seen")
        axes.set_ylabel("accuracy, %")
        axes.grid(axis="y", color=RULE, linewidth=0.7)
        return figure

    return as_svg(f"milestones-{name}", f"Accuracy on {task} during training", 760, 240, draw)


SHOWN_WORDS = 6


def curves_figure(acquired: Acquisition, name: str) -> str:
    """Surprisal of some words over the words seen, evenly from those that are learned first to those learned last.

    Of words whose curve determines their age; nothing where there are none.
    """
    aged = sorted((word for word in acquired.words if word.is_determined), key=lambda word: word.age or 0)
    chosen = [aged[place] for place in dict.fromkeys(np.linspace(0, len(aged) - 1, SHOWN_WORDS).astype(int)) if aged]
    if not chosen:
        return ""
    seen = [milestone.seen for milestone in acquired.milestones]

    def draw() -> Figure:
        figure, axes = canvas(760, 260, 52, 90, 10, 40)
        for number, word in enumerate(chosen):
            axes.plot(seen, word.surprisals, **style(number, 4.5), linewidth=1.2)
            axes.annotate(
                word.word, (seen[-1], word.surprisals[-1]), (8, 0), textcoords="offset points", va="center",
                fontsize=10.5,
            )  # fmt: skip
        _words_axis(axes.xaxis, axes.set_xscale)
        axes.set_xlabel("words seen")
        axes.set_ylabel("surprisal, nats")
        axes.grid(axis="y", color=RULE, linewidth=0.7)
        return figure

    return as_svg(f"word-curves-{name}", "Surprisal of some words during training", 760, 260, draw)


def ages_figure(acquired: Acquisition, name: str) -> str:
    """When the model and when children know words; hollow where the model's curve does not determine it.

    Nothing where no word has an age.
    """
    known = [word for word in acquired.words if word.child is not None and word.age is not None]
    if not known:
        return ""

    def draw() -> Figure:
        figure, axes = canvas(760, 300, 60, 12, 10, 40)
        for is_determined, fill in ((False, "none"), (True, SERIES[0])):
            chosen = [word for word in known if word.is_determined == is_determined]
            months, seen = [word.child or 0 for word in chosen], [10 ** (word.age or 0) for word in chosen]
            axes.scatter(months, seen, s=20, facecolors=fill, edgecolors=SERIES[0], linewidths=0.9)
        _words_axis(axes.yaxis, axes.set_yscale)
        axes.set_xlabel("age at which half of the children know the word, months")
        axes.set_ylabel("words seen by the model")
        axes.grid(color=RULE, linewidth=0.7)
        return figure

    return as_svg(f"ages-{name}", "Ages at which model and children know words", 760, 300, draw)


def _words_axis(axis: Axis, set_scale: Callable[[str], None]) -> None:
    set_scale("log")
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


GRID_CELL, GRID_MARGINS = (74, 34), (64, 46)  # width and height in CSS pixels


def grid_width(grid: Grid) -> int:
    """Width of a grid's figure in CSS pixels, at which its letters have the size of others."""
    return GRID_MARGINS[0] + GRID_CELL[0] * len(list(grid.axes.values())[1])


def grid_figure(grid: Grid, task: str | None, name: str) -> str:
    """A grid of two axes as a table of colours: dev cross-entropy, or the accuracy on a task; finalists are framed.

    Deeper is better. Trials without a value diverged, or were not evaluated.
    """
    (x_key, columns), (y_key, rows) = reversed(grid.axes.items())
    chosen = {trial.label for trial in grid.finalists}
    values = {trial.label: value for trial in grid.trials if (value := _grid_value(trial, task)) is not None}
    low, high = min(values.values()), max(values.values())
    width, height = grid_width(grid), GRID_MARGINS[1] + GRID_CELL[1] * len(rows)

    def draw() -> Figure:
        figure, axes = canvas(width, height, GRID_MARGINS[0] - 4, 4, 4, GRID_MARGINS[1] - 4)
        for trial in grid.trials:
            x, y = columns.index(trial.values[x_key]), rows.index(trial.values[y_key])
            value = values.get(trial.label)
            if value is not None:
                share = (value - low) / (high - low) if high > low else 0.0
                depth = 0.06 + 0.5 * (share if task else 1 - share)
                axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=SERIES[0], alpha=depth, linewidth=0))
            if trial.label in chosen:
                axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, edgecolor=INK, linewidth=1.4))
            axes.text(x, y, _grid_text(trial, task), ha="center", va="center", fontsize=9.5)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
        axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
        axes.set_xlabel(axis_name(x_key))
        axes.set_ylabel(axis_name(y_key))
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        return figure

    return as_svg(f"grid-{name}", f"{task or 'Dev cross-entropy'} over the grid", width, height, draw)


def _grid_value(trial: GridTrial, task: str | None) -> float | None:
    if task is None:
        return trial.dev.cross_entropy if trial.dev else None
    return trial.tasks[task].accuracy if task in trial.tasks else None


def _grid_text(trial: GridTrial, task: str | None) -> str:
    if trial.dev is None:
        return "diverged"
    if task is None:
        return f"{trial.dev.cross_entropy:.3f}"
    found = trial.tasks.get(task)
    return f"{100 * found.accuracy:.1f} ± {100 * found.stderr:.1f}" if found else "–"


def _limits(curves: list[NDArray[np.float64]]) -> tuple[float | None, float | None]:
    """Bounds that show all but the beginning, where every model falls from the uniform guess."""
    start = BEGINNING * max(float(points[:, 0].max()) for points in curves)
    values = np.concatenate([points[points[:, 0] >= min(start, points[-1, 0]), 1] for points in curves])
    values = values[np.isfinite(values)]
    if not len(values):
        return None, None
    low, high = float(values.min()), float(values.max())
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _x_axis(axes: Axes, key: str) -> None:
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axes.set_xlabel(f"{key}s" if key == "step" else f"{key} seen")


def term_panels(runs: list[Run], term: str | None) -> list[tuple[int, str]]:
    """One panel per run that has the term (None: cross-entropy, train and dev), axes shared: (run number, svg)."""
    key = x_key(runs)
    drawn = []
    for number, run in enumerate(runs):
        train = _series(run, "train", term or train_term(run), key)
        dev = _series(run, "dev", "loss", key) if term is None else np.empty((0, 2))
        if len(train) or len(dev):
            drawn.append((number, _binned(train), dev))
    if not drawn:
        return []
    curves = [points for _, train, dev in drawn for points in (train, dev) if len(points)]
    right = max(float(points[:, 0].max()) for points in curves)
    limits, log = _limits(curves), _wants_log(curves)
    name = term or "cross_entropy"

    def panel(number: int, train: NDArray[np.float64], dev: NDArray[np.float64]) -> str:
        def draw() -> Figure:
            figure, axes = canvas(330, 190, 42, 10, 8, 36)
            axes.plot(*train.T, color=SERIES[number % len(SERIES)], linewidth=1.1, alpha=0.55)
            axes.plot(*dev.T, **style(number, 4.5), linewidth=1.4, markevery=max(1, len(dev) // 8))
            _mark_best(axes, runs[number], dev, key)
            if log:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
                axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            else:
                axes.set_ylim(*limits)
            _x_axis(axes, key)
            axes.set_xlim(0, right * 1.02)
            axes.grid(axis="y", color=RULE, linewidth=0.7)
            return figure

        return as_svg(f"{name}-{number}", f"Training curve: {name}", 330, 190, draw)

    return [(number, panel(number, train, dev)) for number, train, dev in drawn]


def _wants_log(curves: list[NDArray[np.float64]]) -> bool:
    """A term that spans more than a factor of 30 is drawn on a logarithmic axis."""
    values = np.concatenate([points[:, 1] for points in curves])
    return bool(np.isfinite(values).all() and values.min() > 0 and values.max() / values.min() > 30)


def _mark_best(axes: Axes, run: Run, dev: NDArray[np.float64], key: str) -> None:
    """A ring on the dev curve, around the step whose weights were kept."""
    if run.result is None or not len(dev):
        return
    found = [r for r in run.metrics if r.get("split") == "dev" and r.get("step") == run.result.best_step]
    for record in found[:1]:
        axes.plot(record[key], record["loss"], "o", markersize=9, markerfacecolor="none", markeredgecolor=INK)


def phenomena_figure(runs: list[Run], task: str, name: str) -> str:
    """Dot plot of accuracy per phenomenon: one row each, best on top, and the mean of the task last."""
    groups = {
        number: comparison.phenomena(run.evaluations[task])
        for number, run in enumerate(runs)
        if task in run.evaluations
    }
    evaluations = {number: runs[number].evaluations[task] for number in groups}
    rows = sorted({key for found in groups.values() for key in found}, key=lambda key: (-_level(groups, key), key))
    overall = {
        number: Group("mean over subtasks", found.accuracy, found.stderr, comparison.baselines(found))
        for number, found in evaluations.items()
    }
    lines = [{n: found[key] for n, found in groups.items() if key in found} for key in rows] + [overall]
    labels = [_short(key) for key in rows] + ["mean over subtasks"]
    step = 9 if len(groups) <= 6 else 7
    row = max(24, step * len(groups) + 10)
    left = 14 + 6.0 * max(len(label) for label in labels)
    width, height = 760, row * len(lines) + 46

    def draw() -> Figure:
        figure, axes = canvas(width, height, left, 14, 4, 42)
        for place, line in enumerate(lines):
            if place % 2 == 0:
                axes.axhspan(place - 0.5, place + 0.5, color=BAND, linewidth=0, zorder=0)
            _row(axes, place, line, list(groups), step / row)
        axes.axhline(len(lines) - 1.5, color=MUTED, linewidth=0.7)
        for chance in sorted({100 * found.chance for found in evaluations.values()}):
            axes.axvline(chance, color=MUTED, linewidth=1, zorder=1)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_yticks(range(len(lines)), labels, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -1), min(high, 101))
        axes.set_xlabel("accuracy, %")
        axes.grid(axis="x", color=RULE, linewidth=0.7, zorder=0)
        axes.set_axisbelow(True)
        return figure

    return as_svg(f"phenomena-{name}", f"Accuracy per phenomenon, {task}", width, height, draw)


def _row(axes: Axes, place: int, line: dict[int, Group], numbers: list[int], step: float) -> None:
    """One phenomenon: its baselines as strokes across the row, then each run on its own height."""
    span = [place - 0.42, place + 0.42]
    for baseline, dashes in BASELINE_DASHES.items():
        known = [100 * group.baselines[baseline] for group in line.values() if baseline in group.baselines]
        for value in sorted(set(known)):
            axes.plot([value, value], span, color=INK, linewidth=1.4, linestyle=dashes, zorder=2)
    for rank, number in enumerate(numbers):
        if number not in line:
            continue
        group = line[number]
        axes.errorbar(
            100 * group.accuracy,
            place + (rank - (len(numbers) - 1) / 2) * step,
            xerr=200 * group.stderr,
            fmt="none",
            ecolor=SERIES[number % len(SERIES)],
            elinewidth=1.2,
            zorder=3,
        )
        axes.plot(
            100 * group.accuracy,
            place + (rank - (len(numbers) - 1) / 2) * step,
            **style(number, 7),
            markeredgecolor=PAPER,
            markeredgewidth=0.7,
            zorder=4,
        )


def _level(groups: dict[int, dict[str, Group]], key: str) -> float:
    return float(np.mean([found[key].accuracy for found in groups.values() if key in found]))


def _short(name: str) -> str:
    words = name.replace("_", " ")
    return words if len(words) <= 34 else f"{words[:33]}…"
