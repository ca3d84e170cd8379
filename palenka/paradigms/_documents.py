"""Who sees whom in windows of several documents, and in windows with padding."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palenka.data.windows import Integers
from palenka.paradigms import Vocabulary

LEAST = torch.finfo(torch.float32).min


def is_text(input_ids: Integers, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """(batch, time): whether a position is no padding."""
    return input_ids != vocabulary.pad if vocabulary.pad is not None else np.ones_like(input_ids, bool)


def document_numbers(input_ids: Integers, vocabulary: Vocabulary) -> Integers:
    """(batch, time): which document of its window each position belongs to; `</s>` ends one."""
    ends = input_ids == vocabulary.eos
    return np.cumsum(ends, axis=1) - ends


def additive_mask(visible: NDArray[np.bool_]) -> Tensor:
    """Float32 (batch, 1, time, time) of what is visible (batch, time, time).

    Each position also sees itself: of a row that sees nothing attention would be no number.
    """
    return hiding(torch.from_numpy(visible | np.eye(visible.shape[-1], dtype=bool)))[:, None]


def hiding(visible: Tensor) -> Tensor:
    """Float32 of its shape: 0 where something is visible, and the least number elsewhere."""
    return torch.zeros(visible.shape).masked_fill_(~visible, LEAST)


def of_one_document(input_ids: Integers, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """(batch, time, time): whether two positions belong to one document."""
    documents = document_numbers(input_ids, vocabulary)
    return documents[:, :, None] == documents[:, None, :]


def causal_order(time: int) -> NDArray[np.bool_]:
    """(time, time): whether the position of a column is that of the row, or before it."""
    return np.tri(time, dtype=bool)
