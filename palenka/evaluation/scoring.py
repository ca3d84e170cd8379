"""Log-probabilities of texts under a language model, in float32 and in batches.

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

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer

from palenka import paradigms
from palenka.data.batch import Batch
from palenka.data.tokens import IGNORED
from palenka.evaluation.items import Choice, Item
from palenka.evaluation.prefix_tree import Inputs, Row, rows_of
from palenka.models.folder import load_frozen
from palenka.models.huggingface import SAFELY, longest_input
from palenka.models.logits import vocabulary_head
from palenka.models.onednn import use_onednn
from palenka.paradigms import Paradigm, Query, Vocabulary
from palenka.util.config import read_yaml
from palenka.util.errors import UserError
from palenka.util.hardware import local_device
from palenka.util.progress import passed_on

PADDING = 0  # whichever: nothing attends to it
BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}
LOGITS_AT_ONCE = {"cpu": 2**21, "cuda": 2**27}
"""Numbers, not tokens. On a CPU, larger arrays are given back to the system each time: a quarter slower."""
MOST_WORKERS = 8  # more would wait for Python, which takes a tenth of the time
ROW_NODES = 64
TREE_TOLERANCE = 2e-5
"""Of the largest number. Rounding is a hundredth of it; even untrained models that ignore positions are ten times it.
"""


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
    """What follows the last scored token, an eos say, is left away: no scored token sees it."""
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


def load_causal_model(folder: Path) -> tuple[Any, Any]:
    """(Model in float32, whatever it is stored in, on a GPU if there is one; its tokenizer.)

    Raises:
        UserError: the folder does not hold such a model and its tokenizer, or needs code of its own.
    """
    model = load_frozen(folder, torch.float32, local_device())
    try:
        return model, AutoTokenizer.from_pretrained(folder, **SAFELY)
    except Exception as error:  # damaged tokenizers fail in many ways
        raise UserError(f"{folder}: the tokenizer cannot be loaded: {error}") from None


def learned_paradigm(folder: Path, tokenizer: Any) -> Paradigm:
    """How the model of a folder learned, as the config of its run says; causal where there is none.

    Raises:
        UserError: a paradigm that there is not.
    """
    path = folder / "config.yaml"
    given = read_yaml(path).get("paradigm", "causal") if path.exists() else "causal"
    try:
        return paradigms.of(paradigms.DOOR.read(given), vocabulary_of(tokenizer))
    except ValueError as error:
        raise UserError(f"{path}: paradigm: {error}") from None


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """What paradigms need to know of a tokenizer."""
    ids = (getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "pad", "mask"))
    return Vocabulary(len(tokenizer), *ids)


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


class Scorer:
    """A language model, its tokenizer, and the paradigm that it learned by: how it is asked. Causal by default."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any, name: str, paradigm: Paradigm | None = None) -> None:
        self.model: Any = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.paradigm = paradigm or paradigms.of(paradigms.DOOR.read("causal"), vocabulary_of(tokenizer))
        self.device = next(model.parameters()).device
        self.body, self.head = _body_and_head(self.model)
        self.takes_trees = self.paradigm.attention == "causal" and self._takes_trees_of(ROW_NODES)

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """Load a Hugging Face causal model folder in float32, whatever it is stored in; on a GPU if there is one.

        Raises:
            UserError: the folder is not such a model, or needs code of its own.
        """
        model, tokenizer = load_causal_model(folder)
        use_onednn(model)
        return cls(model, tokenizer, str(folder), learned_paradigm(folder, tokenizer))

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

    @property
    def limits(self) -> "Limits":
        return Limits(self.name, self.max_length, self.vocabulary)

    def score(self, texts: Sequence[Text], batch_tokens: int | None = None, label: str = "") -> NDArray[np.float64]:
        """Summed log-probability of each continuation, in nats: (texts,).

        Equal texts are scored once, so that they tie exactly; what texts begin with in common goes through the model
        once, where it allows that; batches hold rows of similar length.

        Raises:
            UserError: a score that is not finite: the model's weights are broken.
        """
        numbers: dict[Text, int] = {}
        order = [numbers.setdefault(text, len(numbers)) for text in texts]
        asked = [
            (number, query)
            for text, number in numbers.items()
            for query in self.paradigm.queries(text.context or (self.prefix,), text.continuation)
        ]
        queries = [query for _, query in asked]
        longest = 1 + max((len(query.tokens) for query in queries), default=0)
        share_long = self.takes_trees and longest > ROW_NODES and self._takes_trees_of(2 * longest)
        rows = rows_of([query.tokens for query in queries], ROW_NODES if self.takes_trees else 0, share_long)
        batches = list(_batches(rows, batch_tokens or BATCH_TOKENS[self.device.type]))
        of_queries = np.zeros(len(queries))
        sizes = [sum(len(row.texts) for row in rows) for rows in batches]
        with _workers(self.device) as apply:
            done = apply(lambda rows: self._add_scores(of_queries, rows, queries), batches)
            for _ in passed_on(done, sizes, label, "sentences"):
                pass
        scores = np.zeros(len(numbers))
        np.add.at(scores, [number for number, _ in asked], of_queries)
        return scores[order]

    def _takes_trees_of(self, nodes: int) -> bool:
        return _takes_trees(self.body, self.vocabulary, nodes, self.max_length or nodes, self.device)

    @torch.inference_mode()
    def _add_scores(self, scores: NDArray[np.float64], rows: Sequence[Row], queries: Sequence[Query]) -> None:
        """Add to each query's score the log-probabilities of its targets.

        Args:
            scores: (queries,), changed in place.
            rows: a batch: the inputs of some of the queries.
            queries: all of them.
        """
        inputs = Inputs.of(rows, PADDING)
        places = [
            (number, row, node, token)
            for row, tree in enumerate(rows)
            for number, path in zip(tree.texts, tree.paths, strict=True)
            for place, token in zip(queries[number].places, queries[number].targets, strict=True)
            for node in (path[place],)
        ]
        if places:
            owner, row, node, token = np.array(places).T
            states = self._states_of_rows(rows, inputs)
            np.add.at(scores, owner, self._log_probs_at(states, row * inputs.tokens.shape[1] + node, token))

    @torch.inference_mode()
    def log_probs(self, batch: Batch) -> NDArray[np.float64]:
        """Sum over each sequence of the log-probabilities of its labels, in nats: (batch,)."""
        labels = batch.labels.numpy()
        places = np.flatnonzero(labels != IGNORED)
        sums = np.zeros(len(batch))
        found = self._log_probs_at(self._states(batch), places, labels.ravel()[places])
        np.add.at(sums, places // labels.shape[1], found)
        return sums

    def _states_of_rows(self, rows: Sequence[Row], inputs: Inputs) -> Tensor:
        if self.paradigm.attention == "full":
            return self._states(_seeing_all(inputs.tokens, [len(row.tokens) for row in rows]))
        if _is_shared(rows):
            return _tree_states(self.body, inputs, self.device)
        return self._states(Batch(torch.from_numpy(inputs.tokens), torch.empty(0)))

    def _states(self, batch: Batch) -> Tensor:
        batch = batch.to(self.device)
        mask = batch.additive_mask(torch.float32)
        return self.body(batch.input_ids, **({} if mask is None else {"attention_mask": mask}))

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
        if not np.isfinite(found).all():
            raise UserError(f"{self.name}: the model gives scores that are not finite; are its weights whole?")
        return found


@contextmanager
def _workers(device: torch.device) -> Iterator[Callable[..., Iterator[Any]]]:
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


def _tree_states(body: Body, inputs: Inputs, device: torch.device) -> Tensor:
    """States of trees' nodes: (rows, nodes, width)."""
    tokens, positions, visible = (
        torch.from_numpy(each).to(device) for each in (inputs.tokens, inputs.positions, inputs.visible)
    )
    mask = torch.zeros(visible.shape, device=device).masked_fill_(~visible, torch.finfo(torch.float32).min)
    return body(tokens, attention_mask=mask[:, None], position_ids=positions)


def _seeing_all(tokens: NDArray[np.int64], lengths: Sequence[int]) -> Batch:
    """Rows (rows, positions) of which each position sees all of its row, and nothing of its padding."""
    is_there = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
    mask = torch.zeros(is_there.shape).masked_fill_(~is_there, torch.finfo(torch.float32).min)
    attention = mask[:, None, None].expand(-1, 1, tokens.shape[1], -1)
    return Batch(torch.from_numpy(tokens), torch.empty(0), attention)


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
    except Exception:  # architectures refuse in many ways
        return False
    return all(_is_close(together[path], states) for path, states in zip(tree.paths, alone, strict=True))


def _is_close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= TREE_TOLERANCE * expected.abs().max())


def _is_shared(rows: Sequence[Row]) -> bool:
    return any(len(row.texts) > 1 for row in rows)


def _batches(rows: Sequence[Row], batch_tokens: int) -> Iterator[list[Row]]:
    """The rows, longest first, in batches of at most `batch_tokens` padded nodes (or one row).

    Rows longer than `ROW_NODES` may be single texts, which share no batch with trees.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens)):
        width = len(batch[0].tokens) if batch else 0
        if batch and (width * (len(batch) + 1) > batch_tokens or width > ROW_NODES >= len(row.tokens)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
