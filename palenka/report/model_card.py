"""The model card of a run: README.md with the front matter that the Hugging Face Hub reads."""

import sys
from pathlib import Path
from typing import Any

import yaml

from palenka.report.comparison import BASELINES, baselines, task_names
from palenka.report.results import Evaluation, Run, read_run
from palenka.report.tables import objective_text
from palenka.util.files import write_text
from palenka.util.text import listed, percent

TASK = {"type": "text-generation", "name": "Text Generation"}
LIMITS = """## Limits

A small model for research on learning from little text. It follows no instructions, knows few facts, and repeats
what its training text holds. The licence of the weights depends on that text and has not been settled here."""


def write_model_card(run: Path) -> None:
    """Writes `run`/README.md from the run's result files; what is not there yet is left out.

    Raises:
        UserError: `run` is not a run directory, or a result file cannot be read.
    """
    found = read_run(run)
    for problem in found.broken:
        print(f"not in the model card: {problem}", file=sys.stderr)
    front = yaml.safe_dump(_front_matter(found), sort_keys=False, allow_unicode=True, width=1000)
    write_text(run / "README.md", f"---\n{front}---\n\n{_body(found)}")


def _front_matter(run: Run) -> dict[str, Any]:
    """Metadata; the licence stays unknown because it depends on the training text and is its publisher's to give."""
    tags = ["babylm", "knowledge-distillation"] if run.distilled else ["babylm"]
    front: dict[str, Any] = {
        "language": "en",
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": tags,
    }
    results = _index(run)
    return front | ({"model-index": [{"name": run.name, "results": results}]} if results else {})


def _index(run: Run) -> list[dict[str, Any]]:
    entries = [
        _entry(task, run.evaluations[task].protocol, "accuracy", "Accuracy", run.evaluations[task].accuracy)
        for task in task_names([run])
    ]
    if run.result is not None:
        dev = run.result.dev
        entries.append(_entry(f"{run.data_name} dev", None, "cross_entropy", "Nats per token", dev.cross_entropy))
        entries.append(_entry(f"{run.data_name} dev", None, "bits_per_byte", "Bits per byte", dev.bits_per_byte))
    return entries


def _entry(data: str, protocol: str | int | None, metric: str, name: str, value: float) -> dict[str, Any]:
    dataset = {"type": data.replace(" ", "_"), "name": data}
    if protocol is not None:
        dataset["config"] = f"BabyLM {protocol} protocol"
    return {"task": dict(TASK), "dataset": dataset, "metrics": [{"type": metric, "name": name, "value": value}]}


def _body(run: Run) -> str:
    parts = [f"# {run.name}", _summary(run), _results(run), _how(run), _use(run), LIMITS]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(run: Run) -> str:
    if run.distilled:
        made = f"a student distilled from {listed(run.teachers)}"
    else:
        made = "trained from scratch on next-token cross-entropy"
    text = f"An English causal language model ({run.architecture}), {made}, with Palenka."
    if run.result is None:
        return f"{text} The run is not finished."
    parameters = run.result.parameters
    return f"{text} It has {parameters.total:,} parameters, {parameters.non_embedding:,} without embeddings."


def _results(run: Run) -> str:
    rows = [_accuracy_row(run.evaluations[task]) for task in task_names([run])]
    lines = []
    if rows:
        lines = ["| task | accuracy, % | ± | items | simple baselines, % |", "|---|---:|---:|---:|---|", *rows, ""]
        lines.append("Accuracy is the unweighted mean over subtasks, ± its standard error over items, of one seed.")
    if run.result is not None:
        dev = run.result.dev
        lines.append(
            f"Dev cross-entropy: {dev.cross_entropy:.3f} nats per token, {dev.bits_per_byte:.3f} bits per UTF-8 byte "
            f"({dev.tokens:,} tokens)."
        )
    return "## Results\n\n" + "\n".join(lines) if lines else ""


def _accuracy_row(found: Evaluation) -> str:
    known = ", ".join(f"{BASELINES.get(name, name)} {percent(value)}" for name, value in baselines(found).items())
    return f"| {found.task} | {percent(found.accuracy)} | {percent(found.stderr)} | {found.n:,} | {known} |"


def _how(run: Run) -> str:
    lines = [f"- data: `{run.data_name}`", f"- objective: {objective_text(run)}"]
    if run.teachers:
        lines.append(f"- teachers: {', '.join(f'`{teacher}`' for teacher in run.teachers)}")
    if run.result is not None:
        result = run.result
        lines.append(
            f"- {result.steps:,} steps, {result.epochs:g} epochs, {result.tokens:,} tokens, {result.words:,} words; "
            f"the weights are those of step {result.best_step}, the best by dev cross-entropy"
        )
    lines.append(f"- seed: {run.seed}; the complete configuration is in `config.yaml`")
    return "## How it was made\n\n" + "\n".join(lines)


def _use(run: Run) -> str:
    return f"""## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("runs/{run.name}")
model = AutoModelForCausalLM.from_pretrained("runs/{run.name}")
```"""
