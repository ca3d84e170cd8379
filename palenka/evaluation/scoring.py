"""Log-probabilities of texts under a causal language model, in float32 and in batches.

The 2024 convention (babylm/evaluation-pipeline-2024, a fork of lm-eval 0.4.2):

    pair   [prefix] + tok(" " + sentence): every token of the sentence is scored. The prefix is the tokenizer's bos
           token, else its eos, else its pad
    EWoK   tok(context + " " + target): the tokens behind the first len(tok(context)) are scored; no prefix
    both   no special tokens from the tokenizer; a score is the sum of its tokens' log-probabilities, in nats
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoTokenizer

from palenka.config import UserError
from palenka.evaluation.items import Item
from palenka.hardware import local_device
from palenka.models import SAFELY, load_frozen

IGNORED = -100
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
LOGITS_AT_ONCE = {"cpu": 2**22, "cuda": 2**27}
"""Numbers, not tokens. On a CPU, larger arrays are given back to the system each time: a quarter slower."""


class Text(NamedTuple):
    """Token ids: those of `continuation` are scored, given `context` and what precedes them."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


def encode(items: Sequence[Item], tokenizer: Any) -> list[Text]:
    """The texts of the items in the 2024 convention: 2n of them, each item's good one before its bad one.

    A pair's context is empty; `Scorer.score` puts the prefix there. Spaces at a context's end belong to the
    continuation, as in lm-eval.
    """
    contexts = [item.context.rstrip() for item in items]
    wholes = [f"{item.context} {continuation}" for item in items for continuation in (item.good, item.bad)]
    distinct = sorted(set(contexts) - {""})
    context_ids: dict[str, tuple[int, ...]] = {"": (), **dict(zip(distinct, _ids(tokenizer, distinct), strict=True))}
    texts = []
    for number, ids in enumerate(_ids(tokenizer, wholes)):
        context = context_ids[contexts[number // 2]]
        texts.append(Text(context, ids[len(context) :]))
    return texts


def _ids(tokenizer: Any, texts: list[str]) -> list[tuple[int, ...]]:
    if not texts:
        return []
    return [tuple(ids) for ids in tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]]


class Scorer:
    """A causal language model and its tokenizer, ready to score."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any, name: str) -> None:
        self.model: Any = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.device = next(model.parameters()).device
        self.body, self.head = _body_and_head(self.model)

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """Load a Hugging Face causal model folder in float32, whatever it is stored in; on a GPU if there is one.

        Raises:
            UserError: the folder is not such a model, or needs code of its own.
        """
        try:
            model = load_frozen(folder, torch.float32, local_device())
            tokenizer = AutoTokenizer.from_pretrained(folder, **SAFELY)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(f"{folder}: cannot be loaded as a causal language model: {error}") from None
        return cls(model, tokenizer, str(folder))

    @property
    def max_length(self) -> int | None:
        """The longest input the model has positions for."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @property
    def prefix(self) -> int:
        """The token that a text without context is scored after."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id):
            if token is not None:
                return int(token)
        raise UserError(f"{self.name}: the tokenizer has no bos, eos or pad token to begin a sentence with")

    def check(self, items: Sequence[Item], texts: Sequence[Text], task: str) -> None:
        """Raise UserError for the first item whose texts (two each, as `encode` gives them) cannot be scored."""
        vocabulary = self.model.get_input_embeddings().num_embeddings
        for number, text in enumerate(texts):
            item = items[number // 2]
            where = f"{task}/{item.subtask}, line {item.line}"
            length = max(len(text.context), 1) + len(text.continuation) - 1
            if not text.continuation:
                raise UserError(f"{where}: {self.name}'s tokenizer leaves nothing to score behind the context")
            if self.max_length is not None and length > self.max_length:
                raise UserError(f"{where}: {length} tokens, but {self.name} has {self.max_length} positions")
            if max(text.context + text.continuation) >= vocabulary:
                raise UserError(f"{where}: {self.name}'s tokenizer gives ids beyond the model's {vocabulary} entries")

    def score(self, texts: Sequence[Text], batch_tokens: int | None = None, label: str = "") -> NDArray[np.float64]:
        """Summed log-probability of each continuation, in nats: (texts,).

        Equal texts are scored once, so that they tie exactly; batches hold texts of similar length.

        Raises:
            UserError: a score that is not finite: the model's weights are broken.
        """
        numbers: dict[Text, int] = {}
        order = [numbers.setdefault(text, len(numbers)) for text in texts]
        distinct = [(text.context or (self.prefix,)) + text.continuation for text in numbers]
        contexts = [len(text.context) or 1 for text in numbers]
        scores = np.empty(len(distinct))
        batches = list(_batches(distinct, batch_tokens or BATCH_TOKENS[self.device.type]))
        for batch in progress(batches, [len(batch) for batch in batches], label, "sentences"):
            inputs, labels = _padded([distinct[i] for i in batch], [contexts[i] for i in batch], self.prefix)
            scores[batch] = self.log_probs(inputs, labels)
        return scores[order]

    @torch.inference_mode()
    def log_probs(self, inputs: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum over each row of the log-probabilities of its labels, in nats: (rows,).

        Args:
            inputs: (rows, positions) token ids, padded on the right.
            labels: (rows, positions): the token after each input; -100 where none is scored.
        """
        states = self.body(torch.from_numpy(inputs).to(self.device))
        targets = torch.from_numpy(labels).to(self.device)
        rows, columns = torch.nonzero(targets != IGNORED, as_tuple=True)
        states, targets = states[rows, columns], targets[rows, columns]
        sums = torch.zeros(len(inputs), dtype=torch.float64, device=self.device)
        chunk = max(1, LOGITS_AT_ONCE[self.device.type] // self.model.get_input_embeddings().num_embeddings)
        for state, target, row in zip(states.split(chunk), targets.split(chunk), rows.split(chunk), strict=True):
            losses = F.cross_entropy(self.head(state), target, reduction="none")
            sums.index_add_(0, row, -losses.double())
        if not sums.isfinite().all():
            raise UserError(f"{self.name}: the model gives scores that are not finite; are its weights whole?")
        return sums.cpu().numpy()


def _body_and_head(model: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Functions tokens → states and states → logits; the second, the vocabulary layer, is for scored positions only.

    Some architectures do more to their logits than that layer (scale or cap them): those give their logits whole.
    """

    def states(inputs: Tensor) -> Tensor:
        return model.base_model(inputs, use_cache=False).last_hidden_state

    def logits(inputs: Tensor) -> Tensor:
        return model(inputs, use_cache=False).logits

    head = model.get_output_embeddings()
    probe = torch.arange(min(8, model.get_input_embeddings().num_embeddings), device=model.device)[None]
    with torch.inference_mode():
        whole = logits(probe)
        if head is not None and torch.allclose(head(states(probe)), whole, rtol=1e-4, atol=1e-4):
            return states, head
    return logits, torch.nn.Identity()


def _batches(texts: list[tuple[int, ...]], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of the texts, longest first, in batches of at most `batch_tokens` padded tokens (or one text)."""
    batch: list[int] = []
    longest = 0
    for number in sorted(range(len(texts)), key=lambda i: (-len(texts[i]), texts[i])):
        longest = longest or len(texts[number])
        if batch and longest * (len(batch) + 1) > batch_tokens:
            yield batch
            batch, longest = [], len(texts[number])
        batch.append(number)
    if batch:
        yield batch


def _padded(
    texts: list[tuple[int, ...]], contexts: list[int], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and labels of texts whose first `contexts` tokens are not scored.

    Padding stands on the right, where a causal model does not see it.
    """
    width = max(len(text) for text in texts) - 1
    inputs = np.full((len(texts), width), pad)
    labels = np.full((len(texts), width), IGNORED)
    for row, (text, context) in enumerate(zip(texts, contexts, strict=True)):
        inputs[row, : len(text) - 1] = text[:-1]
        labels[row, context - 1 : len(text) - 1] = text[context:]
    return inputs, labels


def progress(batches: Iterable[Any], sizes: Sequence[int], label: str, unit: str) -> Iterator[Any]:
    """Pass batches on: with a progress bar on a terminal, else with a line at each quarter. Silent without a label."""
    total = sum(sizes)
    on_terminal = sys.stderr.isatty()
    bar = tqdm(total=total, desc=label, unit=f" {unit}", disable=not label or not on_terminal)
    start, done = time.monotonic(), 0
    for batch, size in zip(batches, sizes, strict=True):
        yield batch
        before, done = done, done + size
        bar.update(size)
        if label and not on_terminal and 4 * before // total < 4 * done // total:
            rate = done / max(time.monotonic() - start, 1e-9)
            print(f"{label}: {done:,} of {total:,} {unit}, {rate:,.0f} a second", file=sys.stderr, flush=True)
    bar.close()
