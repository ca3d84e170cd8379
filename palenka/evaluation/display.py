"""An evaluation as users read it."""

from collections.abc import Iterator, Sequence
from typing import Any

from palenka.evaluation.models import EvaluatedModel
from palenka.util.tables import text_table
from palenka.util.text import percent, with_error, wrapped

HEADS = ("accuracy", "per token", "ties = right", "ties", "items", "chance", "Zipf", "5-gram")
DETAILS = {"phenomenon": "phenomena", "field": "fields"}


def table(
    model: EvaluatedModel,
    results: Sequence[dict[str, Any]],
    cross_entropy: dict[str, Any] | None,
    protocol: str,
    details: bool = False,
    way: str = "causal",
    samples: Sequence[dict[str, Any]] | None = None,
) -> str:
    """Accuracies in percent beside chance and the baselines, predictions of people, then cross-entropies.

    Args:
        model: what was evaluated.
        results: of tasks.
        cross_entropy: its result, where it was measured.
        protocol: of the results.
        details: also a row for each phenomenon, field and subtask.
        way: in which the model was asked.
        samples: what it wrote, where it was asked to.
    """
    asked = "" if way == "causal" else f", asked in the way {way}"
    parts = [f"{model.folder}{asked}   ({protocol} protocol; % right ± standard error, ties count by halves)"]
    rows = [["task", *HEADS]]
    for result in (result for result in results if "accuracy" in result):
        rows += [[result["task"], *_cells(result)], *(_details(result) if details else [])]
    predictions = [
        [f"{result['task']}, {name.replace('_', ' ')}", with_error(score["value"], score["stderr"]), f"{result['n']:,}"]
        for result in results
        for name, score in result.get("scores", {}).items()
    ]
    surprisals = [
        [result["task"], f"{found['value']:.3f} ± {found['stderr']:.3f}", f"{result['n']:,}"]
        for result in results
        if (found := result.get("surprisal"))
    ]
    losses = [
        [name, f"{split['cross_entropy']:.4f}", _bits(split), f"{split['tokens']:,}"]
        for name, split in (cross_entropy or {"splits": {}})["splits"].items()
    ]
    if len(rows) > 1:
        parts.append(text_table(rows))
    if model.data_problem:
        parts.append(f"no simple baselines: {model.data_problem}")
    if predictions:
        parts.append(text_table([["prediction", "%", "items"], *predictions]))
    if surprisals:
        parts.append(text_table([["surprisal of words", "nats", "contexts"], *surprisals]))
    if losses:
        parts.append(text_table([["cross-entropy", "nats per token", "bits per byte", "tokens"], *losses]))
    if samples:
        parts.append("\n".join(wrapped(_written(sample)) for sample in samples))
    return "\n\n".join(parts)


def _written(sample: dict[str, Any]) -> str:
    """On one line: `The little | owl ran.`"""
    return f"{sample['prompt']} | {' '.join(sample['text'].split())}{'' if sample['ended'] else ' …'}".strip()


def _bits(split: dict[str, Any]) -> str:
    return f"{split['bits_per_byte']:.4f}" if "bits_per_byte" in split else "none: parts are predicted"


def _details(result: dict[str, Any]) -> Iterator[list[str]]:
    for label, heading in DETAILS.items():
        yield from _group(heading, result["groups"][label])
    yield from _group("subtasks", result["subtasks"])


def _group(heading: str, rows: dict[str, Any]) -> Iterator[list[str]]:
    if rows:
        yield [f"  {heading}", *[""] * len(HEADS)]
    for name, found in sorted(rows.items()):
        yield [f"    {name}", *_cells(found)]


def _cells(found: dict[str, Any]) -> list[str]:
    """As many as there are HEADS; groups have no baselines."""
    baselines = found.get("floors", {})
    return [
        with_error(found["accuracy"], found["stderr"]),
        percent(found["accuracy_per_token"]) if "accuracy_per_token" in found else "",
        percent(found["accuracy_ties_good"]),
        f"{found['ties']:,}",
        f"{found['n']:,}",
        f"{100 * found['chance']:.0f}" if baselines else "",
        *("" if kind not in baselines else "none" if baselines[kind] is None else percent(baselines[kind])
          for kind in ("zipf", "ngram")),
    ]  # fmt: skip
