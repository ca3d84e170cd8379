"""Texts to be scored: the tokens of an item's choices as a protocol makes them, and what a model can take.

A score is the sum of the log-probabilities of a text's tokens after its context, in nats. Two protocols say what
these are. The first is that of the challenge's pipeline of 2024, a fork of lm-eval 0.4.2, the second of its successor,
and that of 2026, too:

    2024   without context   [prefix] + tok(" " + text): every token of the text is scored. The prefix is the
                             tokenizer's bos token, else its eos, else its pad
           with context      tok(context + text): the tokens after the first len(tok(context)) are scored; no prefix
           both              no special tokens from the tokenizer
    2025   all               tok(context + text), with the special tokens that the tokenizer adds by itself: the tokens
                             that end after the context are scored, but never a sequence's first. Without a bos token,
                             then, a text's first token is not scored

A masked model sees a whole text, context and all, with what the tokenizer puts around one ([CLS] … [SEP]) or, where it
puts nothing there, between its bos and its eos, as in training. Under both protocols all tokens behind the context are
scored, the first one, too. What is left of the protocols: the space before a sentence without context, in 2024; and
where a context ends, after as many tokens as it has alone, or, in 2025, where its letters do.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.items import Choice, Item
from palenka.evaluation.protocols import PROTOCOLS
from palenka.util.errors import UserError


class Text(NamedTuple):
    """Token ids: those of `continuation` are scored, given `context` and what precedes them.

    words: the number of the word of each token of the continuation, where whole words are to be hidden.
    after: what follows, for those who see it.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]
    words: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def encode(items: Sequence[Item], tokenizer: Any, protocol: str = "2024") -> list[Text]:
    """The texts of all choices of the items, in order, for a causal model.

    Raises:
        UserError: the tokenizer cannot say where its tokens stand, and the protocol needs it.
    """
    return ENCODERS[PROTOCOLS[protocol].tokens]([choice for item in items for choice in item.choices], tokenizer)


def encode_masked(
    items: Sequence[Item], tokenizer: Any, protocol: str = "2024", with_words: bool = False
) -> list[Text]:
    """The same for a masked model, without what stands around them.

    Raises:
        UserError: the tokenizer cannot say where its tokens stand, and the protocol or words need it.
    """
    choices = [choice for item in items for choice in item.choices]
    if protocol == "2024" and not with_words:
        return _encode_2024(choices, tokenizer)
    if not tokenizer.is_fast:
        raise UserError("the 2025 protocol and words need a tokenizer that says where its tokens stand (a fast one)")
    wholes = _wholes_2024(choices) if protocol == "2024" else [choice.context + choice.text for choice in choices]
    encoded = tokenizer(wholes, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
    if protocol == "2024":
        starts = [len(text.context) for text in _encode_2024(choices, tokenizer)]
    else:
        starts = [
            next((place for place, (_, end) in enumerate(offsets) if end > len(choice.context)), len(offsets))
            for choice, offsets in zip(choices, encoded["offset_mapping"], strict=True)
        ]
    return [
        Text(tuple(ids[:start]), tuple(ids[start:]), _words(encoded.word_ids(number)[start:]) if with_words else ())
        for number, (ids, start) in enumerate(zip(encoded["input_ids"], starts, strict=True))
    ]


def _words(numbers: Sequence[int | None]) -> tuple[int, ...]:
    """Of each token its word; a token that is of none is a word of its own."""
    return tuple(-1 - place if number is None else number for place, number in enumerate(numbers))


def _wholes_2024(choices: Sequence[Choice]) -> list[str]:
    return [choice.context + choice.text if choice.context else f" {choice.text}" for choice in choices]


def _encode_2024(choices: Sequence[Choice], tokenizer: Any) -> list[Text]:
    """The context of a text without one is empty; `Scorer.score` puts the prefix there.

    Spaces at a context's end belong to the text, as in lm-eval.
    """
    contexts, wholes = [choice.context.rstrip() for choice in choices], _wholes_2024(choices)
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


class Frame(NamedTuple):
    """Token ids that stand before and after each text that a masked model is shown."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def frame_of(tokenizer: Any) -> Frame:
    """What the tokenizer puts around a text by itself; its bos and eos where it puts nothing there."""
    bare, whole = (tuple(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (False, True))
    if bare == whole:
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        return Frame(*(() if token is None else (int(token),) for token in ends))
    before = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    return Frame(whole[:before], whole[before + len(bare) :])


class Limits(NamedTuple):
    """What a model can take: the longest input that it has positions for, and how many token ids it knows.

    `frame` is what stands around a text that a masked model is shown; None for a causal one.
    """

    model: str
    max_length: int | None
    vocabulary: int
    frame: Frame | None = None

    def length(self, text: Text) -> int:
        """Of the input that a text makes."""
        own = len(text.context) + len(text.continuation)
        if self.frame:
            return own + sum(map(len, (text.after, *self.frame)))
        return max(own, 1 + len(text.continuation)) - 1


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
    length = limits.length(text)
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
