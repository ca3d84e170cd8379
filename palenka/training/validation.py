"""What is measured while a run trains: cross-entropy on the dev text, and accuracy of milestones."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from palenka.data.batch import Batch
from palenka.data.tokens import DevWindows, Domain
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.statistics import Accuracy, bits_per_byte, task_accuracy
from palenka.models.chunked_loss import token_losses
from palenka.models.forward import run_model
from palenka.paradigms import Paradigm
from palenka.training.milestone_plan import MilestonePlan

BATCH = 64


@torch.no_grad()
def validate(
    model: PreTrainedModel, windows: DevWindows, paradigm: Paradigm, accelerator: Accelerator
) -> dict[str, Any]:
    """Cross-entropy of a model on the dev windows, shared among the processes.

    Returns:
        `cross_entropy` in nats per token, `bits_per_byte`, `tokens`, and `domains`: the same of each.
    """
    sums = torch.zeros(len(windows.split.domains), 2, dtype=torch.float64, device=accelerator.device)
    model.eval()
    first, stride = accelerator.process_index * BATCH, accelerator.num_processes * BATCH
    for start in range(first, len(windows), stride):
        indices = range(start, min(start + BATCH, len(windows)))
        batch = paradigm.window_batch(windows, indices).to(accelerator.device)
        # Compiled layers would be recompiled for this shape, and for the last batch's.
        with accelerator.autocast(), torch.compiler.set_stance("force_eager"):
            losses, counts = token_cross_entropy(model, batch)
        domains = torch.tensor([windows.domain_of(index) for index in indices], device=accelerator.device)
        sums.index_add_(0, domains, torch.stack([losses, counts.double()], dim=1))
    model.train()
    return summarise(accelerator.reduce(sums, reduction="sum").cpu(), windows.split.domains)


def score_milestone(scorer: Scorer, plan: MilestonePlan, accelerator: Accelerator) -> dict[str, Accuracy]:
    """Accuracy of a milestone on each task, shared among the processes."""
    found = {}
    for subset in plan.subsets:
        share = subset.scores(scorer, accelerator.process_index, accelerator.num_processes)
        scores = accelerator.reduce(torch.from_numpy(share).to(accelerator.device), reduction="sum").cpu().numpy()
        found[subset.task], _ = task_accuracy(subset.items, scores)
    return found


def token_cross_entropy(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each sequence's labels.

    Returns:
        Sums in nats (batch,), float64; numbers of tokens (batch,).
    """
    losses = token_losses(run_model(model, batch).student_input(), batch.labels.flatten())
    return losses.double().reshape(batch.labels.shape).sum(dim=1), batch.counts.sum(dim=1)


def summarise(sums: Tensor, domains: list[Domain]) -> dict[str, Any]:
    """Cross-entropy in nats per token and bits per UTF-8 byte, over all and by domain.

    Args:
        sums: (domains, 2): nats and number of tokens.
        domains: their sizes; bytes per token are those of the whole domain.
    """
    byte_counts = [tokens * domain.bytes / max(1, domain.end - domain.start)
                   for (_, tokens), domain in zip(sums.tolist(), domains, strict=True)]  # fmt: skip
    rows = [(nats, tokens, size) for (nats, tokens), size in zip(sums.tolist(), byte_counts, strict=True)]
    total = tuple(map(sum, zip(*rows, strict=True)))
    by_domain = {domain.name: _cross_entropy(*row) for domain, row in zip(domains, rows, strict=True)}
    return _cross_entropy(*total) | {"domains": by_domain}


def _cross_entropy(nats: float, tokens: float, size: float) -> dict[str, Any]:
    return {
        "cross_entropy": nats / tokens,
        "bits_per_byte": bits_per_byte(nats, size),
        "tokens": round(tokens),
    }
