"""Charts of a search: its trials over each axis, and over what they cost."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from palenka.report.searches import Search, SearchAxis, SearchTrial
from palenka.report.vega import INK, MUTED, PAPER, Chart, Spec, axis, axis_name, chart, colour

FAR = 1.5  # interquartile ranges above the third quartile, as in a box plot
LONGEST_VALUE = 12
FEWEST_LINES = 4


def axis_figure(search: Search, key: str) -> Chart | None:
    """Dev loss of every trial over an axis; None where none that has it has finished."""
    of, trials = search.axes[key], search.over(key)
    if not any(trial.dev for trial in trials):
        return None
    places = {trial.number: _shown_value(of, trial.values[key]) for trial in trials}
    title = f"1 − {axis_name(key)}" if of.complement else axis_name(key)
    spec = _dots(search, places, _horizontal(of, title)) | {"height": 150}
    return chart(f"Trials over {key}", spec)


def _shown_value(of: SearchAxis, value: Any) -> float | str:
    return _short(value) if of.choice is not None else of.position(value)


def _horizontal(of: SearchAxis, title: str) -> Spec:
    if of.choice is not None:
        order = [_short(value) for value in of.choice]
        return {"type": "nominal", "sort": order, "title": title, "axis": {"labelAngle": 0}}
    kind = {"type": "log", "format": "~g"} if of.is_logarithmic else {}
    return axis(title, tickCount=5, padding=6, **kind)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def budget_figure(search: Search) -> Chart | None:
    """Dev loss of every trial, and the best so far, over the FLOPs of all up to it; None where they are not known."""
    trials = sorted(search.trials, key=lambda trial: trial.number)
    costs = [trial.flops for trial in trials if trial.flops is not None]
    if len(costs) < len(trials) or not search.finished:
        return None
    spent = np.cumsum(costs).tolist()
    best = np.fmin.accumulate([trial.dev.cross_entropy if trial.dev else np.nan for trial in trials]).tolist()
    reached = [{"x": at, "y": value} for at, value in zip(spent, best, strict=True) if not math.isnan(value)]
    ended = {trial.number: at for trial, at in zip(trials, spent, strict=True) if trial.state != "running"}
    x = axis("FLOPs of matrix products, trials by their number", zero=True, format="~s", tickCount=5)
    dots = _dots(search, ended, x, "dev cross-entropy, nats/token")
    line: Spec = {"data": {"values": reached},
                  "mark": {"type": "line", "interpolate": "step-after", "color": colour(0), "strokeWidth": 1.4},
                  "encoding": {"y": {"field": "y", "type": "quantitative"}}}  # fmt: skip
    end: list[Spec] = [{"data": {"values": [{"x": search.budget}]}, "mark": {"type": "rule"}}] if search.budget else []
    spec = dots | {"height": 240, "layer": [line, *end, *dots["layer"]]}
    return chart("Dev cross-entropy against budget spent", spec)


def coordinates_figure(search: Search) -> Chart | None:
    """A line for each trial across all axes, the best quarter in colour; None where there is but one axis, or too few
    trials for a quarter of them."""
    drawn = search.ended
    if len(search.axes) < 2 or len(drawn) < FEWEST_LINES or not search.finished:
        return None
    best = {trial.number for trial in search.finished[: math.ceil(len(drawn) / 4)]}
    heights = {key: _heights(search, key) for key in search.axes}
    rows = [
        {"trial": trial.label, "axis": axis_name(key), "height": heights[key].get(trial.number),
         "value": str(trial.values.get(key, "–")), "dev": trial.dev.cross_entropy if trial.dev else None}
        for trial in drawn for key in search.axes
    ]  # fmt: skip
    labels = [of for trial in drawn if trial.number in best for of in [trial.label]]
    ends = [{"axis": axis_name(key), "height": height, "text": text}
            for key in search.axes for height, text in _ends(search, key, heights[key])]  # fmt: skip
    order = [axis_name(key) for key in search.axes]
    is_best = {"test": f"indexof({labels!r}, datum.trial) >= 0"}
    shown = [{"field": "trial"}, {"field": "axis"}, {"field": "value"}, {"field": "dev", "format": ".4f"}]
    spec: Spec = {
        "height": 260,
        "encoding": {
            "x": {"field": "axis", "type": "nominal", "sort": order, "title": None, "scale": {"type": "point"},
                  "axis": {"labelAngle": 0, "labelColor": INK, "grid": True, "domain": False, "ticks": False,
                           "labelExpr": "split(datum.label, ' ')", "gridColor": MUTED}},
            "y": {"field": "height", "type": "quantitative", "axis": None, "scale": {"domain": [-0.06, 1.06]}},
        },
        "layer": [
            {"data": {"values": rows}, "mark": {"type": "line", "point": {"size": 14}},
             "encoding": {
                 "detail": {"field": "trial"}, "tooltip": shown,
                 "color": {"condition": is_best | {"value": colour(0)}, "value": MUTED},
                 "opacity": {"condition": is_best | {"value": 0.85}, "value": 0.35},
             }},
            {"data": {"values": ends},
             "mark": {"type": "text", "align": "left", "dx": 6, "stroke": PAPER, "strokeWidth": 3, "fontSize": 10},
             "encoding": {"text": {"field": "text"}}},
            {"data": {"values": ends}, "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 10},
             "encoding": {"text": {"field": "text"}}},
        ],
    }  # fmt: skip
    return chart("Trials across all axes", spec)


def _heights(search: Search, key: str) -> dict[int, float]:
    """Where each trial that has an axis is on it, from 0 to 1, as the axis is scaled."""
    of, trials = search.axes[key], search.over(key)
    values = {trial.number: of.position(trial.values[key]) for trial in trials}
    if of.is_logarithmic:
        values = {number: math.log(value) for number, value in values.items()}
    low, high = (0.0, len(of.choice) - 1.0) if of.choice else (min(values.values()), max(values.values()))
    return {number: (value - low) / (high - low) if high > low else 0.5 for number, value in values.items()}


def _ends(search: Search, key: str, heights: Mapping[int, float]) -> list[tuple[float, str]]:
    """What is written along an axis: its choices, or the least and the largest number that were tried."""
    of = search.axes[key]
    if of.choice is not None:
        last = len(of.choice) - 1
        return [(place / last if last else 0.5, _short(value)) for place, value in enumerate(of.choice)]
    values = {trial.number: float(trial.values[key]) for trial in search.over(key)}
    ends = {heights[number]: f"{values[number]:.2g}" for number in (min(heights, key=heights.__getitem__),
            max(heights, key=heights.__getitem__))}  # fmt: skip
    return list(ends.items())


def _dots(search: Search, places: Mapping[int, float | str], x: Spec, title: str | None = None) -> Spec:
    """Dots for dev losses, a ring around finalists; strokes on top for what is far worse, and has none to compare."""
    losses = {trial.number: trial.dev.cross_entropy for trial in search.finished if trial.dev}
    low, quarter, third = np.quantile(list(losses.values()), [0, 0.25, 0.75]).tolist()
    high = max(loss for loss in losses.values() if loss <= third + FAR * (third - quarter))
    room = 0.06 * (high - low) or 0.01
    by_number = {trial.number: trial for trial in search.trials}
    rows = [_row(by_number[number], place, losses.get(number), high, room, search) for number, place in places.items()]
    shown = [{"field": "trial"}, {"field": "x", "title": str(x["title"]).partition(",")[0]},
             {"field": "dev", "title": "dev, nats/token", "format": ".4f"}, {"field": "state"}]  # fmt: skip
    ring = {"type": "point", "filled": False, "size": 130, "stroke": INK, "strokeWidth": 1.1}
    return {
        "data": {"values": rows},
        "encoding": {
            "x": x | {"field": "x"},
            "y": axis(title, domain=[low - room, high + 3 * room]) | {"field": "y"},
        },
        "layer": [
            {"mark": {"type": "point", "size": 34, "opacity": 0.75, "color": colour(0)},
             "transform": [{"filter": "datum.near"}], "encoding": {"tooltip": shown}},
            {"mark": ring, "transform": [{"filter": "datum.near && datum.retrained"}]},
            {"mark": {"type": "tick", "orient": "vertical", "color": MUTED, "bandSize": 9, "thickness": 1.4},
             "transform": [{"filter": "!datum.near"}], "encoding": {"tooltip": shown}},
        ],
    }  # fmt: skip


def _row(
    trial: SearchTrial, place: float | str, loss: float | None, high: float, room: float, search: Search
) -> dict[str, Any]:
    near = loss is not None and loss <= high
    return {"trial": trial.label, "x": place, "y": loss if near else high + 2 * room, "dev": loss, "near": near,
            "state": trial.state, "retrained": trial.label in search.retrained}  # fmt: skip
