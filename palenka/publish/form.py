"""The form of a submission: what the challenge asks about a model, as far as its run knows it.

The fields are those of the leaderboard of 2026. What no run can know is listed, for its author to fill in.
"""

from pathlib import Path
from typing import Any

from palenka.report.accounts import flops
from palenka.report.results import Run, read_run
from palenka.report.tables import objective_text
from palenka.runs.ledger import Account, account_of
from palenka.util.files import read_json
from palenka.util.text import listed

TO_FILL_IN = (
    "repository on the hub", "revision", "main contributions", "GPU hours of development", "genre of the training data",
    "human annotation", "synthetic data", "languages, and words of each",
)  # fmt: skip


def form_of(folder: Path, track: str) -> dict[str, Any]:
    """Fields of the form and their values; None where this run does not know one.

    Args:
        folder: a finished run.
        track: that it is submitted to.

    Raises:
        UserError: a file of it cannot be read.
    """
    run, account = read_run(folder), account_of(folder)
    return {
        "model": run.name, "track": track, **_model(run, folder), **_training(run), **_text(account),
        **dict.fromkeys(TO_FILL_IN),
    }  # fmt: skip


def _model(run: Run, folder: Path) -> dict[str, Any]:
    model = read_json(folder / "config.json")
    assert run.result is not None
    return {
        "model type": listed(run.learned),
        "architecture": run.architecture,
        "base model": "none: initial weights are random",
        "parameters": run.result.parameters.total,
        "layers": _first(model, "num_hidden_layers", "n_layer"),
        "attention heads": _first(model, "num_attention_heads", "n_head"),
        "hidden size": _first(model, "hidden_size", "n_embd"),
        "vocabulary size": model["vocab_size"],
        "tokenizer": "byte-level BPE, trained on the training text",
    }


def _first(values: dict[str, Any], *keys: str) -> Any:
    return next((values[key] for key in keys if key in values), None)


def _training(run: Run) -> dict[str, Any]:
    training, data = run.config.get("training") or {}, run.config.get("data") or {}
    assert run.result is not None
    optimizer = training.get("optimizer", "adamw")
    return {
        "maximum length": data.get("seq_length"),
        "optimizer": optimizer["name"] if isinstance(optimizer, dict) else optimizer,
        "learning rate": training.get("lr"),
        "learning rate scheduler": training.get("schedule", "cosine"),
        "batch size": training.get("batch_size"),
        "epochs": run.result.epochs,
        "steps": run.result.steps,
        "seed": run.seed,
        "objective": objective_text(run),
        "teacher models": run.teachers or "none",
        **_flops(run),
        "hours of training, of each process": round(run.result.seconds / 3600, 3),
    }


def _flops(run: Run) -> dict[str, float | str | None]:
    """Of all matrix products: the run's, with its teachers' passes, and its teachers'; None where that is not known."""
    cost = run.cost
    own = float(f"{cost.student + cost.teachers:.3g}") if cost else None
    others = float(f"{cost.of_trainings:.3g}") if cost and not cost.unknown else None
    return {"FLOPs of training": own, "FLOPs of its teachers' trainings": others if run.teachers else "none"}


def _text(account: Account) -> dict[str, Any]:
    ledger = account.ledger
    return {
        "training data": [text["name"] for text in {**ledger.texts, **ledger.teachers}.values()],
        "preprocessing": "cleaned by Palenka: the data's card says by which rules, and what they removed",
        "words of training data": ledger.unique_words,
        "words of it that only teachers saw": ledger.unique_words - ledger.own_words,
        "words whose number is not known": dict(ledger.unknown) or "none",
        "words seen": account.words_seen,
    }


def unknown_fields(form: dict[str, Any]) -> list[str]:
    """What is left for the author."""
    return [name for name, value in form.items() if value is None]


def form_text(form: dict[str, Any], missing: list[str]) -> str:
    """The form in Markdown, with what is missing of the submission."""
    rows = [f"| {name} | {_shown(name, value)} |" for name, value in form.items() if value is not None]
    to_fill_in = [f"- {name}: " for name in unknown_fields(form)]
    state = "**Incomplete**: what is missing stands at the end." if missing else "Complete."
    lacks = ["## Missing", "", *(f"- {what}" for what in missing), ""] if missing else []
    return "\n".join([
        f"# {form['model']}", "", state, "", "| field | value |", "|---|---|", *rows, "", "## To be filled in", "",
        *to_fill_in, "", *lacks,
    ])  # fmt: skip


def _shown(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float) and value >= 10**6:
        return flops(value)
    return f"{value:,}" if isinstance(value, int) and name != "seed" else str(value)
