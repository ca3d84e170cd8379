"""What a training leaves for others: model folders of its student, and what the run came to."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from palenka.data.tokenizer import load_tokenizer, save_tokenizer
from palenka.models.folder import EXPORTED, weights_sha256
from palenka.models.huggingface import export_model
from palenka.runs.directory import Run
from palenka.runs.ledger import LEDGER, Account, read_ledger
from palenka.training.plan import Plan
from palenka.training.state import Progress
from palenka.util.files import removed_on_error, write_json
from palenka.util.system_errors import noting


def write_model(model: PreTrainedModel, plan: Plan, folder: Path) -> None:
    """A Hugging Face model folder, without anything the objectives own."""
    export_model(model, folder)
    save_tokenizer(load_tokenizer(plan.data_folder / "tokenizer"), folder)


def milestone_writer(model: PreTrainedModel, plan: Plan, run: Run) -> Callable[[Path], None]:
    """Writes the folder of a milestone: the model as it is now."""

    def write(folder: Path) -> None:
        write_model(model, plan, folder)
        write_json(folder / "revision.json", {EXPORTED: weights_sha256(folder)})
        shutil.copy(run.path / "config.yaml", folder)  # names the data, for an evaluation's baselines
        shutil.copy(run.path / LEDGER, folder)

    return write


def export_run(model: PreTrainedModel, plan: Plan, run: Run) -> None:
    """Make the run directory a model folder."""
    folder = run.path / ".export.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    with noting(lambda: f"{run.path}: the model was not written"), removed_on_error(folder):
        write_model(model, plan, folder)
        run.place(folder)


def result_of(plan: Plan, run: Run, progress: Progress) -> dict[str, Any]:
    """What result.json says."""
    return {
        "name": plan.config.name,
        "method": plan.method,
        "architecture": plan.model.model_type,
        **({"paradigms": parts} if (parts := plan.config.paradigm_config.part_names) != ["causal"] else {}),
        "parameters": plan.parameters,
        "steps": progress.step,
        "epochs": round(progress.epoch, 4),
        "tokens": progress.tokens,
        "words": progress.words,
        "ledger": Account(read_ledger(run.path), progress.words, round(progress.epoch, 4)).record(),
        "best_step": progress.best_step,
        "dev": progress.best_dev,
        EXPORTED: weights_sha256(run.path),
        **({"lost_best": progress.lost_best} if progress.lost_best else {}),
        "seconds": round(progress.seconds, 1),
        "tokens_per_second": round(progress.tokens / max(progress.seconds, 1e-9)),
        **({"skipped_steps": progress.skipped} if progress.skipped else {}),
        **({"restarts": run.restarts} if run.restarts else {}),
    }
