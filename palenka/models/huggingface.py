"""Models: keys checked against Hugging Face's own config classes, built from a seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from palenka.models import rope
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json
from palenka.util.seeds import seeded

transformers_logging.get_logger("transformers.modeling_utils").addFilter(
    lambda record: "since your input_ids may be padded" not in record.getMessage()
)  # padding stands at the ends of rows, where nothing that counts sees it
SAFELY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # no network, no code from a folder


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
    mappings = (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING)
    classes = [mapping.get(type(config), None) for mapping in mappings]
    has_fused = any(getattr(model_class, "_supports_sdpa", False) for model_class in classes)
    return "sdpa" if has_fused and device.type != "cpu" else "eager"


def transformer_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks that a model is a stack of."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


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
