"""The model card of a run: README.md with the front matter that the Hugging Face Hub reads."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.ways import CAUSAL, OF_MASKED, in_way
from palenka.finetuning.results import RecipeResults
from palenka.models.config import ARCHITECTURES
from palenka.report.accounts import flops
from palenka.report.comparison import BASELINES, baselines, in_order
from palenka.report.results import Evaluation, Run, read_evaluations, read_run
from palenka.report.tables import objective_text
from palenka.runs.ledger import account_of
from palenka.util.files import write_text
from palenka.util.text import listed, percent

UNKNOWN = "unknown"
"""The licence depends on the training text, and is the publisher's of the weights to give."""
TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def write_model_cards(folders: Iterable[Path]) -> None:
    """Writes those of the folders that are finished runs."""
    for folder in folders:
        if all((folder / name).exists() for name in ("config.yaml", "result.json")):
            write_model_card(folder)


def write_model_card(run: Path) -> None:
    """Writes `run`/README.md: see `model_card`."""
    write_text(run / "README.md", model_card(run))


def model_card(run: Path, licence: str = UNKNOWN, place: str | None = None, with_code: bool = False) -> str:
    """The card of a run, from its result files; what is not there yet is left out.

    Args:
        run: its folder.
        licence: of its weights, as the hub abbreviates it.
        place: what the model is loaded from, if not its folder here.
        with_code: whether the code of an architecture of our own is there, too.

    Raises:
        UserError: `run` is not a run directory, or a result file cannot be read.
    """
    found = read_run(run)
    others = [read_evaluations(run, year) for year in PROTOCOLS if year != found.protocol]
    years = [found.evaluations, *(of_year for of_year, _, _ in others)]
    evaluations = [of_year[task] for of_year in years for task in in_order(set(of_year))]
    for problem in (*found.broken, *(problem for _, _, broken in others for problem in broken)):
        print(f"not in the model card: {problem}", file=sys.stderr)
    card = ModelCard.from_template(
        _metadata(found, evaluations, licence), template_str=TEMPLATE.read_text(encoding="utf-8"),
        run=found, listed=listed, flops=flops,
        kind=_kind(found), own=found.architecture in ARCHITECTURES.available(),
        objective=objective_text(found), rows=[_row(each) for each in evaluations],
        finetuned=[_finetuned(of) for of in found.finetuning],
        words=account_of(run).lines if found.result else [], licence=licence, with_code=with_code,
        place=place or f"runs/{found.name}",
    )  # fmt: skip
    return str(card)


def milestone_card(card: str, milestone: str) -> str:
    """The card of a run's milestone, with the metadata of the run's, but for its results."""
    whole = ModelCard(card)
    data = cast(ModelCardData, whole.data)
    data.eval_results = data.model_name = None
    title = whole.text.strip().partition("\n")[0]
    text = "The model when it had seen so many words; its card is on the branch `main`."
    return f"---\n{data}\n---\n\n{title}, {milestone}\n\n{text}\n"


def _kind(run: Run) -> str:
    """The paradigms it learned by; both ways of hiding tokens make a masked model, and one of its own has its name."""
    return " and ".join(sorted({"masked" if name in OF_MASKED else name for name in run.learned}))


def _metadata(run: Run, evaluations: list[Evaluation], licence: str) -> ModelCardData:
    protocols = [in_way(f"BabyLM {found.protocol} protocol", found.way) for found in evaluations]
    results = [
        _result(found.task, "accuracy", "Accuracy", found.accuracy, protocol)
        for found, protocol in zip(evaluations, protocols, strict=True)
    ]
    if run.result is not None:
        data, dev = f"{run.data_name} dev", run.result.dev
        results.append(_result(data, "cross_entropy", "Nats per token", dev.cross_entropy))
        if dev.bits_per_byte is not None:
            results.append(_result(data, "bits_per_byte", "Bits per byte", dev.bits_per_byte))
    return ModelCardData(
        language="en", license=licence, library_name="transformers",
        pipeline_tag="text-generation" if CAUSAL in run.learned else "fill-mask",
        tags=["babylm", *(["knowledge-distillation"] if run.distilled else [])],
        model_name=run.name if results else None, eval_results=results or None,
    )  # fmt: skip


def _result(data: str, metric: str, name: str, value: float, protocol: str | None = None) -> EvalResult:
    return EvalResult(
        task_type="text-generation", task_name="Text Generation", dataset_type=data.replace(" ", "_"),
        dataset_name=data, dataset_config=protocol, metric_type=metric, metric_name=name, metric_value=value,
    )  # fmt: skip


def _row(found: Evaluation) -> list[str]:
    known = ", ".join(f"{BASELINES.get(name, name)} {percent(value)}" for name, value in baselines(found).items())
    return [found.name, str(found.protocol), percent(found.accuracy), percent(found.stderr), f"{found.n:,}", known]


def _finetuned(found: RecipeResults) -> list[str]:
    """Recipe, seeds, means of the tasks, and their mean."""
    tasks = ", ".join(f"{name} {percent(of.mean)}" for name, of in found.tasks.items())
    return [found.name, ", ".join(map(str, found.seeds)), tasks, percent(found.mean)]
