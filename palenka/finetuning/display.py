"""The table of a model's results, for the terminal."""

from pathlib import Path

from palenka.finetuning.results import RecipeResults, TaskResults, notes
from palenka.util.tables import text_table
from palenka.util.text import percent

HEADS = [
    "task", "metric, %", "mean", "± seeds", "± items", "majority", "predicted, %", "true, %", "epochs", "items", "seeds"
]  # fmt: skip


def table(model: Path, found: RecipeResults) -> str:
    """Means over seeds, their spread, and what to know before one believes them."""
    rows = [HEADS, *(_row(name, of) for name, of in found.tasks.items())]
    if len(found.tasks) > 1:
        rows.append(["mean", "", percent(found.mean), _spread(found.spread), percent(found.stderr), *[""] * 6])
    shown = text_table(rows, left=2, ends=[len(found.tasks)])
    return "\n".join([f"{model}, fine-tuned by {found.name}", "", shown, "", *notes(found)])


def _row(name: str, of: TaskResults) -> list[str]:
    results = of.by_seed.values()
    epochs = [str(result["epoch"]) for result in results]
    return [
        name, of.task.metric, percent(of.mean), _spread(of.spread), percent(of.stderr), percent(of.first["majority"]),
        _shares(of.predicted), _shares(of.first["labels"]), " ".join(epochs), f"{of.first['n']:,}", str(len(results)),
    ]  # fmt: skip


def _spread(value: float | None) -> str:
    return "" if value is None else percent(value)


def _shares(shares: list[float]) -> str:
    return " ".join(f"{100 * share:.0f}" for share in shares)
