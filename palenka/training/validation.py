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
from palenka.evaluation.ways import in_way, way_of
from palenka.models.chunked_loss import token_losses
from palenka.models.forward import run_model
from palenka.paradigms import Paradigm
from palenka.training.milestone_plan import MilestonePlan

BATCH = 64


@torch.no_grad()
def validate(
    model: PreTrainedModel, windows: DevWindows, paradigm: Paradigm, accelerator: Accelerator
) -> dict[str, Any]:
    """Cross-entropy of a model on the dev windows, under each part of its paradigm, shared among the processes.

    Returns:
        `cross_entropy` in nats per token, `tokens`, `domains`: the same of each; and `bits_per_byte` where every token
        is predicted from those before it. Of several parts the mean that is trained, and `paradigms`: all this of each.
    """
    each = {name: _validate(model, windows, part, accelerator) for name, part in paradigm.parts.items()}
    if len(each) == 1:
        return next(iter(each.values()))
    mean = sum(share * each[name]["cross_entropy"] for name, share in paradigm.shares.items())
    return {"cross_entropy": mean, "paradigms": each}


def _validate(
    model: PreTrainedModel, windows: DevWindows, paradigm: Paradigm, accelerator: Accelerator
) -> dict[str, Any]:
    sums = torch.zeros(len(windows.split.domains), 2, dtype=torch.float64, device=accelerator.device)
    model.eval()
    first, stride = accelerator.process_index * BATCH, accelerator.num_processes * BATCH
    for start in range(first, len(windows), stride):
        indices = range(start, min(start + BATCH, len(windows)))
        batch = paradigm.window_batch(windows, indices).with_places().to(accelerator.device)
        # Compiled layers would be recompiled for this shape, and for the last batch's.
        with accelerator.autocast(), torch.compiler.set_stance("force_eager"):
            losses, counts = token_cross_entropy(model, batch)
        domains = torch.tensor([windows.domain_of(index) for index in indices], device=accelerator.device)
        sums.index_add_(0, domains, torch.stack([losses, counts.double()], dim=1))
    model.train()
    found = summarise(accelerator.reduce(sums, reduction="sum").cpu(), windows.split.domains)
    return found if paradigm.attention == "causal" else _without_bits(found)


def score_milestone(scorer: Scorer, plan: MilestonePlan, accelerator: Accelerator) -> dict[str, Accuracy]:
    """Accuracy of a milestone on each task, whose name says the way of asking, shared among the processes."""
    way = way_of(scorer.paradigm.config.name)
    found = {}
    for subset in plan.subsets:
        share = subset.scores(scorer, accelerator.process_index, accelerator.num_processes)
        scores = accelerator.reduce(torch.from_numpy(share).to(accelerator.device), reduction="sum").cpu().numpy()
        found[in_way(subset.task, way)], _ = task_accuracy(subset.items, scores)
    return found


def token_cross_entropy(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each sequence's labels.

    Returns:
        Sums in nats (batch,), float64; numbers of tokens (batch,).
    """
    losses = token_losses(run_model(model, batch).student_input(), batch.at_places(batch.labels))
    sequences = batch.at_places(torch.arange(len(batch), device=losses.device)[:, None].expand(batch.labels.shape))
    sums = torch.zeros(len(batch), dtype=torch.float64, device=losses.device)
    return sums.index_add_(0, sequences, losses.double()), batch.counts.sum(dim=1)


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


def _without_bits(found: dict[str, Any]) -> dict[str, Any]:
    """Bits per byte say how much a whole text takes, not what some of its tokens do."""
    domains = {name: _without_bits(of) for name, of in found.get("domains", {}).items()}
    figures = {key: value for key, value in found.items() if key != "bits_per_byte"}
    return figures | ({"domains": domains} if domains else {})


def _cross_entropy(nats: float, tokens: float, size: float) -> dict[str, Any]:
    return {
        "cross_entropy": nats / max(1, tokens),
        "bits_per_byte": bits_per_byte(nats, size),
        "tokens": round(tokens),
    }
