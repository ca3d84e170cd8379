"""Texts to be scored: the tokens of an item's choices as a protocol makes them, and what a model can take.

A score is the sum of the log-probabilities of a text's tokens after its context, in nats. Two protocols say what
these are. The first is that of the challenge's pipeline of 2024, a fork of lm-eval 0.4.2, the second of its successor:

    2024   without context   [prefix] + tok(" " + text): every token of the text is scored. The prefix is the
                             tokenizer's bos token, else its eos, else its pad
           with context      tok(context + text): the tokens after the first len(tok(context)) are scored; no prefix
           both              no special tokens from the tokenizer
    2025   all               tok(context + text), with the special tokens that the tokenizer adds by itself: the tokens
                             that end after the context are scored, but never a sequence's first. Without a bos token,
                             then, a text's first token is not scored
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.items import Choice, Item
from palenka.util.errors import UserError


class Text(NamedTuple):
    """Token ids: those of `continuation` are scored, given `context` and what precedes them."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


def encode(items: Sequence[Item], tokenizer: Any, protocol: str = "2024") -> list[Text]:
    """The texts of all choices of the items, in order.

    Raises:
        UserError: the tokenizer cannot say where its tokens stand, and the protocol needs it.
    """
    return ENCODERS[protocol]([choice for item in items for choice in item.choices], tokenizer)


def _encode_2024(choices: Sequence[Choice], tokenizer: Any) -> list[Text]:
    """The context of a text without one is empty; `Scorer.score` puts the prefix there.

    Spaces at a context's end belong to the text, as in lm-eval.
    """
    contexts = [choice.context.rstrip() for choice in choices]
    wholes = [choice.context + choice.text if choice.context else f" {choice.text}" for choice in choices]
    distinct = sorted(set(contexts) - {""})
    context_ids: dict[str, tuple[int, ...]] = {"": (), **dict(zip(distinct, _ids(tokenizer, distinct), strict=True))}
    return [
        Text(context_ids[context], ids[len(context_ids[context]) :])
        for context, ids in zip(contexts, _ids(tokenizer, wholes), strict=True)
    ]


def _ids(tokenizer: Any, texts: list[str]) -> list[tuple[int, ...]]:
    if not texts:
        return []
    return [tuple(ids) for ids in tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]]


def _encode_2025(choices: Sequence[Choice], tokenizer: Any) -> list[Text]:
    """What follows the last scored token, an eos say, is dropped: no scored token sees it."""
    if not tokenizer.is_fast:
        raise UserError("the 2025 protocol needs a tokenizer that gives its tokens' positions in a text (a fast one)")
    wholes = [choice.context + choice.text for choice in choices]
    encoded = tokenizer(wholes, return_offsets_mapping=True, return_attention_mask=False)
    texts = []
    for choice, ids, offsets in zip(choices, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        # Offsets may begin after spaces that the text begins with; that pipeline counts from there.
        start = len(choice.context) + offsets[0][0]
        scored = [place for place, (_, end) in enumerate(offsets) if end > start and place > 0]
        first, last = (scored[0], scored[-1] + 1) if scored else (1, 1)
        texts.append(Text(tuple(ids[:first]), tuple(ids[first:last])))
    return texts


ENCODERS: dict[str, Callable[[Sequence[Choice], Any], list[Text]]] = {"2024": _encode_2024, "2025": _encode_2025}


class Limits(NamedTuple):
    """What a model can take: the longest input that it has positions for, and how many token ids it knows."""

    model: str
    max_length: int | None
    vocabulary: int


def check_texts(items: Sequence[Item], texts: Sequence[Text], task: str, limits: Limits) -> None:
    """Raise UserError for the first item with a text, of those that `encode` gives, that such a model cannot score."""
    owners = (item for item in items for _ in item.choices)
    for item, text in zip(owners, texts, strict=True):
        where = f"{task}/{item.subtask}, line {item.line}"
        if not text.continuation and len(text.context) != 1:  # a single token is scored as nothing at all in 2025
            raise UserError(f"{where}: {limits.model}'s tokenizer leaves nothing to score after the context")
        check_text(text, where, limits)


def check_text(text: Text, where: str, limits: Limits) -> None:
    """Raise UserError, saying where, if such a model cannot take the text."""
    length = max(len(text.context), 1) + len(text.continuation) - 1
    if limits.max_length is not None and length > limits.max_length:
        raise UserError(f"{where}: {length} tokens, but {limits.model} has {limits.max_length} positions")
    if max(text.context + text.continuation) >= limits.vocabulary:
        raise UserError(f"{where}: {beyond_vocabulary(limits)}")


def beyond_vocabulary(limits: Limits) -> str:
    """What is wrong where a tokenizer has words that were never added to the model."""
    return f"{limits.model}'s tokenizer gives ids beyond the model's {limits.vocabulary} entries"


def prefix_token(tokenizer: Any, limits: Limits) -> int:
    """The token that the 2024 protocol scores a text without context after.

    Raises:
        UserError: the tokenizer has none, or the model does not know it.
    """
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    token = next((int(token) for token in special if token is not None), None)
    if token is None:
        raise UserError(f"{limits.model}: the tokenizer has no bos, eos or pad token to begin a sentence with")
    if token >= limits.vocabulary:
        name = tokenizer.convert_ids_to_tokens(token)
        raise UserError(f"a text without context begins with {name!r} (id {token}): {beyond_vocabulary(limits)}")
    return token


class TextScorer(Protocol):
    """What scores texts: `scoring.Scorer`."""

    name: str
    tokenizer: Any

    @property
    def limits(self) -> Limits: ...

    def score(self, texts: Sequence[Text], batch_tokens: int | None = None, label: str = "") -> NDArray[np.float64]: ...
