"""A second opinion: log-probabilities by minicons, from the texts on, with its own tokens and its own arithmetic.

    2024   without context   the prefix, a space and the text, all but the prefix scored
           with context      the text given the context, split after the context without its trailing spaces
    2025   all               the same without a prefix, and with the special tokens that the tokenizer adds by itself;
                             spaces at a context's end that are tokens of their own stay with it

minicons knows of no special tokens after or instead of a text's own: a tokenizer that adds such is refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from palenka.evaluation.items import Choice, Item
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.scoring import load_language_model
from palenka.evaluation.texts import Limits, beyond_vocabulary, prefix_token
from palenka.models.probing import longest_input
from palenka.util.errors import UserError
from palenka.util.hardware import local_device
from palenka.util.progress import passed_on

BATCH_SIZE = 64


class MiniconsScorer:
    """minicons' scorer of a causal language model.

    Args:
        scorer: an IncrementalLMScorer.
        limits: of the model as it was loaded; minicons may have given it more entries since.
    """

    def __init__(self, scorer: Any, limits: Limits) -> None:
        self.scorer = scorer
        self.limits = limits
        self.name = limits.model

    @classmethod
    def load(cls, folder: Path) -> "MiniconsScorer":
        """Load a Hugging Face causal model folder in float32.

        Raises:
            UserError: minicons is not installed, or the folder is not such a model.
        """
        try:
            from minicons.scorer import IncrementalLMScorer
        except ImportError:
            raise UserError("--scorer minicons needs minicons: python -m pip install minicons==0.3.39") from None
        model, tokenizer = load_language_model(folder)
        limits = Limits(str(folder), None, model.get_input_embeddings().num_embeddings)
        return cls(IncrementalLMScorer(model, str(local_device()), tokenizer), limits)

    def score_items(
        self, items: Sequence[Item], protocol: str = "2024", label: str = "", batch_size: int = BATCH_SIZE
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Summed log-probability of each choice of the items, in order, in nats, and of how many tokens it is the sum.

        Equal choices are scored once, so that they tie exactly.

        Raises:
            UserError: the tokenizer adds special tokens that minicons would take for a part of the text, or a text is
                longer than what the model has positions for.
        """
        choices = [choice for item in items for choice in item.choices]
        self._check(choices, protocol)
        # By length: minicons pads each batch. Those without context, which it scores by another call, come last.
        ordered = sorted(set(choices), key=lambda choice: (not choice.context, -len(choice.context + choice.text)))
        batches = list(_batches(ordered, batch_size))
        found: dict[Choice, tuple[float, int]] = {}
        for batch in passed_on(batches, [len(batch) for batch in batches], label, "sentences"):
            found |= zip(batch, self._scores(batch, protocol), strict=True)
        sums, tokens = np.array([found[choice] for choice in choices]).T
        return sums, tokens.astype(np.int64)

    def _scores(self, batch: list[Choice], protocol: str) -> list[tuple[float, int]]:
        options: dict[str, Any] = {"reduction": _sum_and_size}
        start = ""
        if protocol == "2024":
            # minicons' way to leave out a tokenizer's special tokens is to say that a chat template writes them.
            self.scorer.tokenizer.chat_template = ""
            options["chat"] = True
            start = f"{self._prefix} "
        if not batch[0].context:
            return self.scorer.sequence_score([start + choice.text for choice in batch], **options)
        contexts = [self._context(choice, protocol) for choice in batch]
        texts = [choice.context[len(context) :] + choice.text for choice, context in zip(batch, contexts, strict=True)]
        return self.scorer.conditional_score(contexts, texts, separator="", **options)

    def _context(self, choice: Choice, protocol: str) -> str:
        """The context without the spaces at its end; in 2025 with them, where they are tokens of their own."""
        if PROTOCOLS[protocol].tokens == "2025":
            context, whole = self.scorer.tokenizer([choice.context, choice.context + choice.text])["input_ids"]
            if whole[: len(context)] == context:
                return choice.context
        return choice.context.rstrip()

    @property
    def _prefix(self) -> str:
        tokenizer = self.scorer.tokenizer
        return str(tokenizer.convert_ids_to_tokens(prefix_token(tokenizer, self.limits)))

    def _check(self, choices: Sequence[Choice], protocol: str) -> None:
        tokenizer = self.scorer.tokenizer
        ids = tokenizer("a")["input_ids"]
        specials = ids[-1] in tokenizer.all_special_ids or ids[0] == tokenizer.pad_token_id
        if PROTOCOLS[protocol].tokens == "2025" and specials:
            raise UserError(
                f"{self.name}: --scorer minicons: the tokenizer ends a text with a special token, or begins it with "
                "the one that it pads with, and minicons would score or miscount that; leave --scorer out"
            )
        positions = longest_input(self.scorer.model)
        encoded = tokenizer([choice.context + choice.text for choice in choices])["input_ids"]
        if max(max(ids, default=0) for ids in encoded) >= self.limits.vocabulary:
            raise UserError(beyond_vocabulary(self.limits))
        longest = max(map(len, encoded)) + 2
        if positions is not None and longest > positions:
            raise UserError(
                f"{self.name}: --scorer minicons: a text has {longest} tokens with its special ones, but the model has "
                f"{positions} positions; leave --scorer out"
            )


def _batches(choices: list[Choice], size: int) -> list[list[Choice]]:
    """Batches of choices that all have a context, or all have none."""
    with_context = sum(bool(choice.context) for choice in choices)
    parts = (choices[:with_context], choices[with_context:])
    return [part[start : start + size] for part in parts for start in range(0, len(part), size)]


def _sum_and_size(log_probs: torch.Tensor) -> tuple[float, int]:
    return float(log_probs.double().sum()), len(log_probs)
