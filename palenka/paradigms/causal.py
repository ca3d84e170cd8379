r"""Causal: each position predicts the token that follows, from itself and those before it.

    L = 1/N sum_t  -log p(x_{t+1} | x_{<=t}),        log p(text | context) = sum_t log p(x_t | context, x_{<t})
"""

from collections.abc import Sequence

import torch
from pydantic import Field

from palenka.data.batch import Batch
from palenka.data.windows import IGNORED
from palenka.paradigms import Paradigm, ParadigmConfig, Query, Shown
from palenka.paradigms._documents import attention_to, causal_order, of_one_document


class Causal(Paradigm):
    """The next token."""

    class Config(ParadigmConfig):
        isolate_documents: bool = Field(
            default=False, description="documents of a window neither see nor predict each other"
        )

        @property
        def isolates(self) -> bool:
            return self.isolate_documents

    config: Config

    def batch(self, shown: Shown) -> Batch:
        inputs, labels = (torch.from_numpy(each) for each in (shown.input_ids, shown.labels))
        if not self.config.isolate_documents:
            return Batch(inputs, labels)
        visible = of_one_document(shown.input_ids, self.vocabulary) & causal_order(inputs.shape[1])
        ends = torch.from_numpy(shown.input_ids == self.vocabulary.eos)  # what follows is another document's
        return Batch(inputs, labels.masked_fill(ends, IGNORED), attention_to(visible))

    def queries(
        self, context: tuple[int, ...], continuation: tuple[int, ...], after: tuple[int, ...] = (),
        words: tuple[int, ...] = (),
    ) -> Sequence[Query]:  # fmt: skip
        last = len(context) - 1
        tokens = (context + continuation)[:-1]
        return [Query(tokens, tuple(range(last, last + len(continuation))), continuation)]
