"""What masked models do not see: which tokens of a window are hidden, and what stands in their place.

Of n tokens that can be hidden k = floor(n r + u) are, u uniform on [0, 1), and one at least: n r on average. They are
hidden in spans. The row is cut into spans, whose lengths are drawn; spans are hidden in a random order until k tokens
are, the last span perhaps in part.

    span: token        each token by itself                          BERT, arXiv 1810.04805
    span: uniform      of 1 to 3 tokens                              GPT-BERT, arXiv 2410.24159
    span: geometric    of l tokens with p(l) = 1/3 (2/3)^(l-1), at most 9    LTG-BERT, arXiv 2303.09859; SpanBERT

Of what is hidden 80 % is shown as `<mask>`, 10 % as random tokens and 10 % as it is; this is drawn once for a span, or
for each of its tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from torch import Tensor

from palenka.data.batch import Batch
from palenka.data.windows import IGNORED, Integers
from palenka.paradigms import Paradigm, ParadigmConfig, Query, Shown, Vocabulary
from palenka.paradigms._documents import attention_to, document_numbers, is_text, of_one_document
from palenka.util.errors import UserError

MASKED, RANDOM = 0.8, 0.1
LONGEST_UNIFORM, LONGEST_GEOMETRIC, GEOMETRIC = 3, 9, 1 / 3
Share = Annotated[float, Field(gt=0, le=1)]


def _one_or_two(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value if isinstance(value, list | tuple) else (value, value))
    except ValidationError:
        raise ValueError(f"expected a share above 0 and at most 1, or two, [first, last], got {value}") from None


class CorruptionConfig(ParadigmConfig):
    """How windows are masked."""

    rate: Annotated[tuple[Share, Share], WrapValidator(_one_or_two)] = Field(
        default=(0.15, 0.15),
        description="share of tokens that is hidden; [first, last] changes it evenly over the training",
    )
    span: Literal["token", "uniform", "geometric"] = Field(
        default="token", description="tokens one by one, spans of 1 to 3, or spans of 3 on average"
    )
    draw: Literal["span", "token"] = Field(
        default="span", description="whether <mask>, a random token or the token itself is drawn for a span or a token"
    )
    isolate_documents: bool = Field(default=False, description="documents of a window do not see each other")

    def idle(self) -> Iterator[tuple[str, str]]:
        if self.span == "token":
            yield "draw", "spans of several tokens, span: uniform or geometric"

    @property
    def isolates(self) -> bool:
        return self.isolate_documents

    @property
    def predicted_share(self) -> float:
        return sum(self.rate) / 2


class Corruption:
    """Hides tokens of windows.

    Args:
        config: how.
        vocabulary: special tokens are never hidden, and never stand in place of others.

    Raises:
        UserError: there is no mask token.
    """

    def __init__(self, config: CorruptionConfig, vocabulary: Vocabulary) -> None:
        if vocabulary.mask is None:
            raise UserError(f"paradigm {config.name}: the tokenizer has no mask token; prepare the data again")
        self.config, self.mask = config, vocabulary.mask
        self.special = np.array(sorted({*vocabulary.special, vocabulary.mask}))
        self.ordinary = np.setdiff1d(np.arange(vocabulary.size), self.special)

    def rate(self, progress: float) -> float:
        """The share of tokens that is hidden after a share of the training."""
        first, last = self.config.rate
        return first + (last - first) * progress

    def hide(self, shown: Shown, can_be_hidden: NDArray[np.bool_]) -> tuple[Integers, NDArray[np.bool_]]:
        """What is shown in place of windows (batch, time), and which positions are hidden (batch, time).

        Args:
            shown: the windows.
            can_be_hidden: (batch, time); special tokens cannot in any case.
        """
        free = ~np.isin(shown.input_ids, self.special) & can_be_hidden
        corrupted, hidden = shown.input_ids.copy(), np.zeros_like(free)
        for row in range(len(corrupted)):
            random = shown.stream(row)
            places, spans = self._choose(np.flatnonzero(free[row]), self.rate(shown.progress), random)
            hidden[row, places] = True
            corrupted[row, places] = self._replace(corrupted[row, places], spans, random)
        return corrupted, hidden

    def _choose(self, free: Integers, rate: float, random: np.random.Generator) -> tuple[Integers, Integers]:
        """The places that are hidden, and the number of the span of each."""
        if not len(free):
            return free, free
        count = min(len(free), max(1, int(len(free) * rate + random.random())))
        spans = self._spans(free, random)
        order = random.random(spans[-1] + 1)[spans].argsort(kind="stable")[:count]
        return free[order], spans[order]

    def _spans(self, free: Integers, random: np.random.Generator) -> Integers:
        """The number of the span of each place; what cannot be hidden ends a span."""
        begins = np.zeros(len(free), bool)
        starts = self._lengths(len(free), random).cumsum()
        begins[starts[starts < len(free)]] = True
        begins[1:] |= np.diff(free) > 1
        begins[0] = False
        numbers: Integers = np.cumsum(begins)
        return numbers

    def _lengths(self, count: int, random: np.random.Generator) -> Integers:
        """Of spans enough for so many tokens."""
        if self.config.span == "token":
            return np.ones(count + 1, np.int64)
        if self.config.span == "uniform":
            return random.integers(1, LONGEST_UNIFORM + 1, count + 1)
        return random.geometric(GEOMETRIC, count + 1).clip(max=LONGEST_GEOMETRIC)

    def _replace(self, tokens: Integers, spans: Integers, random: np.random.Generator) -> Integers:
        """What is shown in place of hidden tokens."""
        draws = random.random(spans.max(initial=-1) + 1)[spans]
        if self.config.draw == "token":
            draws = random.random(len(tokens))
        others = random.choice(self.ordinary, len(tokens))
        return np.where(draws < MASKED, self.mask, np.where(draws < MASKED + RANDOM, others, tokens))


class MaskedParadigm(Paradigm):
    """Base of those that hide tokens, and have a model see all others.

    `distance` is how many places before a hidden token the position stands that predicts it.
    """

    Config = CorruptionConfig
    config: CorruptionConfig
    attention = "full"
    distance: int

    def __init__(self, config: CorruptionConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.corruption = Corruption(config, vocabulary)

    def batch(self, shown: Shown) -> Batch:
        inputs, hidden = self.corruption.hide(shown, self._predictable(shown.input_ids))
        labels = np.full_like(inputs, IGNORED)
        rows, places = hidden.nonzero()
        labels[rows, places - self.distance] = shown.input_ids[rows, places]
        return Batch(torch.from_numpy(inputs), torch.from_numpy(labels), self._attention(shown.input_ids))

    def _predictable(self, input_ids: Integers) -> NDArray[np.bool_]:
        """(batch, time): which tokens have a position that could predict them, and that they see."""
        here = slice(self.distance, None)
        there = slice(0, input_ids.shape[1] - self.distance)
        found = np.zeros(input_ids.shape, bool)
        found[:, here] = True
        if self.config.isolate_documents:
            documents = document_numbers(input_ids, self.vocabulary)
            found[:, here] = documents[:, here] == documents[:, there]
        return found

    def _attention(self, input_ids: Integers) -> Literal["full"] | Tensor:
        """All sees all of its window, or of its document, but for padding."""
        text = is_text(input_ids, self.vocabulary)
        if self.config.isolate_documents:
            return attention_to(of_one_document(input_ids, self.vocabulary) & text[:, None])
        return "full" if text.all() else attention_to(np.broadcast_to(text[:, None], (*text.shape, text.shape[1])))

    def queries(
        self, context: tuple[int, ...], continuation: tuple[int, ...], after: tuple[int, ...] = (),
        words: tuple[int, ...] = (),
    ) -> Sequence[Query]:  # fmt: skip
        """One for each token, which is masked, with what follows of its word where words are given."""
        words = words or tuple(range(len(continuation)))
        queries = []
        for place, (token, word) in enumerate(zip(continuation, words, strict=True)):
            rest = tuple(
                self.corruption.mask if other == word else later
                for later, other in zip(continuation[place + 1 :], words[place + 1 :], strict=True)
            )
            tokens = (*context, *continuation[:place], self.corruption.mask, *rest, *after)
            queries.append(Query(tokens, (len(context) + place - self.distance,), (token,)))
        return queries
