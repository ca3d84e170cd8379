"""The study's figures."""

from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

from arms import ARMS, BLIMP, FLOORS, NOTHING, TEACHERS, Records, floor, flops, found_comparisons, of_arm, points

from palenka.report.vega import INK, MUTED, Chart, Spec, axis, by_run, chart, marked

ROW = {"height": {"step": 26}}  # CSS pixels of an arm or a comparison
ROOM = 12  # CSS pixels between the frame and what is outermost
WIDEST = 6.6  # CSS pixels of a letter, on average, in the widest of usual fonts
LEGEND: Spec = {"title": None, "orient": "bottom", "columns": 3, "columnPadding": 24, "labelColor": INK}
ALL = [*TEACHERS, *ARMS]  # an arm looks the same in all figures


def draw_arms(records: Records) -> Chart | None:
    """Every run's BLiMP, and every arm's mean."""
    arms = sorted(_scored(records), key=lambda arm: -mean(points(of_arm(records, arm))))
    floors = {name.strip("*"): floor(records, BLIMP, key) for key, name in FLOORS.items()}
    lines = [{"name": name, "x": float(value)} for name, value in floors.items() if value != NOTHING]
    dots = [{"run": arm, "x": score} for arm in arms for score in points(of_arm(records, arm))]
    means = [{"run": arm, "x": mean(points(of_arm(records, arm)))} for arm in arms]
    x = axis("BLiMP, %", padding=ROOM, tickCount=8) | {"field": "x"}
    label = {"type": "text", "align": "right", "dx": 3, "y": -7, "color": MUTED}  # above the dots
    layers = [
        _layer(lines, {"type": "rule", "strokeDash": [4, 3], "color": MUTED}, x=x),
        _layer(lines, label, x=x, text={"field": "name"}),
        _layer(dots, {"type": "point", "size": 50, "opacity": 0.65}, x=x, y=_names(arms), **by_run(ALL)),
        _layer(means, {"type": "tick", "thickness": 2, "size": 18, "color": INK}, x=x, y=_names(arms)),
    ]
    return chart("BLiMP of each run, and of each arm's mean", ROW | {"layer": layers}) if arms else None


def draw_costs(records: Records) -> Chart | None:
    """BLiMP of each arm, mean ± standard deviation, over what one of its runs cost with its teachers."""
    arms, rows = _scored(records), []
    for arm in arms:
        runs, scores = of_arm(records, arm), points(of_arm(records, arm))
        middle, deviation = mean(scores), stdev(scores) if len(scores) > 1 else 0.0
        found = {"x": mean(map(flops, runs)), "y": middle, "low": middle - deviation, "high": middle + deviation}
        rows.append({"run": arm} | found)
    x = axis("TFLOP, the teachers' trainings counted", padding=ROOM) | {"field": "x"}
    y = axis("BLiMP, % ± sd", padding=ROOM) | {"field": "y"}
    named = _named(arms)
    bars = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": named["color"]}
    layers = [
        _layer(rows, {"type": "rule"}, **bars),
        _layer(rows, {"type": "point", "size": 70}, x=x, y=y, **named),
    ]
    return chart("BLiMP of each arm over what it cost", {"height": 300, "layer": layers}) if arms else None


def draw_differences(records: Records) -> Chart | None:
    """The planned differences that could be taken."""
    rows = [
        {"run": f"{each.comparison.number}  {each.first} − {each.second}", "x": each.difference.difference,
         "low": each.difference.low, "high": each.difference.high}
        for each in found_comparisons(records)
    ]  # fmt: skip
    x = axis("difference on BLiMP, points, 95 % over seeds", padding=ROOM, tickCount=8) | {"field": "x"}
    y = _names([row["run"] for row in rows])
    layers = [
        _layer([{"x": 0}], {"type": "rule", "color": MUTED}, x=x),
        _layer(rows, {"type": "rule", "color": INK}, x=x | {"field": "low"}, x2={"field": "high"}, y=y),
        _layer(rows, {"type": "point", "size": 60, "color": INK}, x=x, y=y),
    ]
    return chart("The planned differences and their intervals over seeds", ROW | {"layer": layers}) if rows else None


def draw_dev(records: Records) -> Chart | None:
    """BLiMP of each student over its dev loss."""
    arms = [arm for arm in _scored(records) if arm in ARMS]
    runs = [run for arm in arms for run in of_arm(records, arm) if points([run])]
    rows = [{"run": run["arm"], "x": run["dev"]["cross_entropy"], "y": points([run])[0]} for run in runs]
    x = axis("dev cross-entropy, nats/token", padding=ROOM) | {"field": "x"}
    y = axis("BLiMP, %", padding=ROOM) | {"field": "y"}
    layer = _layer(rows, {"type": "point", "size": 60}, x=x, y=y, **_named(arms))
    return chart("BLiMP of each run over its dev cross-entropy", {"height": 320} | layer) if rows else None


def _names(labels: list[str]) -> Spec:
    """The vertical axis of names, with room for them in any font: they are drawn in that of the browser."""
    room = WIDEST * max(map(len, labels), default=0)
    bare = {"labelColor": INK, "labelLimit": 300, "domain": False, "ticks": False, "minExtent": room}
    return {"field": "run", "type": "nominal", "sort": None, "title": None, "axis": bare}


def _named(arms: list[str]) -> Spec:
    """Colour and shape of an arm's points, and a legend of both."""
    return {channel: of | {"legend": LEGEND | {"values": arms}} for channel, of in marked(ALL).items()}


def _scored(records: Records) -> list[str]:
    return [arm for arm in ALL if points(of_arm(records, arm))]


def _layer(rows: list[dict[str, Any]], mark: Spec, **encoding: Spec) -> Spec:
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding}


DRAWINGS: dict[str, Callable[[Records], Chart | None]] = {
    "arms": draw_arms,
    "costs": draw_costs,
    "differences": draw_differences,
    "dev": draw_dev,
}
