"""A language model as a classifier: its final state at one token of an item, and a head on it.

Rows of a batch are padded at their ends, and nowhere else: positions count from an item's first token whatever the
tokenizer's padding side, and nothing that counts sees the padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from palenka import paradigms
from palenka.evaluation.texts import Frame, frame_of
from palenka.finetuning.schema import Recipe
from palenka.finetuning.texts import LabelledTexts
from palenka.models.folder import CAUSAL, MASKED, Kind, load_frozen
from palenka.models.forward import check_heeds_masks
from palenka.models.huggingface import SAFELY, attention_implementation
from palenka.models.outputs import model_shape
from palenka.models.probing import longest_input
from palenka.paradigms._learned import holds_masked_model, learned
from palenka.util.errors import UserError
from palenka.util.hardware import local_device
from palenka.util.seeds import seeded

PADDING = 0  # whichever: nothing that counts sees it
HIDDEN = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Items:
    """Items as a model reads them. `truncated`: how many are longer than it can read."""

    tokens: list[list[int]]
    labels: list[int]
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.tokens)

    def some(self, numbers: list[int]) -> "Items":
        """Those of these numbers."""
        return Items([self.tokens[number] for number in numbers], [self.labels[number] for number in numbers])

    def tensors(self, numbers: list[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Of some items: int64 tokens (items, longest), lengths (items,), labels (items,)."""
        rows = [self.tokens[number] for number in numbers]
        lengths = [len(row) for row in rows]
        padded = [row + [PADDING] * (max(lengths) - len(row)) for row in rows]
        labels = [self.labels[number] for number in numbers]
        tokens, lengths_of, labels_of = (torch.tensor(each, device=device) for each in (padded, lengths, labels))
        return tokens, lengths_of, labels_of


class Classifier(nn.Module):
    """A model and a head. They have the names that optimizers know: `student`, and what is not exported with it.

    Args:
        model: a language model, whose own head is not used.
        head: of states (items, width) → logits (items, labels).
        attention: `causal`; `full` of a model that sees what a mask shows it; `own` of one that sees all by itself.
        takes_last: whether the last token is classified, and not the first.
    """

    def __init__(self, model: PreTrainedModel, head: nn.Module, attention: str, takes_last: bool) -> None:
        super().__init__()
        self.student = model
        self.objectives = nn.ModuleDict({"classifier": head})
        self.attention, self.takes_last = attention, takes_last

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits (items, labels) of tokens (items, longest), of which each item has so many, and padding after them."""
        mask = self._mask(tokens.shape[1], lengths)
        options = {} if mask is None else {"attention_mask": mask}
        states = self.student.base_model(tokens, use_cache=False, **options).last_hidden_state
        places = lengths - 1 if self.takes_last else torch.zeros_like(lengths)
        logits: Tensor = self.objectives["classifier"](states[torch.arange(len(tokens), device=tokens.device), places])
        return logits

    def _mask(self, longest: int, lengths: Tensor) -> Tensor | None:
        if self.attention == "causal":
            return None  # padding comes after all that counts
        is_there = torch.arange(longest, device=lengths.device) < lengths[:, None]
        if self.attention == "own":
            return is_there.long()
        hidden = torch.zeros(is_there.shape, device=lengths.device).masked_fill_(~is_there, HIDDEN)
        return hidden[:, None, None].expand(-1, 1, longest, -1)


def build_head(recipe: Recipe, width: int, labels: int) -> nn.Module:
    """A head with initial weights: `linear` is that of transformers' decoders, `mlp` the pipelines' since 2025."""
    if recipe.head == "linear":
        return nn.Linear(width, labels, bias=False)
    return nn.Sequential(
        nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, width), nn.GELU(),
        nn.LayerNorm(width, elementwise_affine=False), nn.Dropout(recipe.head_dropout), nn.Linear(width, labels),
    )  # fmt: skip


class Pretrained:
    """The model of a folder, of which each training begins with a fresh copy.

    Args:
        folder: the model's.
        recipe: how it is read.
        from_scratch: begin with initial weights of the same shape instead.
    """

    def __init__(self, folder: Path, recipe: Recipe, from_scratch: bool = False) -> None:
        self.folder, self.recipe, self.from_scratch = folder, recipe, from_scratch
        self.kind: Kind = MASKED if holds_masked_model(folder) else CAUSAL
        self.device = local_device()
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **SAFELY)
        except Exception as error:  # damaged tokenizers fail in many ways
            raise UserError(f"{folder}: the tokenizer cannot be loaded: {error}") from None
        self.model = load_frozen(folder, torch.float32, self.device, self.kind)
        self.attention = self._attention()
        if self.attention == "full":
            check_heeds_masks(self.model)

    def _attention(self) -> str:
        wanted = self.recipe.attention
        if wanted == "learned":
            parts = map(paradigms.DOOR.find, learned(self.folder).part_names)
            wanted = "full" if any(part.attention == "full" for part in parts) else "causal"
        if self.kind is MASKED and wanted == "causal":
            raise UserError(f"{self.folder}: attention: causal is not for a masked model, which sees all by itself")
        return "own" if self.kind is MASKED else wanted

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def classifier(self, labels: int, seed: int) -> Classifier:
        """One that has learned nothing yet; it takes the place of the one before it."""
        if self.from_scratch:
            self.model = self._initial(seed)
        else:
            self.model.load_state_dict(self._weights)
        with seeded(seed, "finetuning", "head"):
            head = build_head(self.recipe, model_shape(self.model.config).hidden_size, labels)
        takes_last = self.recipe.token == "last" or (self.recipe.token == "auto" and self.attention == "causal")
        self.model.requires_grad_(True)
        return Classifier(self.model, head, self.attention, takes_last).to(self.device)

    def _initial(self, seed: int) -> PreTrainedModel:
        config = AutoConfig.from_pretrained(self.folder, **SAFELY)
        with seeded(seed, "finetuning", "model"):
            model: PreTrainedModel = self.kind.auto.from_config(
                config, dtype=torch.float32, attn_implementation=attention_implementation(config, self.device)
            )
        return model

    @property
    def max_length(self) -> int:
        """Tokens of an item, at most."""
        return min(self.recipe.max_length, longest_input(self.model) or self.recipe.max_length)

    def read(self, texts: LabelledTexts) -> Items:
        """Items as this model reads them; of what is too long, the longer of two texts loses its end.

        Raises:
            UserError: an item without any token.
        """
        longest = self.max_length
        whole = list(self._whole(texts))
        tokens = [_joined(parts, longest) for parts in whole]
        for number, row in enumerate(tokens, 1):
            if not row:
                raise UserError(f"{texts.path}, line {number}: {self.folder}'s tokenizer leaves nothing of it")
        truncated = sum(sum(map(len, parts)) > longest for parts in whole)
        return Items(tokens, texts.labels, truncated)

    def _whole(self, texts: LabelledTexts) -> Iterator[tuple[list[int], ...]]:
        """Of each item (before, A, after), or (before, A, between, B, after): every second part is a text."""
        before, after = map(list, self._frame)
        between = self._between
        first = self._encode(texts.first)
        if texts.second is None:
            yield from ((before, a, after) for a in first)
            return
        second = self._encode(texts.second)
        yield from ((before, a, between, b, after) for a, b in zip(first, second, strict=True))

    def _encode(self, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return found

    @cached_property
    def _frame(self) -> Frame:
        """What stands around an item."""
        if self._puts_nothing and self.recipe.special_tokens == "tokenizer":
            return Frame((), ())
        return frame_of(self.tokenizer)

    @cached_property
    def _between(self) -> list[int]:
        """What stands between two texts of an item."""
        if self._puts_nothing:
            return list(self._frame.after)
        one, two = (self.tokenizer(text)["input_ids"] for text in ("a", "b"))
        both, (before, after) = self.tokenizer("a", "b")["input_ids"], map(len, self._frame)
        return both[len(one) - after : len(both) - (len(two) - before)]

    @cached_property
    def _puts_nothing(self) -> bool:
        bare, whole = (self.tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        return bool(bare == whole)


def _joined(parts: tuple[list[int], ...], longest: int) -> list[int]:
    """The parts in a row; texts, every second of them, are cut to what there is room for, the longer one first."""
    texts = parts[1::2]
    room = longest - sum(map(len, parts[::2]))
    sizes = [room] if len(texts) == 1 else _sizes(len(texts[0]), len(texts[1]), room)
    cut = [text[:size] for text, size in zip(texts, sizes, strict=True)]
    return [token for place, part in enumerate(parts) for token in (cut[place // 2] if place % 2 else part)]


def _sizes(first: int, second: int, room: int) -> tuple[int, int]:
    """What two texts of so many tokens keep."""
    if first + second <= room:
        return first, second
    kept = min(first, max(room - second, room // 2))
    return kept, room - kept
