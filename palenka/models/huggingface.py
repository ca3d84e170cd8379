"""Models: keys checked against Hugging Face's own config classes, built from a seed."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from palenka.models import rope
from palenka.models.outputs import ModelShape
from palenka.util.config import did_you_mean
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json
from palenka.util.seeds import seeded

Architecture = Literal["gpt2", "gptj", "llama"]
PUBLISHED_POSITIONS = 256
PROBE_TOKENS = 8
SAFELY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # no network, no code from a folder
FROM_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
SIZES = {
    "hidden_size": 10**6, "intermediate_size": 10**7, "num_hidden_layers": 1000, "num_attention_heads": 10**5,
    "max_position_embeddings": 10**8,
}  # fmt: skip
"""The most of each, which no machine holds: larger ones are slips, and building their layers would never end."""
SAME_IN_RELEASE_4 = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
"""GPT-2's keys with the values that transformers 4 has, too: its fused attention, the default there, ignores others."""
NEW_ACTIVATIONS = ("gelu_python_tanh", "hardswish", "sqrtsoftplus", "xielu")  # since 4.51
NO_TOKEN_IDS: dict[str, Any] = dict.fromkeys(FROM_TOKENIZER[1:])  # the classes' defaults belong to other tokenizers


class ModelConfig(BaseModel):
    """`architecture` and Hugging Face's own config keys; a key the architecture does not have is an error."""

    model_config = ConfigDict(extra="allow", frozen=True)
    architecture: Architecture = Field(
        description="as Hugging Face calls it; every other key is one of its config class"
    )

    @property
    def keys(self) -> dict[str, Any]:
        """The keys under the names that the config class stores (`intermediate_size` is GPT-2's `n_inner`)."""
        stored = _stored_names(self.architecture)
        keys: dict[str, Any] = {"max_position_embeddings": PUBLISHED_POSITIONS} | (self.model_extra or {})
        return {stored.get(key, key): value for key, value in keys.items()}

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, values: Any) -> Any:
        return rope.one_spelling(values) if isinstance(values, dict) and _has_rope(values) else values

    @model_validator(mode="after")
    def _check_keys(self) -> "ModelConfig":
        problems = list(self._key_problems())
        if problems:
            raise ValueError("; ".join(problems))
        try:
            with rope.warnings_noted() as noted:
                config = self.hugging_face({})
            _compute_one_layer(config)
            problem = "; ".join(dict.fromkeys(noted)) or rope.release_4_problem(config)
        except Exception as error:  # the library's own checks raise many unrelated types
            message = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"no {self.architecture} model can be built of these values: {message}") from None
        if problem:
            raise ValueError(problem)
        return self

    def _key_problems(self) -> Iterator[str]:
        given = self.model_extra or {}
        stored, known = _stored_names(self.architecture), _known_keys(self.architecture)
        largest = {stored.get(key, key): size for key, size in SIZES.items()}
        for key in given:
            if key in FROM_TOKENIZER:
                yield f"{key} comes from the tokenizer; leave it out"
            elif key not in known:
                yield f"unknown key {key!r} for architecture {self.architecture!r}{did_you_mean(key, known)}"
            elif stored.get(key, key) != key and stored[key] in given:
                yield f"{key} and {stored[key]} are two names of one value; leave one out"
            elif problem := _value_problem(key, given[key], largest.get(stored.get(key, key))):
                yield f"{key} is {str(given[key])[:40]}, expected {problem}"
            elif given[key] != SAME_IN_RELEASE_4.get(key, given[key]):
                yield f"{key} is {given[key]}, which transformers 4 would ignore: leave it out"
            elif key in ("hidden_act", "activation_function") and given[key] in NEW_ACTIVATIONS:
                yield f"{key} {given[key]!r} is not known to transformers 4, which could not read the model"
        if rope.PARAMETERS in known:
            yield from rope.key_problems(given.get(rope.PARAMETERS) or {})

    def hugging_face(self, token_ids: dict[str, int]) -> PretrainedConfig:
        """The architecture's config object.

        Args:
            token_ids: `vocab_size`, `bos_token_id`, `eos_token_id`, `pad_token_id`.

        Raises:
            ValueError or a library error: values that do not fit together.
        """
        config = AutoConfig.for_model(self.architecture, **NO_TOKEN_IDS | self.keys | token_ids)
        if config.hidden_size % config.num_attention_heads:
            width, heads = config.hidden_size, config.num_attention_heads
            raise ValueError(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")
        return config


def _has_rope(values: dict[str, Any]) -> bool:
    architecture = values.get("architecture")
    return architecture in get_args(Architecture) and rope.PARAMETERS in _known_keys(str(architecture))


def _value_problem(key: str, value: Any, most: int | None) -> str | None:
    """What would be right of a number; None where it is, or where there is no number."""
    if not isinstance(value, int | float):
        return None
    if most is not None:
        return "at least 1" if value < 1 else f"at most {most:,}" if value > most else None
    if "drop" in key:
        return None if 0 <= value < 1 else "at least 0 and less than 1"
    if key.endswith(("_eps", "_epsilon", "initializer_range")):
        return None if 1e-30 < value <= 10 else "more than 1e-30 and at most 10"
    return None


def _known_keys(architecture: str) -> list[str]:
    config_class = CONFIG_MAPPING[architecture]
    own = [field.name for field in dataclasses.fields(config_class)]
    general = {field.name for field in dataclasses.fields(PretrainedConfig)}
    keys = {*own} - general | {"tie_word_embeddings"} | set(_stored_names(architecture))
    return sorted(keys - {*FROM_TOKENIZER})


def _stored_names(architecture: str) -> dict[str, str]:
    """Other names of keys → the name that the config class stores."""
    config_class = CONFIG_MAPPING[architecture]
    names: dict[str, str] = dict(config_class.attribute_map)
    if "n_inner" in {field.name for field in dataclasses.fields(config_class)}:
        names["intermediate_size"] = "n_inner"
    return names


def _compute_one_layer(config: PretrainedConfig) -> None:
    """Run one layer without memory: many values that do not fit together show only there."""
    with torch.device("meta"):
        config.num_hidden_layers = 1
        model = AutoModelForCausalLM.from_config(config)
        for module in model.modules():
            if getattr(module, "rope_type", None) == "dynamic":  # asks for the value of the last position
                module.rope_type = "default"
        model(torch.zeros(1, 2, dtype=torch.long), use_cache=True)  # without a cache, it asks for all positions'


def build_model(config: PretrainedConfig, seed: int, device: torch.device) -> PreTrainedModel:
    """A float32 model with initial weights from the stream named `model`: equal for equal shapes and seeds."""
    with seeded(seed, "model"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention_implementation(config, device)
        )
    return model.to(device)


def export_model(model: PreTrainedModel, folder: Path) -> None:
    """Write a model folder that transformers 4 and 5 read alike, and prove it by reading its config again.

    Raises:
        RuntimeError: one of them would read another model.
    """
    with quiet_transformers():
        model.save_pretrained(folder)
    path = folder / "config.json"
    write_json(path, rope.both_spellings(read_json(path), model.config))
    read = AutoConfig.from_pretrained(folder, **SAFELY)
    rope.prove(read_json(path), read, model.config)
    expected, found = model.config.to_dict(), read.to_dict()
    others = expected.keys() - {rope.PARAMETERS, "_name_or_path"}
    if differing := sorted(key for key in others if found.get(key) != expected[key]):
        raise RuntimeError(f"{path}: written and read again it has another {', '.join(differing)}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Loading or saving a small model needs no progress bar of its own."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


def attention_implementation(config: PretrainedConfig, device: torch.device) -> str:
    """Plain matrix products on a CPU, where they run three times as fast as the fused kernel; elsewhere fused, where
    the architecture has it (GPT-J has not)."""
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)  # none: no language model, as loading will tell
    has_fused = getattr(model_class, "_supports_sdpa", False)
    return "sdpa" if has_fused and device.type != "cpu" else "eager"


def transformer_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks that a model is a stack of."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def model_shape(config: PretrainedConfig) -> ModelShape:
    """The sizes that objectives need."""
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 0
    return ModelShape(
        text.hidden_size, text.num_hidden_layers, heads, text.vocab_size, head_dim=getattr(text, "head_dim", None),
    )  # fmt: skip


def longest_input(model: PreTrainedModel) -> int | None:
    """Tokens that a model has positions for; None where any number goes.

    A table of positions with a row for padding (RoBERTa's) starts counting after it.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is None or positions < 1:  # XLNet says -1
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


def count_parameters(model: nn.Module) -> dict[str, int]:
    """True parameter counts: `total`, and `non_embedding` (without token embeddings and an untied head)."""
    total = sum(parameter.numel() for parameter in model.parameters())
    vocabulary = {
        id(layer.weight): layer.weight.numel()
        for layer in (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[operator]
    }
    return {"total": total, "non_embedding": total - sum(vocabulary.values())}


def model_on_meta(config: PretrainedConfig) -> PreTrainedModel:
    """A model of a shape, without its weights.

    Raises:
        UserError: no causal language model is of this shape.
    """
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (ValueError, ImportError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"no causal language model can be built of a {config.model_type} config: {message}") from None


def count_parameters_of(config: PretrainedConfig) -> dict[str, int]:
    """Parameter counts of a shape."""
    return count_parameters(model_on_meta(config))


def count_matrix_weights_of(config: PretrainedConfig) -> dict[str, int]:
    """Weights of a shape that tokens are multiplied with: `body`, and `head`, the vocabulary's, tied or not."""
    model = model_on_meta(config)
    layers = [module for module in model.modules() if not isinstance(module, nn.Embedding)]
    matrices = [p for layer in layers for p in layer.parameters(recurse=False) if p.ndim == 2]
    head = model.get_output_embeddings().weight.numel()
    return {"body": sum(matrix.numel() for matrix in matrices) - head, "head": head}
