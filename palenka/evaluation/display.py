"""An evaluation as users read it."""

from collections.abc import Iterator, Sequence
from typing import Any

from palenka.evaluation.models import EvaluatedModel

HEADS = ("accuracy", "per token", "ties = right", "ties", "items", "chance", "Zipf", "5-gram")
DETAILS = {"phenomenon": "phenomena", "field": "fields"}


def table(
    model: EvaluatedModel,
    results: Sequence[dict[str, Any]],
    cross_entropy: dict[str, Any] | None,
    protocol: str,
    details: bool = False,
) -> str:
    """Accuracies in percent beside chance and the baselines, predictions of people, then cross-entropies.

    Args:
        model: what was evaluated.
        results: of tasks.
        cross_entropy: its result, where it was measured.
        protocol: of the results.
        details: also a row for each phenomenon, field and subtask.
    """
    lines = [f"{model.folder}   ({protocol} protocol; % right ± standard error, ties count by halves)"]
    choices = [result for result in results if "accuracy" in result]
    if choices:
        lines.append(_row("task", HEADS))
    for result in choices:
        lines.append(_row(result["task"], _cells(result)))
        lines += _details(result) if details else []
    if model.data_problem:
        lines.append(f"  no simple baselines: {model.data_problem}")
    for result in results:
        for name, score in result.get("scores", {}).items():
            value = f"{100 * score['value']:.2f} ± {100 * score['stderr']:.2f}"
            lines.append(f"  {result['task']:24}{value:>14}  % {name.replace('_', ' ')}, {result['n']:,} items")
    for name, split in (cross_entropy or {"splits": {}})["splits"].items():
        lines.append(
            f"  {'cross-entropy, ' + name:24}{split['cross_entropy']:>14.4f} nats per token"
            f"{split['bits_per_byte']:>10.4f} bits per byte   {split['tokens']:,} tokens"
        )
    return "\n".join(lines)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:24}" + "".join(f"{cell:>14}" for cell in cells)


def _details(result: dict[str, Any]) -> Iterator[str]:
    for label, heading in DETAILS.items():
        yield from _group(heading, result["groups"][label])
    yield from _group("subtasks", result["subtasks"])


def _group(heading: str, rows: dict[str, Any]) -> Iterator[str]:
    if rows:
        yield f"    {heading}"
    for name, found in sorted(rows.items()):
        label = name if len(name) <= 19 else f"{name[:18]}…"
        yield _row(f"    {label}", _cells(found))


def _cells(found: dict[str, Any]) -> list[str]:
    cells = [
        f"{100 * found['accuracy']:.2f} ± {100 * found['stderr']:.2f}",
        f"{100 * found['accuracy_per_token']:.2f}" if "accuracy_per_token" in found else "",
        f"{100 * found['accuracy_ties_good']:.2f}",
        f"{found['ties']:,}",
        f"{found['n']:,}",
    ]
    if "floors" in found:
        baselines = [found["floors"][kind] for kind in ("zipf", "ngram")]
        cells.append(f"{100 * found['chance']:.0f}")
        cells += ["none" if value is None else f"{100 * value:.2f}" for value in baselines]
    return cells
