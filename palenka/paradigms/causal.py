r"""Causal: each position predicts the token that follows, from itself and those before it.

    L = 1/N sum_t  -log p(x_{t+1} | x_{<=t}),        log p(text | context) = sum_t log p(x_t | context, x_{<t})
"""

from collections.abc import Sequence

import torch

from palenka.data.batch import Batch
from palenka.data.windows import Integers
from palenka.paradigms import Paradigm, Query, Streams


class Causal(Paradigm):
    """The next token."""

    def batch(self, input_ids: Integers, labels: Integers, streams: Streams) -> Batch:
        return Batch(torch.from_numpy(input_ids), torch.from_numpy(labels))

    def queries(self, context: tuple[int, ...], continuation: tuple[int, ...]) -> Sequence[Query]:
        last = len(context) - 1
        tokens = (context + continuation)[:-1]
        return [Query(tokens, tuple(range(last, last + len(continuation))), continuation)]
