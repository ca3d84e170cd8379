"""What several teachers say together."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from palenka.objectives import ModelShape, TeacherShape

Combination = Literal["logits", "probabilities"]


def combined_logits(
    logits: Sequence[Tensor], shares: Sequence[float], temperature: float, combine: Combination
) -> Tensor:
    """Softened logits of the teachers' weighted mean, in logit space or in probability space.

    Args:
        logits: (tokens, vocabulary) of each teacher, or of a mean alone, whose share is 1.
        shares: of each teacher; they sum to 1.
    """
    if combine == "logits":
        return _weighted_mean(logits, shares) / temperature
    weighted = [
        F.log_softmax(teacher / temperature, dim=-1) + math.log(share)
        for share, teacher in zip(shares, logits, strict=True)
    ]
    return torch.logsumexp(torch.stack(weighted), dim=0)


def _weighted_mean(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    first, *others = values
    mean = first if not others else shares[0] * first
    for share, value in zip(shares[1:], others, strict=True):
        mean = mean + share * value
    return mean


def combined_log_probs(
    logits: Sequence[Tensor], shares: Sequence[float], temperature: float, combine: Combination
) -> Tensor:
    """Log-probabilities of the same."""
    combined = combined_logits(logits, shares, temperature, combine)
    return F.log_softmax(combined, dim=-1) if combine == "logits" else combined


def last_layers(student: ModelShape, teachers: Sequence[TeacherShape]) -> list[tuple[tuple[int, int], ...]]:
    """For each teacher its (teacher layer, student layer) pairs: the last of both."""
    return [((teacher.num_hidden_layers, student.num_hidden_layers),) for teacher in teachers]


def mean_over_teachers(shares: Sequence[float], losses: Iterable[Sequence[Tensor]]) -> Tensor:
    """sum_k s_k mean_n l_kn of scalars l_kn: for each teacher one a layer pair, or one a head."""
    of_teachers = zip(shares, losses, strict=True)
    return torch.stack([share * torch.stack(list(of_pairs)).mean() for share, of_pairs in of_teachers]).sum()


def mean_where(counts: Tensor, values: Tensor) -> Tensor:
    """Mean of values (…,) over the positions that count (…,), bool.

    In work of one shape in all steps: to pick the positions out, a GPU would have to be asked how many there are.
    """
    return torch.where(counts, values, 0.0).sum() / counts.sum()


def divergence(from_log_probs: Tensor, to_log_probs: Tensor) -> Tensor:
    """KL(from || to) of each row (…,), in nats, of log-probabilities (…, outcomes)."""
    return F.kl_div(to_log_probs, from_log_probs, reduction="none", log_target=True).sum(dim=-1)
