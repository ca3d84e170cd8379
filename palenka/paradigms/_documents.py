"""Who sees whom in windows of several documents, and in windows with padding."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palenka.data.windows import Integers
from palenka.paradigms import Vocabulary


def is_text(input_ids: Integers, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """(batch, time): whether a position is no padding."""
    return input_ids != vocabulary.pad if vocabulary.pad is not None else np.ones_like(input_ids, bool)


def document_numbers(input_ids: Integers, vocabulary: Vocabulary) -> Integers:
    """(batch, time): which document of its window each position belongs to; `</s>` ends one."""
    ends = input_ids == vocabulary.eos
    return np.cumsum(ends, axis=1) - ends


def attention_to(visible: NDArray[np.bool_]) -> Tensor:
    """Bool (batch, 1, time, time), as a `Batch` has it, of what is visible (batch, time, time).

    Each position also sees itself: of a row that sees nothing attention would be no number.
    """
    return torch.from_numpy(visible | np.eye(visible.shape[-1], dtype=bool))[:, None]


def of_one_document(input_ids: Integers, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """(batch, time, time): whether two positions belong to one document."""
    documents = document_numbers(input_ids, vocabulary)
    return documents[:, :, None] == documents[:, None, :]


def causal_order(time: int) -> NDArray[np.bool_]:
    """(time, time): whether the position of a column is that of the row, or before it."""
    return np.tri(time, dtype=bool)
