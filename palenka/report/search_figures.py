"""Figures of a search: its trials over each axis, and over what they cost."""

import math
import textwrap
from collections.abc import Collection, Mapping
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palenka.report.drawing import INK, MUTED, PAPER, RULE, SERIES, as_svg, axis_name, canvas
from palenka.report.searches import Search, SearchAxis

FAR = 1.5  # interquartile ranges above the third quartile, as in a box plot
LONGEST_VALUE = 12
FEWEST_LINES = 4
COLUMN = 110  # CSS pixels from axis to axis, at least
OTHERS: dict[str, Any] = {"color": MUTED, "alpha": 0.35, "linewidth": 0.8}
FEW = (1, 2, 5)  # ticks of an order of magnitude, where there is hardly more than one


def axis_figure(search: Search, key: str, name: str) -> str:
    """Dev loss of every trial over an axis; empty where none that has it has finished."""
    axis, trials = search.axes[key], search.over(key)
    if not any(trial.dev for trial in trials):
        return ""

    def draw() -> Figure:
        figure, axes = canvas(330, 190, 48, 10, 8, 36)
        places = {trial.number: axis.position(trial.values[key]) for trial in trials}
        _scale(axes, axis, places.values())
        _mark_trials(axes, search, places)
        axes.set_xlabel(f"1 − {axis_name(key)}" if axis.complement else axis_name(key))
        return figure

    return as_svg(f"axis-{name}", f"Trials over {key}", 330, 190, draw)


def _scale(axes: Axes, axis: SearchAxis, places: Collection[float]) -> None:
    if axis.choice is not None:
        axes.set_xlim(-0.5, len(axis.choice) - 0.5)
        axes.set_xticks(range(len(axis.choice)), [_short(value) for value in axis.choice])
    elif axis.is_logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=FEW if max(places) < 30 * min(places) else (1,)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    else:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def budget_figure(search: Search, name: str) -> str:
    """Dev loss of every trial, and the best so far, over the FLOPs of all up to it; empty where they are not known."""
    trials = sorted(search.trials, key=lambda trial: trial.number)
    costs = [trial.flops for trial in trials if trial.flops is not None]
    if len(costs) < len(trials) or not search.finished:
        return ""
    spent = np.cumsum(costs)
    best = np.fmin.accumulate([trial.dev.cross_entropy if trial.dev else np.nan for trial in trials])

    def draw() -> Figure:
        figure, axes = canvas(760, 240, 52, 12, 10, 40)
        axes.plot(spent, best, color=SERIES[0], linewidth=1.4, drawstyle="steps-post")
        ended = {trial.number: at for trial, at in zip(trials, spent, strict=True) if trial.state != "running"}
        _mark_trials(axes, search, ended)
        if search.budget:
            axes.axvline(search.budget, color=MUTED, linewidth=1, zorder=1)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        axes.set_xlabel("FLOPs of matrix products, trials by their number")
        axes.set_ylabel("dev cross-entropy, nats/token")
        return figure

    return as_svg(f"budget-{name}", "Dev cross-entropy against budget spent", 760, 240, draw)


def coordinates_figure(search: Search, name: str) -> str:
    """A line for each trial across all axes, the best quarter in colour; empty where there is but one axis, or too few
    trials for a quarter of them."""
    drawn = search.ended
    if len(search.axes) < 2 or len(drawn) < FEWEST_LINES or not search.finished:
        return ""
    best = {trial.number for trial in search.finished[: math.ceil(len(drawn) / 4)]}
    width = max(760, COLUMN * (len(search.axes) + 1))

    def draw() -> Figure:
        figure, axes = canvas(width, 280, 60, 60, 16, 56)
        heights = {key: _heights(search, key) for key in search.axes}
        for trial in sorted(drawn, key=lambda trial: trial.number in best):
            across = [heights[key].get(trial.number, math.nan) for key in search.axes]
            is_best = trial.number in best
            look = {"color": SERIES[0], "alpha": 0.85, "linewidth": 1.3} if is_best else OTHERS
            axes.plot(across, marker="o", markersize=2.5, **look)
        for place, key in enumerate(search.axes):
            axes.axvline(place, color=MUTED, linewidth=0.7, zorder=0)
            for height, text in _ends(search, key, heights[key]):
                axes.annotate(
                    text, (place, height), (5, 0), textcoords="offset points", va="center", fontsize=9,
                    bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
                )  # fmt: skip
        axes.set_xticks(range(len(search.axes)), [_wrapped(axis_name(key)) for key in search.axes])
        axes.tick_params(length=0)
        axes.set_yticks([])
        axes.set_ylim(-0.06, 1.06)
        axes.spines[:].set_visible(False)
        return figure

    return as_svg(f"coordinates-{name}", "Trials across all axes", width, 280, draw)


def _heights(search: Search, key: str) -> dict[int, float]:
    """Where each trial that has an axis is on it, from 0 to 1, as the axis is scaled."""
    axis, trials = search.axes[key], search.over(key)
    values = {trial.number: axis.position(trial.values[key]) for trial in trials}
    if axis.is_logarithmic:
        values = {number: math.log(value) for number, value in values.items()}
    low, high = (0.0, len(axis.choice) - 1.0) if axis.choice else (min(values.values()), max(values.values()))
    return {number: (value - low) / (high - low) if high > low else 0.5 for number, value in values.items()}


def _ends(search: Search, key: str, heights: Mapping[int, float]) -> list[tuple[float, str]]:
    """What is written along an axis: its choices, or the least and the largest number that were tried."""
    axis = search.axes[key]
    if axis.choice is not None:
        last = len(axis.choice) - 1
        return [(place / last if last else 0.5, _short(value)) for place, value in enumerate(axis.choice)]
    values = {trial.number: float(trial.values[key]) for trial in search.over(key)}
    ends = {heights[number]: f"{values[number]:.2g}" for number in (min(heights, key=heights.__getitem__),
            max(heights, key=heights.__getitem__))}  # fmt: skip
    return list(ends.items())


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 16))


def _mark_trials(axes: Axes, search: Search, places: Mapping[int, float]) -> None:
    """Dots for dev losses, a ring around finalists; strokes on top for what is far worse, and has none to compare."""
    losses = {trial.number: trial.dev.cross_entropy for trial in search.finished if trial.dev}
    low, quarter, third = np.quantile(list(losses.values()), [0, 0.25, 0.75])
    high = max(loss for loss in losses.values() if loss <= third + FAR * (third - quarter))
    room = 0.06 * (high - low) or 0.01
    dots = {number: loss for number, loss in losses.items() if number in places and loss <= high}
    ringed = [trial.number for trial in search.finished if trial.label in search.retrained and trial.number in dots]
    others = [place for number, place in places.items() if number not in dots]
    axes.scatter([places[n] for n in dots], list(dots.values()), s=20, color=SERIES[0], alpha=0.75, linewidths=0)
    at, of = [places[n] for n in ringed], [dots[n] for n in ringed]
    axes.scatter(at, of, s=70, facecolors="none", edgecolors=INK, linewidths=1.1)
    axes.scatter(others, [high + 2 * room] * len(others), s=36, color=MUTED, marker="|")
    axes.set_ylim(low - room, high + 3 * room)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
