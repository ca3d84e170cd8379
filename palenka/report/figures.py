"""The charts of a study."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from palenka.report import comparison
from palenka.report.comparison import BASELINES, Difference, Group
from palenka.report.results import Acquisition, Grid, GridTrial, Run
from palenka.report.vega import BAND, INK, PAPER, Chart, Spec, axis, axis_name, by_run, chart, colour, dashed, marked

Row = dict[str, Any]

MOST_POINTS = 240
BEGINNING = 0.12
SEEN = {"words": "words seen", "tokens": "tokens seen", "step": "steps"}
"""What curves can be drawn against."""
ACCURACY = "accuracy, %"
COST = {
    "total": "training FLOPs, teachers' counted",
    "student": "training FLOPs of the model alone",
    "seconds": "training time, s",
    "energy": "energy estimate, Wh",
}
COST_ROOM = 1.15  # to both sides of a logarithmic axis, as a factor
BASELINE_DASHES = {"zipf": [1.5, 1.8], "ngram": [5.6, 2]}


def x_keys(runs: Iterable[Run]) -> dict[str, str]:
    """What curves can be drawn against, with its title: words and tokens where every record has them, and steps."""
    records = [record for run in runs for record in run.metrics]
    return {key: title for key, title in SEEN.items() if key == "step" or all(key in record for record in records)}


def _rows(run: Run, split: str, term: str, keys: Iterable[str]) -> list[Row]:
    """Of each record of a split that has the term: the run, what it can be drawn against, and the term as y.

    Without what is not finite, which JSON has no number for.
    """
    of_split = [record for record in run.metrics if record.get("split") == split]
    found = [record for record in of_split if record.get(term) is not None and math.isfinite(record[term])]
    return [{"run": run.label, "y": record[term]} | {key: record[key] for key in keys} for record in found]


def _binned(rows: list[Row]) -> list[Row]:
    """At most MOST_POINTS rows, each the mean of its neighbours."""
    if len(rows) <= MOST_POINTS:
        return rows
    parts = [rows[part[0] : part[-1] + 1] for part in np.array_split(np.arange(len(rows)), MOST_POINTS)]
    numbers = [key for key in rows[0] if key != "run"]
    return [{"run": part[0]["run"]} | {key: float(np.mean([row[key] for row in part])) for key in numbers}
            for part in parts]  # fmt: skip


def _seen_axis(keys: dict[str, str], **options: Any) -> Spec:
    """The horizontal axis of curves, as they are drawn at first."""
    first = next(iter(keys))
    return axis(keys[first], format="~s", **options) | {"field": first}


def _choices(keys: dict[str, str], rows: Iterable[Row]) -> Spec:
    """Of each key that curves can be drawn against, its title, and bounds that leave room for the last marker."""
    ends = {key: max(row[key] for row in rows) for key in keys} if (rows := list(rows)) else {}
    return {key: {"title": keys[key], "domain": [0, 1.02 * end]} for key, end in ends.items()}


def train_term(run: Run) -> str:
    """Where a run's training cross-entropy stands: `cross_entropy` of a plain one, `hard_target` of a student; `loss`
    where no term is named."""
    recorded = {term for record in run.metrics for term in ("cross_entropy", "hard_target") if term in record}
    return min(recorded, default="hard_target" if run.weights else "loss")


def terms(runs: list[Run]) -> list[str]:
    """Objective terms besides the cross-entropy that any run has logged."""
    named = [term for run in runs for term in run.weights if term != "hard_target"]
    return [term for term in dict.fromkeys(named) if any(term in r for run in runs for r in run.metrics)]


def comparison_figure(runs: list[Run]) -> Chart | None:
    """Dev cross-entropy of all runs; None where none has a dev record."""
    keys = x_keys(runs)
    curves = [_rows(run, "dev", "loss", keys) for run in runs]
    if not any(curves):
        return None
    rows, labels = [row for curve in curves for row in curve], [run.label for run in runs]
    title = "dev cross-entropy, nats/token"
    shown, choices = _tooltip({"run": "run", **keys, "y": title}), _choices(keys, rows)
    y = axis(title, domain=_limits([curve for curve in curves if curve], next(iter(keys))))
    spec: Spec = {
        "data": {"values": rows},
        "height": 300,
        "encoding": {"x": _seen_axis(keys, tickCount=6), "y": y | {"field": "y"}},
        "layer": [
            {"mark": {"type": "line", "clip": True, "strokeWidth": 1.6}, "encoding": dashed(labels)},
            {"mark": {"type": "point", "clip": True, "size": 55}, "encoding": marked(labels) | {"tooltip": shown}},
        ],
    }  # fmt: skip
    return chart("Dev cross-entropy of all runs during training", spec, hides_runs=True, x=choices)


def _tooltip(fields: dict[str, str], **formats: str) -> list[Spec]:
    """Field → title; numbers as `formats` says, or to four digits."""
    return [{"field": field, "title": title} | _kind(field, formats) for field, title in fields.items()]


def _kind(field: str, formats: dict[str, str]) -> Spec:
    if field in SEEN:
        return {"type": "quantitative", "format": ","}
    named = field in ("run", "name", "word", "trial")
    return {"type": "nominal"} if named else {"type": "quantitative", "format": formats.get(field, ".4f")}


def milestone_tasks(runs: list[Run]) -> list[str]:
    """Tasks that milestones were scored on during training."""
    found = [r for run in runs for r in run.metrics if r.get("split") == "evaluation"]
    return list(dict.fromkeys(key for record in found for key in record if f"{key}_stderr" in record))


def milestone_figure(runs: list[Run], task: str) -> Chart:
    """Accuracy of the runs' milestones over what was seen, ± one standard error, on one task."""
    keys = x_keys(runs)
    rows = []
    for run in runs:
        errors = _rows(run, "evaluation", f"{task}_stderr", keys)
        for row, error in zip(_rows(run, "evaluation", task, keys), errors, strict=True):
            value, spread = 100 * row["y"], 100 * error["y"]
            rows.append(row | {"y": value, "low": value - spread, "high": value + spread, "spread": spread})
    labels = [run.label for run in runs]
    shown = _tooltip({"run": "run", **keys, "y": ACCURACY, "spread": "±"}, y=".2f", spread=".2f")
    chances = sorted({100 * run.evaluations[task].chance for run in runs if task in run.evaluations})
    spec: Spec = {
        "data": {"values": rows},
        "height": 240,
        "encoding": {"x": _seen_axis(keys, type="log", tickCount=6)},
        "layer": [
            {"mark": {"type": "area", "opacity": 0.15},
             "encoding": by_run(labels) | {"y": axis(ACCURACY) | {"field": "low"}, "y2": {"field": "high"}}},
            {"mark": {"type": "line", "strokeWidth": 1.6},
             "encoding": dashed(labels) | {"y": axis(ACCURACY) | {"field": "y"}}},
            {"mark": {"type": "point", "size": 55},
             "encoding": marked(labels) | {"y": axis(ACCURACY) | {"field": "y"}, "tooltip": shown}},
            *[{"mark": {"type": "rule"}, "encoding": {"y": {"datum": chance}, "x": None}} for chance in chances],
        ],
    }  # fmt: skip
    choices = {key: {"title": title} for key, title in keys.items()}
    return chart(f"Accuracy on {task} during training", spec, hides_runs=True, x=choices)


SHOWN_WORDS = 6


def curves_figure(acquired: Acquisition) -> Chart | None:
    """Surprisal of some words over the words seen, evenly from those that are learned first to those learned last.

    Of words whose curve determines their age; None where there are none.
    """
    aged = sorted((word for word in acquired.words if word.is_determined), key=lambda word: word.age or 0)
    chosen = [aged[place] for place in dict.fromkeys(np.linspace(0, len(aged) - 1, SHOWN_WORDS).astype(int)) if aged]
    if not chosen:
        return None
    seen = [milestone.seen for milestone in acquired.milestones]
    rows = [{"word": word.word, "words": at, "y": surprisal}
            for word in chosen for at, surprisal in zip(seen, word.surprisals, strict=True)]  # fmt: skip
    colours = {"domain": [word.word for word in chosen], "range": [colour(number) for number in range(len(chosen))]}
    of_word = {"color": {"field": "word", "type": "nominal", "scale": colours, "legend": None}}
    shown = _tooltip({"word": "word", "words": "words seen", "y": "surprisal, nats"}, y=".2f")
    spec: Spec = {
        "data": {"values": rows},
        "height": 260,
        "encoding": {
            "x": axis("words seen", type="log", format="~s", tickCount=6) | {"field": "words"},
            "y": axis("surprisal, nats") | {"field": "y"},
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.3}, "encoding": of_word},
            {"mark": {"type": "point", "size": 30}, "encoding": of_word | {"tooltip": shown}},
            {"mark": {"type": "text", "align": "right", "dx": -4, "dy": -8}, "encoding": {"text": {"field": "word"}},
             "transform": [{"filter": f"datum.words == {seen[-1]}"}]},
        ],
    }  # fmt: skip
    return chart("Surprisal of some words during training", spec)


def ages_figure(acquired: Acquisition) -> Chart | None:
    """When the model and when children know words; hollow where the model's curve does not determine it.

    None where no word has an age.
    """
    known = [word for word in acquired.words if word.child is not None and word.age is not None]
    if not known:
        return None
    rows = [{"word": word.word, "months": word.child, "words": 10 ** (word.age or 0), "determined": word.is_determined}
            for word in known]  # fmt: skip
    shown = _tooltip({"word": "word", "months": "months", "words": "words seen by the model"}, months=".1f")
    spec: Spec = {
        "data": {"values": rows},
        "height": 300,
        "mark": {"type": "point", "size": 26, "stroke": colour(0), "strokeWidth": 0.9, "filled": True},
        "encoding": {
            "x": axis("age at which half of the children know the word, months", grid=True) | {"field": "months"},
            "y": axis("words seen by the model", type="log", format="~s", tickCount=5) | {"field": "words"},
            "fill": {"condition": {"test": "datum.determined", "value": colour(0)}, "value": "transparent"},
            "tooltip": shown,
        },
    }
    return chart("Ages at which model and children know words", spec)


def scores(runs: list[Run]) -> dict[str, str]:
    """What can be drawn against cost, with its title: the tasks; and dev cross-entropy, where it is of one text."""
    tasks = {task: f"{task}, {ACCURACY}" for task in comparison.task_names(runs)}
    return tasks | ({"dev": "dev cross-entropy, nats/token"} if comparison.same_dev_text(runs) else {})


def costs(runs: list[Run]) -> dict[str, str]:
    """What scores can be drawn against, with its title: energy where it is known of all runs that are drawn."""
    told = all(run.energy is not None for run in runs if _known_cost(run))
    return {key: title for key, title in COST.items() if told or key != "energy"}


def _known_cost(run: Run) -> bool:
    return run.result is not None and run.cost is not None and not run.cost.unknown


def cost_figure(runs: list[Run]) -> Chart | None:
    """Each score of the runs over what their training cost, ± two standard errors over items.

    Of runs all of whose cost is known; None where none is.
    """
    rows = [row for run in runs for row in _cost_rows(run, scores(runs))]
    if not rows:
        return None
    found = {key: title for key, title in scores(runs).items() if any(row["score"] == key for row in rows)}
    x: Spec = {key: {"title": title, "domain": [min(row[key] for row in rows) / COST_ROOM,
                                                max(row[key] for row in rows) * COST_ROOM]}
               for key, title in costs(runs).items()}  # fmt: skip
    first, labels = next(iter(x)), [run.label for run in runs]
    shown = _tooltip({"run": "run", "y": "score", "spread": "±", **costs(runs)}, y=".4~f", spread=".2f",
                     seconds=",.0f", energy=",.3~r", total=".3~s", student=".3~s")  # fmt: skip
    at = axis(COST[first], type="log", format="~s", tickCount=5)
    spec: Spec = {
        "data": {"values": rows},
        "height": 260,
        "encoding": {"x": at | {"field": first}, "y": axis(next(iter(found.values())), padding=8) | {"field": "y"}},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 1.3},
             "encoding": by_run(labels) | {"y": {"field": "low"}, "y2": {"field": "high"}}},
            {"mark": {"type": "point", "size": 75, "stroke": PAPER, "strokeWidth": 0.6},
             "encoding": marked(labels) | {"tooltip": shown}},
        ],
    }  # fmt: skip
    return chart("Scores over the cost of training", spec, hides_runs=True, x=x, y=found)


def _cost_rows(run: Run, known: Iterable[str]) -> list[Row]:
    """A row for each score of a run; none where a part of its cost is not known."""
    if run.result is None or run.cost is None or run.cost.unknown:
        return []
    of_run = {"run": run.label, "total": run.cost.total, "student": run.cost.student, "seconds": run.result.seconds,
              "energy": run.energy}  # fmt: skip
    rows: list[Row] = []
    for score in known:
        if evaluation := run.evaluations.get(score):
            value, spread = 100 * evaluation.accuracy, 100 * evaluation.stderr
            ends = {"low": value - 2 * spread, "high": value + 2 * spread}
            rows.append(of_run | {"score": score, "y": value, "spread": spread} | ends)
        elif score == "dev":
            value = run.result.dev.cross_entropy
            rows.append(of_run | {"score": score, "y": value, "low": value, "high": value})
    return rows


GRID_CELL, GRID_MARGINS = (74, 34), (80, 46)  # width and height in CSS pixels


def grid_width(grid: Grid) -> int:
    """Width of a grid's figure in CSS pixels, at which its letters have the size of others."""
    return GRID_MARGINS[0] + GRID_CELL[0] * len(list(grid.axes.values())[1])


def grid_figure(grid: Grid, task: str | None) -> Chart:
    """A grid of two axes as a table of colours: dev cross-entropy, or the accuracy on a task; finalists are framed.

    Deeper is better. Trials without a value diverged, or were not evaluated.
    """
    (x_key, columns), (y_key, rows) = reversed(grid.axes.items())
    chosen = {trial.label for trial in grid.finalists}
    values = {trial.label: value for trial in grid.trials if (value := _grid_value(trial, task)) is not None}
    low, high = min(values.values()), max(values.values())
    cells = []
    for trial in grid.trials:
        value = values.get(trial.label)
        share = (value - low) / (high - low) if value is not None and high > low else 0.0
        depth = 0.0 if value is None else 0.06 + 0.5 * (share if task else 1 - share)
        cells.append({"x": f"{trial.values[x_key]:g}", "y": f"{trial.values[y_key]:g}", "depth": depth,
                      "text": _grid_text(trial, task), "framed": trial.label in chosen})  # fmt: skip
    bare = {"grid": False, "ticks": False, "domain": False, "labelAngle": 0}
    spec: Spec = {
        "data": {"values": cells},
        "height": GRID_CELL[1] * len(rows),
        "encoding": {
            "x": {"field": "x", "type": "nominal", "sort": [f"{value:g}" for value in columns],
                  "title": axis_name(x_key), "axis": bare},
            "y": {"field": "y", "type": "nominal", "sort": [f"{value:g}" for value in rows],
                  "title": axis_name(y_key), "axis": bare},
        },
        "layer": [
            {"mark": {"type": "rect", "color": colour(0), "strokeWidth": 1.6},
             "encoding": {"fillOpacity": {"field": "depth", "type": "quantitative", "scale": None, "legend": None},
                          "stroke": {"condition": {"test": "datum.framed", "value": INK}, "value": PAPER}}},
            {"mark": {"type": "text", "fontSize": 10}, "encoding": {"text": {"field": "text"}}},
        ],
    }  # fmt: skip
    return chart(f"{task or 'Dev cross-entropy'} over the grid", spec)


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


def _limits(curves: list[list[Row]], key: str) -> list[float] | None:
    """Bounds that show all but the beginning, where every model falls from the uniform guess."""
    points = [np.array([(row[key], row["y"]) for row in rows], dtype=float) for rows in curves]
    start = BEGINNING * max(float(curve[:, 0].max()) for curve in points)
    values = np.concatenate([curve[curve[:, 0] >= min(start, curve[-1, 0]), 1] for curve in points])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return [low - room, high + room]


def term_panels(runs: list[Run], term: str | None) -> list[tuple[int, Chart]]:
    """One panel per run that has the term (None: cross-entropy, train and dev), axes shared: (run number, chart)."""
    keys = x_keys(runs)
    first = next(iter(keys))
    drawn = []
    for number, run in enumerate(runs):
        train = _rows(run, "train", term or train_term(run), keys)
        dev = _rows(run, "dev", "loss", keys) if term is None else []
        if train or dev:
            drawn.append((number, _binned(train), dev))
    if not drawn:
        return []
    curves = [rows for _, train, dev in drawn for rows in (train, dev) if rows]
    y = axis(None, type="log") if _wants_log(curves) else axis(None, domain=_limits(curves, first))
    name, labels = term or "cross_entropy", [run.label for run in runs]
    encoding = {"x": _seen_axis(keys, tickCount=4), "y": y | {"field": "y"}}
    choices = _choices(keys, (row for rows in curves for row in rows))
    found = []
    for number, train, dev in drawn:
        kept = [row for row in dev if row["step"] == _kept_step(runs[number])][:1]
        spec = _panel(train, dev, kept, labels, _tooltip({**keys, "y": name})) | {"encoding": encoding}
        found.append((number, chart(f"Training curve: {name}, {runs[number].label}", spec, hides_runs=True, x=choices)))
    return found


def _panel(train: list[Row], dev: list[Row], kept: list[Row], labels: list[str], shown: list[Spec]) -> Spec:
    """One run's: training thin, dev with markers, and a ring around the step that was kept."""
    clip = {"clip": True}
    return {
        "height": 150,
        "layer": [
            {"data": {"values": train}, "mark": {"type": "line", "strokeWidth": 1.1, "opacity": 0.6} | clip,
             "encoding": by_run(labels) | {"tooltip": shown}},
            {"data": {"values": dev}, "mark": {"type": "line", "strokeWidth": 1.4} | clip, "encoding": by_run(labels)},
            {"data": {"values": dev}, "mark": {"type": "point", "size": 40} | clip,
             "encoding": marked(labels) | {"tooltip": shown}},
            {"data": {"values": kept}, "mark": {"type": "point", "filled": False, "size": 130, "stroke": INK} | clip},
        ],
    }  # fmt: skip


def _kept_step(run: Run) -> int | None:
    return run.result.best_step if run.result else None


def _wants_log(curves: list[list[Row]]) -> bool:
    """A term that spans more than a factor of 30 is drawn on a logarithmic axis."""
    values = np.array([row["y"] for rows in curves for row in rows], dtype=float)
    return bool(np.isfinite(values).all() and values.min() > 0 and values.max() / values.min() > 30)


def phenomena_figure(runs: list[Run], task: str) -> Chart:
    """Dot plot of accuracy per phenomenon: one row each, best on top, and the mean of the task last."""
    found = {run.label: run.evaluations[task] for run in runs if task in run.evaluations}
    groups = {label: comparison.phenomena(evaluation) for label, evaluation in found.items()}
    names = sorted({name for of in groups.values() for name in of}, key=lambda name: (-_level(groups, name), name))
    mean = "mean over subtasks"
    for label, evaluation in found.items():
        groups[label][mean] = Group(mean, evaluation.accuracy, evaluation.stderr, comparison.baselines(evaluation))
    order = [_short(name) for name in [*names, mean]]
    rows = [_dot(label, name, of[name]) for label, of in groups.items() for name in [*names, mean] if name in of]
    beside = {
        (_short(name), baseline, round(100 * value, 4)): None
        for of in groups.values() for name, group in of.items() for baseline, value in group.baselines.items()
    }  # fmt: skip
    strokes = [{"name": name, "baseline": BASELINES.get(of, of), "kind": of, "x": at} for name, of, at in beside]
    step = max(24, (9 if len(groups) <= 6 else 7) * len(groups) + 10)
    labels = [run.label for run in runs]
    shown = _tooltip({"run": "run", "name": "", "x": ACCURACY, "spread": "±"}, x=".2f", spread=".2f")
    y: Spec = {"field": "name", "type": "nominal", "sort": order, "title": None,
               "axis": {"labelColor": INK, "ticks": False, "domain": False, "grid": False}}  # fmt: skip
    offset = {"yOffset": {"field": "run", "type": "nominal", "sort": list(groups), "scale": {"paddingOuter": 0.4}}}
    spans = [{"name": name} for name in order[::2]]
    across = {"y": y | {"bandPosition": 0.06}, "y2": {"field": "name", "bandPosition": 0.94}}
    at = axis(ACCURACY, grid=True, tickCount=8, padding=8)
    spec: Spec = {
        "height": step * len(order),
        "encoding": {"y": y},
        "layer": [
            {"data": {"values": spans}, "mark": {"type": "rect", "color": BAND}},
            {"data": {"values": [{"x": chance} for chance in sorted({100 * of.chance for of in found.values()})]},
             "mark": {"type": "rule"},
             "encoding": {"x": at | {"field": "x"}, "y": {"value": 0}, "y2": {"value": {"expr": "height"}}}},
            *[{"data": {"values": [stroke for stroke in strokes if stroke["kind"] == kind]},
               "mark": {"type": "rule", "color": INK, "strokeWidth": 1.4, "strokeDash": dashes},
               "encoding": across | {"x": at | {"field": "x"},
                                     "tooltip": [{"field": "baseline"},
                                                 {"field": "x", "title": ACCURACY, "format": ".2f"}]}}
              for kind, dashes in BASELINE_DASHES.items()],
            {"data": {"values": rows}, "mark": {"type": "rule", "strokeWidth": 1.3},
             "encoding": by_run(labels) | offset | {"x": at | {"field": "low"}, "x2": {"field": "high"}}},
            {"data": {"values": rows}, "mark": {"type": "point", "size": 60, "stroke": PAPER, "strokeWidth": 0.6},
             "encoding": marked(labels) | offset | {"x": at | {"field": "x"}, "tooltip": shown}},
        ],
    }  # fmt: skip
    return chart(f"Accuracy per phenomenon, {task}", spec, hides_runs=True)


MOST_SUBTASKS = 12


def forest_figure(runs: list[Run], tasks: list[str]) -> Chart | None:
    """Each distilled run minus its undistilled control, on each task; None where no run has one."""
    rows = []
    for run in runs:
        control = comparison.control_of(run, runs)
        for task in tasks if control else []:
            found = comparison.difference(run, control, task) if control else None
            if found:
                rows.append(_span(run, f"{task}: {run.label}", found))
    if not rows:
        return None
    order = [f"{task}: {run.label}" for task in tasks for run in runs]
    return _forest("Distilled against undistilled", rows, order, [run.label for run in runs])


def subtasks_figure(runs: list[Run], task: str) -> Chart | None:
    """On which subtasks the best distilled run and its control differ most, by how sure the difference is.

    None where no run has a control, or items were not kept.
    """
    students = [run for run in comparison.ranking(runs, task) if comparison.control_of(run, runs)]
    control = comparison.control_of(students[0], runs) if students else None
    found = comparison.subtask_differences(students[0], control, task) if control else {}
    sure = sorted((name for name, of in found.items() if of.stderr), key=lambda name: -found[name].sureness)
    if not control or not sure:
        return None
    shown = sorted(sure[:MOST_SUBTASKS], key=lambda name: -found[name].value)
    rows = [_span(students[0], name, found[name]) for name in shown]
    label = f"Where {students[0].label} and {control.label} differ most, {task}"
    return _forest(label, rows, shown, [run.label for run in runs])


def _span(run: Run, name: str, found: Difference) -> Row:
    """A difference in points, and two standard errors to both sides."""
    value, reach = 100 * found.value, 200 * found.stderr
    return {"run": run.label, "name": name, "x": value, "low": value - reach, "high": value + reach}


def _forest(label: str, rows: list[Row], order: list[str], labels: list[str]) -> Chart:
    """Differences as dots with their bars, around none."""
    shown = _tooltip({"name": "", "x": "points", "low": "from", "high": "to"}, x="+.2f", low="+.2f", high="+.2f")
    at = axis("points ahead of the undistilled control", grid=True, tickCount=8, padding=8)
    names = {row["name"] for row in rows}
    y = {"field": "name", "type": "nominal", "sort": [name for name in order if name in names], "title": None,
         "axis": {"labelColor": INK, "ticks": False, "domain": False, "grid": False, "labelLimit": 230}}  # fmt: skip
    spec: Spec = {
        "data": {"values": rows},
        "height": 22 * len(names),
        "encoding": {"y": y},
        "layer": [
            {"data": {"values": [{"x": 0}]}, "mark": {"type": "rule"},
             "encoding": {"x": at | {"field": "x"}, "y": {"value": 0}, "y2": {"value": {"expr": "height"}}}},
            {"mark": {"type": "rule", "strokeWidth": 1.3},
             "encoding": by_run(labels) | {"x": at | {"field": "low"}, "x2": {"field": "high"}}},
            {"mark": {"type": "point", "size": 60, "stroke": PAPER, "strokeWidth": 0.6},
             "encoding": marked(labels) | {"x": at | {"field": "x"}, "tooltip": shown}},
        ],
    }  # fmt: skip
    return chart(label, spec, hides_runs=True)


def _dot(label: str, name: str, group: Group) -> Row:
    """A run's accuracy on a phenomenon, in percent, and two standard errors to both sides."""
    value, spread = 100 * group.accuracy, 200 * group.stderr
    return {"run": label, "name": _short(name), "x": value, "spread": spread / 2,
            "low": max(0.0, value - spread), "high": min(100.0, value + spread)}  # fmt: skip


def _level(groups: dict[str, dict[str, Group]], name: str) -> float:
    return float(np.mean([of[name].accuracy for of in groups.values() if name in of]))


def _short(name: str) -> str:
    words = name.replace("_", " ")
    return words if len(words) <= 34 else f"{words[:33]}…"
