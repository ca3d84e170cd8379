"""Models asked what they can read and what they compute, whatever their architecture."""

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

PROBE_TOKENS = 8
LOOKAHEAD_TOLERANCE = 2e-5
"""Of the largest logit, in float32: rounding is far below it, what a later token tells is far above it."""
LOOKS_AHEAD = (
    "a later token changes what is predicted before it: a masked model, or another that reads in both directions, is "
    "not a causal language model"
)


def most_positions(config: PretrainedConfig) -> int | None:
    """Positions of an architecture that has a number of them."""
    positions: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return positions if positions and positions > 0 else None  # XLNet says -1


def longest_input(model: PreTrainedModel) -> int | None:
    """Tokens that a model has positions for; None where any number goes.

    A table of positions with a row for padding (RoBERTa's) starts counting after it.
    """
    if (positions := most_positions(model.config)) is None:
        return None
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    padded = [t.padding_idx + 1 for t in tables if t.num_embeddings == positions and t.padding_idx is not None]
    is_vocabulary = model.get_input_embeddings().num_embeddings == positions
    return positions - max(padded[is_vocabulary:], default=0)


def probe_tokens(model: PreTrainedModel, entries: int | None = None) -> Tensor:
    """A few token ids (1, tokens) of the first `entries` (None: of all) that a model can read, none of them padding."""
    last = (entries or model.get_input_embeddings().num_embeddings) - 1
    length = min(PROBE_TOKENS, longest_input(model) or PROBE_TOKENS)
    tokens = torch.linspace(0, last, length, device=model.device).long()[None]
    padding = model.config.get_text_config().pad_token_id
    if padding is None:
        return tokens
    return torch.where(tokens == padding, padding - 1 if padding == last else padding + 1, tokens)


def is_close(found: Tensor, expected: Tensor, tolerances: tuple[float, float]) -> bool:
    """Whether two arrays are the same but for rounding: tolerances of the largest, in float32 and in less."""
    tolerance = tolerances[expected.dtype != torch.float32]
    found, expected = found.float(), expected.float()
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def name_of(model: PreTrainedModel) -> str:
    """What a message calls a model: its folder and architecture."""
    return f"{model.name_or_path or 'the model'} ({model.config.model_type})"


@torch.no_grad()
def logits_of(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Float32 (batch, time, vocabulary)."""
    logits: Tensor = model(tokens, use_cache=False).logits
    return logits.float()


def predictions_before(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Logits (1, time, vocabulary) of the first half of a few tokens, with two different second halves."""
    one, other = two_endings(model)
    half = one.shape[1] // 2
    return logits_of(model, one)[:, :half], logits_of(model, other)[:, :half]


def two_endings(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """A few tokens (1, time), and the same with another second half."""
    tokens, vocabulary = probe_tokens(model), model.get_input_embeddings().num_embeddings
    half = tokens.shape[1] // 2
    return tokens, torch.cat([tokens[:, :half], (tokens[:, half:] + 1 + vocabulary // 2) % vocabulary], dim=1)


def looks_ahead(before: Tensor, after: Tensor) -> bool:
    """Whether two such predictions of a float32 model differ by more than rounding."""
    return bool((before - after).abs().max() > LOOKAHEAD_TOLERANCE * before.abs().max())
