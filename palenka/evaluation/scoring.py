"""Log-probabilities of texts under a language model, in float32 and in batches."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer

from palenka import paradigms
from palenka.data.batch import Batch
from palenka.data.windows import IGNORED
from palenka.evaluation.prefix_tree import Inputs, Row, rows_of
from palenka.evaluation.texts import Frame, Limits, Text, frame_of, prefix_token
from palenka.models.folder import CAUSAL, MASKED, load_frozen
from palenka.models.huggingface import SAFELY
from palenka.models.logits import vocabulary_head
from palenka.models.onednn import use_onednn
from palenka.models.probing import is_close, longest_input, looks_ahead, predictions_before, probe_tokens
from palenka.paradigms import Paradigm, Query, Vocabulary
from palenka.paradigms._learned import holds_masked_model, learned
from palenka.util.errors import UserError
from palenka.util.hardware import local_device
from palenka.util.progress import passed_on

PADDING = 0  # whichever: nothing attends to it
BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}
LOGITS_AT_ONCE = {"cpu": 2**21, "cuda": 2**27}
"""Numbers, not tokens. On a CPU, larger arrays are given back to the system each time: a quarter slower."""
MOST_WORKERS = 8  # more would wait for Python, which takes a tenth of the time
ROW_NODES = 64
TEXTS_AT_ONCE = 4096
"""So many texts of a masked model are taken apart into inputs at a time, since each makes as many as it has tokens."""
TREE_TOLERANCES = 2e-5, 2e-5
"""Of the largest number. Rounding is a hundredth of it; even untrained models that ignore positions are ten times it.
"""


def load_language_model(folder: Path) -> tuple[Any, Any]:
    """(Model in float32, whatever it is stored in, on a GPU if there is one; its tokenizer.)

    Raises:
        UserError: the folder does not hold a causal or masked model and its tokenizer, or needs code of its own.
    """
    kind = MASKED if holds_masked_model(folder) else CAUSAL
    model = load_frozen(folder, torch.float32, local_device(), kind)
    try:
        return model, AutoTokenizer.from_pretrained(folder, **SAFELY)
    except Exception as error:  # damaged tokenizers fail in many ways
        raise UserError(f"{folder}: the tokenizer cannot be loaded: {error}") from None


@dataclass(frozen=True)
class QueryBatch:
    """A batch of inputs, and which of its predictions belong to whose score.

    inputs: rows side by side, each a text or a tree of several.
    lengths: of the rows (rows,), without padding.
    size: how many texts the rows are.
    owners: (predictions,) the number of the text that each belongs to.
    places: (predictions,) row · width + position.
    targets: (predictions,) the token that is predicted.
    """

    inputs: Inputs
    lengths: NDArray[np.int64]
    size: int
    owners: NDArray[np.int64]
    places: NDArray[np.int64]
    targets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Row], queries: Sequence[Sequence[tuple[int, Query]]]) -> "QueryBatch":
        """A batch of rows, whose texts are inputs by their numbers; of each the queries, with their owners."""
        inputs = Inputs.of(rows, PADDING)
        width = inputs.tokens.shape[1]
        asked = [
            (owner, row * width + path[place], token)
            for row, tree in enumerate(rows)
            for number, path in zip(tree.texts, tree.paths, strict=True)
            for owner, query in queries[number]
            for place, token in zip(query.places, query.targets, strict=True)
        ]
        owners, places, targets = np.array(asked, np.int64).reshape(-1, 3).T
        lengths, size = np.array([len(row.tokens) for row in rows]), sum(len(row.texts) for row in rows)
        return cls(inputs, lengths, size, owners, places, targets)

    @property
    def is_shared(self) -> bool:
        """Whether a row is a tree of several texts."""
        return self.size > len(self.lengths)

    @property
    def place_of_rows(self) -> NDArray[np.int64] | None:
        """(rows, 1): the position of each row that predicts, where it is one of each."""
        rows, width = self.inputs.tokens.shape
        predicting, places = np.divmod(np.unique(self.places), width)
        return places[:, None] if np.array_equal(predicting, np.arange(rows)) else None


class Scorer:
    """A language model, its tokenizer, and the paradigm that it learned by: how it is asked. Causal by default."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any, name: str, paradigm: Paradigm | None = None) -> None:
        self.model: Any = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.paradigm = paradigm or paradigms.of(paradigms.DOOR.read("causal"), Vocabulary.of(tokenizer))
        self.device = next(model.parameters()).device
        self.body, self.head = _body_and_head(self.model)
        self.is_causal = self.paradigm.attention == "causal"
        self.takes_trees = self.is_causal and self._takes_trees_of(ROW_NODES)
        self.frame = Frame((), ()) if self.is_causal else frame_of(tokenizer)
        if not self.is_causal:
            if not self.frame.before:
                raise UserError(f"{name}: the tokenizer has no token to begin a text with, as masked models see one")
            self.sees_all_by_itself = looks_ahead(*predictions_before(self.model))
            self.takes_padding = self._takes_padding()
            self.takes_places = _takes_places(self.model)

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """The scorer of a folder's model by the first paradigm that it learned; arguments and errors of `load_each`."""
        return next(iter(cls.load_each(folder).values()))

    @classmethod
    def load_each(cls, folder: Path) -> "dict[str, Scorer]":
        """Scorers of a Hugging Face model folder, by the paradigms that it learned.

        The model is loaded once, in float32, whatever it is stored in; on a GPU if there is one.

        Raises:
            UserError: the folder is no causal or masked language model, or needs code of its own.
        """
        model, tokenizer = load_language_model(folder)
        use_onednn(model)
        parts = paradigms.of(learned(folder), Vocabulary.of(tokenizer)).parts
        return {name: cls(model, tokenizer, str(folder), paradigm) for name, paradigm in parts.items()}

    @property
    def max_length(self) -> int | None:
        """The longest input the model has positions for."""
        return longest_input(self.model)

    @property
    def vocabulary(self) -> int:
        """How many token ids the model knows."""
        return self.model.get_input_embeddings().num_embeddings

    @property
    def prefix(self) -> int:
        """The token that a text without context is scored after."""
        return prefix_token(self.tokenizer, self.limits)

    @cached_property
    def limits(self) -> "Limits":  # asked for at every text, and found by looking at all of the model's modules
        return Limits(self.name, self.max_length, self.vocabulary, None if self.is_causal else self.frame)

    def score(self, texts: Sequence[Text], batch_tokens: int | None = None, label: str = "") -> NDArray[np.float64]:
        """Summed log-probability of each continuation, in nats: (texts,).

        Equal texts are scored once, so that they tie exactly. What texts begin with in common goes through the model
        once, where it allows that, and so do equal inputs that a masked model is shown for several texts. Batches hold
        rows of similar length.

        Raises:
            UserError: a score that is not finite: the model's weights are broken.
        """
        numbers: dict[Text, int] = {}
        order = [numbers.setdefault(text, len(numbers)) for text in texts]
        batches = list(self._ask(list(numbers), batch_tokens or BATCH_TOKENS[self.device.type]))
        scores = np.zeros(len(numbers))
        with workers(self.device) as apply:
            sizes, noun = [asked.size for asked in batches], "sentences" if self.is_causal else "masked sentences"
            found = passed_on(apply(self._answer, batches), sizes, label, noun)
            for asked, log_probs in zip(batches, found, strict=True):
                np.add.at(scores, asked.owners, log_probs)
        return scores[order]

    def _ask(self, texts: Sequence[Text], batch_tokens: int) -> Iterator[QueryBatch]:
        """Batches that answer for all the texts."""
        if self.is_causal:
            yield from self._ask_of(range(len(texts)), texts, batch_tokens)
            return
        by_length = sorted(range(len(texts)), key=lambda number: self.limits.length(texts[number]))
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            yield from self._ask_of(by_length[start : start + TEXTS_AT_ONCE], texts, batch_tokens)

    def _ask_of(self, numbers: Iterable[int], texts: Sequence[Text], batch_tokens: int) -> Iterator[QueryBatch]:
        queries: dict[tuple[int, ...], list[tuple[int, Query]]] = {}
        for number in numbers:
            for query in self._queries(texts[number]):
                queries.setdefault(query.tokens, []).append((number, query))
        inputs, of_inputs = list(queries), list(queries.values())
        longest = 1 + max(map(len, inputs), default=0)
        share_long = self.takes_trees and longest > ROW_NODES and self._takes_trees_of(2 * longest)
        rows = rows_of(inputs, ROW_NODES if self.takes_trees else 0, share_long)
        even = not self.is_causal and not self.takes_padding
        return (QueryBatch.of(batch, of_inputs) for batch in _batches(rows, batch_tokens, even))

    def _queries(self, text: Text) -> Sequence[Query]:
        context, continuation, words, after = text
        if self.is_causal:
            return self.paradigm.queries(context or (self.prefix,), continuation)
        return self.paradigm.queries(self.frame.before + context, continuation, after + self.frame.after, words)

    def _takes_trees_of(self, nodes: int) -> bool:
        return _takes_trees(self.body, self.vocabulary, nodes, self.max_length or nodes, self.device)

    @torch.inference_mode()
    def _takes_padding(self) -> bool:
        """Whether rows have the states that they have alone, beside a longer one; tried on a few tokens."""
        tokens = probe_tokens(self.model).cpu()
        half = tokens.shape[1] // 2
        alone = self._states_of_rows(tokens[:, :half], np.array([half]))
        padded = torch.cat([tokens[:, :half], torch.full_like(tokens[:, half:], PADDING)], dim=1)
        try:
            together = self._states_of_rows(torch.cat([tokens, padded]), np.array([tokens.shape[1], half]))
        except Exception:  # architectures fail in different ways
            return False
        return is_close(together[1:, :half], alone, TREE_TOLERANCES)

    @torch.inference_mode()
    def _answer(self, asked: QueryBatch) -> NDArray[np.float64]:
        """Log-probabilities of the predictions that are asked for: (predictions,)."""
        if not len(asked.owners):
            return np.zeros(0)
        if not self.is_causal and self.takes_places and (places := asked.place_of_rows) is not None:
            states = self._states_of_rows(torch.from_numpy(asked.inputs.tokens), asked.lengths, places)
            return self._log_probs_at(states, asked.places // asked.inputs.tokens.shape[1], asked.targets)
        return self._log_probs_at(self._states_of_asked(asked), asked.places, asked.targets)

    def _states_of_asked(self, asked: QueryBatch) -> Tensor:
        if not self.is_causal:
            return self._states_of_rows(torch.from_numpy(asked.inputs.tokens), asked.lengths)
        if asked.is_shared:
            return _tree_states(self.body, asked.inputs, self.device)
        return self._states(Batch(torch.from_numpy(asked.inputs.tokens), torch.empty(0)))

    def _states_of_rows(
        self, tokens: Tensor, lengths: NDArray[np.int64], places: NDArray[np.int64] | None = None
    ) -> Tensor:
        """Of rows (rows, positions) of which each position sees all of its row, and nothing of its padding.

        A model that sees all by itself is told of padding as its architecture is; others by an additive mask. With
        `places` (rows, places) the states are those of these positions alone.
        """
        options = {} if places is None else {"places": torch.from_numpy(places).to(self.device)}
        is_there = torch.arange(tokens.shape[1]) < torch.from_numpy(lengths)[:, None]
        if not self.sees_all_by_itself:
            attention = is_there[:, None, None].expand(-1, 1, tokens.shape[1], -1)
            return self._states(Batch(tokens, torch.empty(0), attention), **options)
        if not is_there.all():
            options["attention_mask"] = is_there.long().to(self.device)
        return self.body(tokens.to(self.device), **options)

    @torch.inference_mode()
    def predictions(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Probability of each entry of the tokenizer to follow each row of tokens, of a causal model: (rows, entries).

        Raises:
            UserError: they are not finite: the model's weights are broken.
        """
        tokens = torch.full((len(rows), max(map(len, rows))), PADDING)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = torch.tensor(row)
        states = self._states(Batch(tokens, torch.empty(0)))
        last = states[torch.arange(len(rows)), [len(row) - 1 for row in rows]]
        found = self.head(last)[:, : len(self.tokenizer)].double().softmax(-1).cpu().numpy()
        self._check_finite(found)
        return found

    @torch.inference_mode()
    def log_probs(self, batch: Batch) -> NDArray[np.float64]:
        """Sum over each sequence of the log-probabilities of its labels, in nats: (batch,)."""
        labels = batch.labels.numpy()
        places = np.flatnonzero(labels != IGNORED)
        sums = np.zeros(len(batch))
        found = self._log_probs_at(self._states(batch), places, labels.ravel()[places])
        np.add.at(sums, places // labels.shape[1], found)
        return sums

    def _states(self, batch: Batch, **options: Tensor) -> Tensor:
        batch = batch.to(self.device)
        mask = batch.additive_mask(torch.float32)
        return self.body(batch.input_ids, **options, **({} if mask is None else {"attention_mask": mask}))

    def _log_probs_at(
        self, states: Tensor, places: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Log-probability of each token after the state at its place, in nats: (tokens,).

        Args:
            states: (rows, positions, width); only those at the places go through the head, each once.
            places: (tokens,) numbers row · positions + position; several tokens may have one place.
            tokens: (tokens,)
        """
        found = np.empty(len(places))
        distinct, state_of = np.unique(places, return_inverse=True)
        needed = states.flatten(0, 1)[torch.from_numpy(distinct).to(self.device)]
        order = np.argsort(state_of, kind="stable")
        chunk = max(1, LOGITS_AT_ONCE[self.device.type] // self.vocabulary)
        for start in range(0, len(distinct), chunk):
            first, end = np.searchsorted(state_of[order], (start, start + chunk))
            asked = order[first:end]
            log_probs = self.head(needed[start : start + chunk]).log_softmax(-1)
            indices = (torch.from_numpy(each).to(self.device) for each in (state_of[asked] - start, tokens[asked]))
            found[asked] = log_probs[tuple(indices)].double().cpu().numpy()
        self._check_finite(found)
        return found

    def _check_finite(self, found: NDArray[np.float64]) -> None:
        if not np.isfinite(found).all():
            raise UserError(f"{self.name}: the model gives scores that are not finite; are its weights whole?")


@contextmanager
def workers(device: torch.device) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` that on a CPU has a worker for each of PyTorch's threads.

    A batch of short texts is too little work to be shared by threads: each of its many small steps waits for the
    slowest of them. So each thread has batches of its own.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    count = min(threads, MOST_WORKERS)
    if count == 1:
        yield map
        return
    pool = ThreadPoolExecutor(count)
    torch.set_num_threads(threads // count)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


Body = Callable[..., Tensor]
"""Tokens (rows, positions) → states (rows, positions, width); takes `attention_mask` and `position_ids`, too."""


def _body_and_head(model: Any) -> tuple[Body, Callable[[Tensor], Tensor]]:
    """Functions tokens → states and states → logits, the second for scored positions only.

    A model whose logits cannot be taken apart so gives them whole.
    """

    def states(inputs: Tensor, **arguments: Tensor) -> Tensor:
        return model.base_model(inputs, use_cache=False, **arguments).last_hidden_state

    def logits(inputs: Tensor, **arguments: Tensor) -> Tensor:
        return model(inputs, use_cache=False, **arguments).logits

    head = vocabulary_head(model)
    return (logits, torch.nn.Identity()) if head is None else (states, head)


def _takes_places(model: Any) -> bool:
    """Whether its body can be asked for the states of some positions alone, as an `Architecture` of ours may."""
    return "places" in inspect.signature(model.base_model.forward).parameters


def _tree_states(body: Body, inputs: Inputs, device: torch.device) -> Tensor:
    """States of trees' nodes: (rows, nodes, width)."""
    tokens, positions, visible = (
        torch.from_numpy(each).to(device) for each in (inputs.tokens, inputs.positions, inputs.visible)
    )
    mask = torch.zeros(visible.shape, device=device).masked_fill_(~visible, torch.finfo(torch.float32).min)
    return body(tokens, attention_mask=mask[:, None], position_ids=positions)


@torch.inference_mode()
def _takes_trees(body: Body, vocabulary: int, nodes: int, longest: int, device: torch.device) -> bool:
    """Whether a tree's nodes have the states of their texts alone: not all architectures heed masks and positions.

    Tried on a row of as many nodes, and on texts almost as long, as `score` makes trees of: so an attention window,
    too, shows here or does not matter.

    Args:
        nodes: of the row.
        longest: text that the model has positions for.
    """
    tokens = np.random.default_rng(0).integers(vocabulary, size=nodes).tolist()
    tail = nodes // 16
    trunk = tokens[: min(longest, nodes - 2 * tail)]
    texts = [trunk, trunk[:-tail] + tokens[-2 * tail : -tail], trunk[: len(trunk) // 2] + tokens[-tail:]]
    [tree] = rows_of(texts, nodes)
    try:
        together = _tree_states(body, Inputs.of([tree], 0), device)[0]
        alone = [body(torch.tensor([texts[number]], device=device))[0] for number in tree.texts]
    except Exception:  # architectures fail in different ways
        return False
    pairs = zip(tree.paths, alone, strict=True)
    return all(is_close(together[path], states, TREE_TOLERANCES) for path, states in pairs)


def _batches(rows: Sequence[Row], batch_tokens: int, even: bool = False) -> Iterator[list[Row]]:
    """The rows, longest first, in batches of at most `batch_tokens` padded nodes (or one row).

    Rows longer than `ROW_NODES` may be single texts, which share no batch with trees. With `even`, all rows of a batch
    are of one length.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens)):
        width = len(batch[0].tokens) if batch else 0
        ends = width > ROW_NODES >= len(row.tokens) or (even and width > len(row.tokens))
        if batch and (ends or width * (len(batch) + 1) > batch_tokens):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
