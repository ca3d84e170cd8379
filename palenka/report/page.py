"""Sets the tables and figures of a study on one self-contained HTML page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from palenka.evaluation.ways import OF_MASKED
from palenka.report import accounts, comparison, figures, search_figures, search_tables, tables, vega
from palenka.report.cells import Cell
from palenka.report.results import Acquisition, Grid, Run, common_folder, read_grids
from palenka.report.searches import Search, read_searches, without_trials

HASH_LENGTH = 12
SOURCES = (
    "All that is shown stands in the runs' folders: dev cross-entropy, words and time in result.json, FLOPs in "
    "cost.json, curves in metrics.jsonl; accuracies, with the score of each item, below evaluation/, where "
    "cross_entropy.json and samples.json are, too. A run's name leads to its config as resolved, what decided its "
    "outcome, what it ran on, and the commands that train and evaluate it once more."
)


def render(content: dict[str, Any], damages: Sequence[str] = (), reload_seconds: int | None = None) -> str:
    """The page; the same bytes for the same result files.

    Args:
        content: see `page_content`.
        damages: what could not be read of these and other runs.
        reload_seconds: after which a browser loads the page again; None: not by itself.
    """
    environment = Environment(
        loader=PackageLoader("palenka.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["nothing"] = Cell()
    environment.filters["breakable"] = _breakable
    given = {"damages": damages, "reload_seconds": reload_seconds, "library": vega.library(), "script": _script()}
    return environment.get_template("page.html.jinja").render(content | given) + "\n"


def _script() -> Markup:
    """What makes the page move."""
    return Markup(Path(__file__).with_name("page.js").read_text(encoding="utf-8"))


def page_content(read: list[Run]) -> dict[str, Any]:
    """What the page shows of runs: facts, tables and charts, by their places."""
    runs = without_trials(read)
    tasks = comparison.task_names(runs)
    return {
        "title": common_folder([run.name for run in read]) or tables.listed([run.label for run in runs]),
        "facts": _facts(read),
        "findings": tables.findings(runs),
        "legend": [
            {"label": run.label, "colour": vega.colour(n), "path": vega.marker_path(n)}
            for n, run in enumerate(runs)
        ],
        "searches": [_search(search) for search in read_searches(read)],
        "study": tables.study_table(runs),
        "caption": tables.caption(runs),
        "control": tables.control_table(runs),
        "forest": figures.forest_figure(runs, tasks),
        "seeds": tables.seed_table(runs),
        "differences": tables.difference_tables(runs),
        "grids": [_grid(grid) for grid in read_grids(runs) if len(grid.axes) == 2],
        "cost": accounts.cost_table(runs),
        "cost_caption": accounts.COST,
        "bought": figures.cost_figure(runs),
        "scores": figures.scores(runs),
        "costs": figures.costs(runs),
        "curves": figures.comparison_figure(runs),
        "x": figures.x_keys(runs),
        "milestones": [
            {"task": task, "chart": figures.milestone_figure(runs, task)} for task in figures.milestone_tasks(runs)
        ],
        "panels": _panels(runs),
        "phenomena": [
            {"task": task, "chart": figures.phenomena_figure(runs, task), "table": tables.subtask_table(runs, task),
             "most": figures.subtasks_figure(runs, task)}
            for task in tasks
        ],
        "samples": _samples(runs),
        "silent": _silent(runs),
        "predictions": tables.prediction_table(runs),
        "finetuned": tables.finetuning_tables(runs),
        "finetuned_caption": tables.FINETUNED,
        "acquisition": [_acquisition(found, number) for number, run in enumerate(runs)
                        for found in run.predictions.values() if isinstance(found, Acquisition)],
        "domains": tables.domain_tables(runs),
        "words": accounts.words_table(runs),
        "words_caption": accounts.WORDS,
        "sources": SOURCES,
        "made": [_made(run, runs) for run in runs],
    }


def _facts(runs: list[Run]) -> list[str]:
    data = sorted({run.data_name for run in runs})
    protocols = sorted({str(found.protocol) for run in runs for found in run.evaluations.values()})
    facts = [tables.count(len(runs), "run"), f"data {tables.listed(data)}"]
    if protocols:
        facts.append(f"evaluation protocol {tables.listed(protocols)}")
    return facts


def _samples(runs: list[Run]) -> list[dict[str, Any]]:
    """What runs wrote, by prompts."""
    prompts = list(dict.fromkeys(sample.prompt for run in runs for sample in run.samples))
    return [
        {
            "prompt": prompt,
            "texts": [{"run": number, "sample": sample} for number, run in enumerate(runs)
                      for sample in run.samples if sample.prompt == prompt],
        }
        for prompt in prompts
    ]  # fmt: skip


def _silent(runs: list[Run]) -> str:
    """Which runs wrote nothing, and why."""
    without = [run for run in runs if run.result and not run.samples]
    masked = [run.label for run in without if set(run.learned) <= set(OF_MASKED)]
    others = [run.label for run in without if run.label not in masked]
    return "; ".join(
        f"{tables.listed(labels)} ({why})"
        for labels, why in ((masked, "learned masked tokens alone, not the next one"), (others, "not asked"))
        if labels
    )


def _acquisition(found: Acquisition, number: int) -> dict[str, Any]:
    """How a run's ages of acquisition go with children's, in words and pictures."""
    pipeline, own = found.pipeline, found.determined
    left_out = ", ".join(f"{reason}: {count:,}" for reason, count in found.left_out.items())
    return {
        "run": number,
        "text": f"As the challenge has it: r = {pipeline.r:+.3f}, p = {pipeline.p:.2g}, n = {pipeline.n:,}. Over words "
        f"whose curve determines their age: r = {own.r:+.3f} [{own.low:+.3f}, {own.high:+.3f}], p = {own.p:.2g}, "
        f"n = {own.n:,}, of {found.n:,} ({left_out or 'all of them'}).",
        "charts": [picture(found) for picture in (figures.ages_figure, figures.curves_figure)],
    }


def _grid(grid: Grid) -> dict[str, Any]:
    """A grid's pictures: dev cross-entropy, and each task that a trial was evaluated on."""
    found = {task for trial in grid.trials for task in trial.tasks}
    measured = [None, *comparison.in_order(found)]
    return {
        "name": grid.name,
        "width": figures.grid_width(grid),
        "pictures": [
            {"task": task, "chart": figures.grid_figure(grid, task)} for task in measured
        ],
    }


def _search(search: Search) -> dict[str, Any]:
    """A search's best, and its pictures: over what trials cost, and over each axis, the most important one first."""
    axes = [
        {
            "key": key,
            "importance": search_tables.importance_text(found, len(search.over(key))),
            "chart": search_figures.axis_figure(search, key),
        }
        for key, found in search.importances().items()
    ]
    return {
        "name": search.name,
        "headline": search_tables.headline(search),
        "selected": search_tables.selected(search),
        "finalists": search_tables.finalists_table(search),
        "budget": search_figures.budget_figure(search),
        "coordinates": search_figures.coordinates_figure(search),
        "axes": [axis for axis in axes if axis["chart"]],
        "caption": search_tables.AXES,
        "marks": search_tables.MARKS,
    }


def _panels(runs: list[Run]) -> list[dict[str, Any]]:
    """Panels of training curves, grouped by term."""
    groups = []
    for term in (None, *figures.terms(runs)):
        drawn = figures.term_panels(runs, term)
        if drawn:
            panels = [{"run": number, "chart": drawing} for number, drawing in drawn]
            groups.append({"term": term, "panels": panels})
    return groups


def _made(run: Run, runs: list[Run]) -> dict[str, Any]:
    result = run.result
    facts: dict[str, str] = {"name": run.name, "data": run.data_name, "architecture": run.architecture}
    if result is not None:
        facts |= {
            "parameters": f"{result.parameters.total:,} ({result.parameters.non_embedding:,} without embeddings)",
            "trained": f"{result.steps:,} steps, {result.epochs:g} epochs, {result.tokens:,} tokens, "
            f"{result.words:,} words in {tables.duration(result.seconds)} ({result.tokens_per_second:,.0f} tokens/s)",
            "kept": f"step {result.best_step}, the best by dev cross-entropy",
        }
    facts["objective"] = tables.objective_text(run)
    if run.teachers:
        facts["teachers"] = tables.listed(tables.teacher_labels(run, runs))
    facts["seed"] = str(run.seed)
    if command := run.environment.get("command"):
        facts["command"] = str(command)
    records = {
        "identity": {key: value for key, value in run.identity.items() if key != "config"},
        "environment": run.environment,
    }
    return {
        "facts": facts,
        "identity": run.identity_hash[:HASH_LENGTH],
        "again": _again(run),
        "config": run.config_text.strip(),
        "records": {name: json.dumps(found, indent=2, ensure_ascii=False) for name, found in records.items() if found},
    }


def _again(run: Run) -> str:
    """Commands that train and evaluate a finished run once more, under another name; empty of an unfinished one."""
    if run.result is None:
        return ""
    commit, dirty, _ = str(run.environment.get("commit") or "").partition("-dirty")
    changed = "  # and what was changed there without being committed" if dirty else ""
    lines = [f"git checkout {commit}{changed}"] if commit else []
    program = "distill.py" if run.distilled else "train.py"
    lines.append(f"python {program} --config runs/{run.name}/config.yaml name=again/{run.name}")
    tasks = [found.task for found in run.evaluations.values()]
    tasks += [found.task for found in run.predictions.values() if not isinstance(found, Acquisition)]
    tasks += [name for name, found in (("cross_entropy", run.cross_entropy), ("samples", run.samples)) if found]
    if tasks:
        asked = ",".join(dict.fromkeys(tasks))
        lines.append(f"palenka evaluate again/{run.name} --protocol {run.protocol} --tasks {asked}")
    return "\n".join(lines)


def _breakable(name: str) -> Markup:
    """A name that may be broken after underscores and slashes."""
    escaped = str(Markup.escape(name))
    return Markup(escaped.replace("_", "_<wbr>").replace("/", "/<wbr>"))
