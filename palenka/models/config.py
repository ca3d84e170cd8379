"""What a configuration says of a model: keys checked against the architecture's config class, values by one layer."""

import copy
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from palenka.models import rope
from palenka.models.architectures import Architecture
from palenka.util.doors import Door
from palenka.util.text import did_you_mean

ARCHITECTURES: Door[Architecture] = Door("palenka.models.architectures", "architecture")
PUBLISHED = {"max_position_embeddings": 256}
FROM_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
SIZES = {
    "hidden_size": 10**6, "intermediate_size": 10**7, "num_hidden_layers": 1000, "num_attention_heads": 10**5,
    "max_position_embeddings": 10**8,
}  # fmt: skip
"""The most of each, which no machine holds: larger ones are slips, and building their layers would never end."""
SAME_IN_RELEASE_4 = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
"""GPT-2's keys with the values that transformers 4 has, too: its fused attention, the default there, ignores others."""
INNER_SIZES = ("n_inner", "ffn_dim")  # other names of `intermediate_size`, which no attribute map tells
NEW_ACTIVATIONS = ("gelu_python_tanh", "hardswish", "sqrtsoftplus", "xielu")  # since 4.51
NO_TOKEN_IDS: dict[str, Any] = dict.fromkeys(FROM_TOKENIZER[1:])  # the classes' defaults belong to other tokenizers


class ModelConfig(BaseModel):
    """`architecture` and the keys of its config class; a key that this does not have is an error."""

    model_config = ConfigDict(extra="allow", frozen=True)
    architecture: str = Field(
        description="as transformers calls it, or a file of palenka/models/architectures/; other keys are its own"
    )

    @property
    def keys(self) -> dict[str, Any]:
        """The keys under the names that the config class stores (`intermediate_size` is GPT-2's `n_inner`)."""
        stored = _stored_names(self.architecture)
        is_own = self.architecture in ARCHITECTURES.available()  # with defaults of its own
        keys: dict[str, Any] = {} if is_own or not PUBLISHED.keys() <= {*_known_keys(self.architecture)} else PUBLISHED
        return {stored.get(key, key): value for key, value in (keys | (self.model_extra or {})).items()}

    @property
    def default_sizes(self) -> dict[str, int]:
        """Sizes of layers that are not set, as the config class has them; without what it makes of others (`None`)."""
        stored, found = _stored_names(self.architecture), self.hugging_face({})
        values = {key: getattr(found, stored.get(key, key), None) for key in SIZES if key != "max_position_embeddings"}
        return {key: value for key, value in values.items() if value and stored.get(key, key) not in self.keys}

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, values: Any) -> Any:
        return rope.one_spelling(values) if isinstance(values, dict) and _has_rope(values) else values

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in known_architectures():
            raise ValueError(f"unknown architecture {name!r}{_advice(name)}")
        return name

    @model_validator(mode="after")
    def _check_keys(self) -> "ModelConfig":
        problems = list(self._key_problems())
        if problems:
            raise ValueError("; ".join(problems))
        try:
            with rope.warnings_noted() as noted:
                config = self.hugging_face({})
            noted += _noted_in_one_layer(config.to_json_string())
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

    def hugging_face(self, token_ids: Mapping[str, int | None]) -> PretrainedConfig:
        """The architecture's config object.

        Args:
            token_ids: `vocab_size`, `bos_token_id`, `eos_token_id`, `pad_token_id`.

        Raises:
            ValueError or a library error: values that do not fit together.
        """
        config = AutoConfig.for_model(self.architecture, **NO_TOKEN_IDS | self.keys | dict(token_ids))
        width, heads = config.hidden_size, getattr(config, "num_attention_heads", None)
        if heads and width % heads and "head_dim" not in _known_keys(self.architecture):
            raise ValueError(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")
        return config


def known_architectures() -> list[str]:
    """Our own, and the causal language models of transformers."""
    return [*ARCHITECTURES.available(), *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]


def _advice(name: str) -> str:
    close = did_you_mean(name, known_architectures())
    return close if "did you mean" in close else (
        "; known are the files of palenka/models/architectures/, and what AutoModelForCausalLM of transformers builds: "
        "gpt2, llama, gpt_neox, opt, qwen3, mamba, …"
    )  # fmt: skip


def make_known(architecture: str) -> None:
    """Have transformers' Auto classes know an architecture, if it is one of our own."""
    if architecture in ARCHITECTURES.available():
        model = ARCHITECTURES.find(architecture)
        is_new = architecture not in CONFIG_MAPPING_NAMES  # a name of transformers' own is refused by it
        AutoConfig.register(architecture, model.Config, exist_ok=is_new)
        AutoModelForCausalLM.register(model.Config, model, exist_ok=is_new)


def _has_rope(values: dict[str, Any]) -> bool:
    architecture = values.get("architecture")
    return architecture in known_architectures() and rope.PARAMETERS in _known_keys(str(architecture))


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


def _config_class(architecture: str) -> Any:
    make_known(architecture)
    return CONFIG_MAPPING[architecture]


def _known_keys(architecture: str) -> list[str]:
    config_class = _config_class(architecture)
    own = [field.name for field in dataclasses.fields(config_class)]
    general = {field.name for field in dataclasses.fields(PretrainedConfig)}
    keys = {*own} - general | {"tie_word_embeddings"} | set(_stored_names(architecture))
    return sorted(keys - {*FROM_TOKENIZER})


def _stored_names(architecture: str) -> dict[str, str]:
    """Other names of keys → the name that the config class stores."""
    config_class = _config_class(architecture)
    names: dict[str, str] = dict(config_class.attribute_map)
    fields = {field.name for field in dataclasses.fields(config_class)}
    for inner in fields.intersection(INNER_SIZES):
        names["intermediate_size"] = inner
    return names


@functools.cache
def _noted_in_one_layer(written: str) -> tuple[str, ...]:
    """Run one layer without memory: many values that do not fit together show only there.

    Args:
        written: the config as JSON. A grid or a study asks for one model again and again.
    """
    config = AutoConfig.for_model(**json.loads(written))
    with rope.warnings_noted() as noted, torch.device("meta"):
        model = AutoModelForCausalLM.from_config(of_depth(config, 1))
        for module in model.modules():
            if getattr(module, "rope_type", None) == "dynamic":  # asks for the value of the last position
                module.rope_type = "default"
        model(torch.zeros(1, 2, dtype=torch.long), use_cache=True)  # without a cache, it asks for all positions'
    return tuple(noted)


def of_depth(config: PretrainedConfig, depth: int) -> PretrainedConfig:
    """A language model's config cut to fewer layers, with all lists that have a value for each."""
    text = config.get_text_config()
    cut = copy.deepcopy(text)
    for key, value in vars(text).items():
        if isinstance(value, list | tuple) and len(value) == text.num_hidden_layers:
            setattr(cut, key, (list(value) * depth)[:depth])
    cut.num_hidden_layers = depth
    return cut
