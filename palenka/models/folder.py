"""Model folders: what one must hold before anything is computed with it, and how it is loaded.

    config.json          of a causal (or, where one is asked for, masked) language model that the library knows
                         without code from the folder
    model.safetensors    or model.safetensors.index.json and the shards that it names: all weights of that model, no
                         others, as plain floating-point numbers

`check_model_folder` reads the configuration and headers alone. `load_frozen`, through which every load goes, asks it
first, and then looks at what only the loaded model shows: weights that are not finite, causal predictions that look
ahead.
"""

import copy
import functools
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from palenka.models.config import make_known
from palenka.models.huggingface import SAFELY, attention_implementation, quiet_transformers
from palenka.models.probing import LOOKS_AHEAD, logits_of, looks_ahead, predictions_before, probe_tokens
from palenka.util.errors import UserError
from palenka.util.files import read_object

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
EXPORTS = ("result.json", "revision.json")
"""What says, in a finished run and in a milestone, which weights the training exported."""
EXPORTED = "weights_sha256"
READ = (".json", ".safetensors", ".txt", ".model", ".yaml")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
FLOATS = ("F64", "F32", "F16", "BF16")
OLD_BUFFERS = re.compile(
    r"(^|\.)(attn\.bias|attention\.bias|masked_bias|causal_mask|embed_positions|rotary_emb\.inv_freq|position_ids)$"
)
"""Constants that older releases saved beside the weights, and that models of today compute."""
OTHER_HEADS = re.compile(r"(^|\.)(pooler\.|cls\.seq_relationship\.|sop_classifier\.|discriminator_predictions\.)")
"""What masked models are published with for other tasks than the prediction of tokens."""
WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FullyShardedDataParallel",
    "module.": "DistributedDataParallel",
}
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
MOST_LAYERS = 10_000
AGREEMENT, ROUGH_AGREEMENT = 1e-3, 0.05
"""Of the largest logit: two kinds of attention that do the same are closer, in float32 and in low precision."""


class Kind(NamedTuple):
    """A kind of language model: its name, and what of transformers loads it."""

    name: str
    auto: Any
    classes: Any


CAUSAL = Kind("causal", AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING)
MASKED = Kind("masked", AutoModelForMaskedLM, MODEL_FOR_MASKED_LM_MAPPING)


class Header(NamedTuple):
    """What a weights file says of a tensor."""

    shape: list[int]
    dtype: str


class _Problems(Exception):
    """What is wrong with a folder, a sentence each."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = list(sentences)
        super().__init__("; ".join(self.sentences))


@contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """Turn problems into the message that users read."""
    try:
        yield
    except _Problems as problems:
        raise UserError(f"{folder}: {problems}") from None


def load_frozen(
    folder: Path, dtype: torch.dtype, device: torch.device, kind: Kind = CAUSAL
) -> PreTrainedModel:
    """A trained model for inference only: no gradients, no dropout.

    Raises:
        UserError: the folder does not hold a whole language model of that kind, of finite weights.
    """
    config = check_model_folder(folder, kind)

    def load(attention: str) -> PreTrainedModel:
        return _load(folder, kind, dtype, device, attention)

    attention = attention_implementation(config, device)
    model = load(attention)
    with _refusing(folder):
        _check_finite(model)
        _check_predictions(model, kind)
    if not model._supports_sdpa or _attention_agrees(model, load):
        return model
    print(
        f"{folder}: warning: fused attention (sdpa, the default of transformers) gives other logits than the model's "
        "own formula (eager), which is used", file=sys.stderr,
    )  # fmt: skip
    return model if attention == "eager" else load("eager")


def _load(folder: Path, kind: Kind, dtype: torch.dtype, device: torch.device, attention: str) -> PreTrainedModel:
    with quiet_transformers():
        model: PreTrainedModel = kind.auto.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, use_safetensors=True, **SAFELY
        )
    return model.to(device).eval().requires_grad_(False)


def check_model_folder(folder: Path, kind: Kind = CAUSAL) -> PretrainedConfig:
    """The config of a folder that holds a whole language model, as far as headers tell.

    Args:
        folder: the model's.
        kind: of language model that it is to be.

    Raises:
        UserError: naming every problem.
    """
    with _refusing(folder):
        _check_files(folder)  # first, and alone: reading a pipe might never end
        headers, of_weights = _attempt(_read_headers, folder)
        most_layers = len(headers) if headers else MOST_LAYERS
        config, of_config = _attempt(_read_config, folder, most_layers, kind)
        problems = [*_adapter_problems(folder), *of_config, *of_weights]
        if not problems:
            problems += _weight_problems(config, headers, kind)
        if problems:
            raise _Problems(problems)
    return cast(PretrainedConfig, config)


@functools.lru_cache(maxsize=256)
def _digest(files: tuple[Path, ...], states: tuple[tuple[int, ...], ...]) -> str:
    """sha256 of files one after the other, read once as long as they stay: all plans of a grid or search ask for the
    same gigabytes."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def weights_sha256(folder: Path) -> str:
    """Fingerprint of the weights that a load of the folder reads.

    Raises:
        UserError: there are none, or they are not those that the training exported.
    """
    with _refusing(folder):
        files = sorted(_weight_files(folder))
    states = [path.stat() for path in files]
    found = _digest(tuple(files), tuple((of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns) for of in states))
    for record in (folder / name for name in EXPORTS):
        if record.exists() and read_object(record).get(EXPORTED, found) != found:
            raise UserError(
                f"{', '.join(map(str, files))}: not the weights that the training exported (sha256): damaged, or "
                "changed by hand. Put back a copy of them, or move the run away and train it again; a model "
                f"changed on purpose belongs in a folder of its own, without {record.name}"
            )
    return found


def _attempt(read: Callable[..., Any], *arguments: Any) -> tuple[Any, list[str]]:
    try:
        return read(*arguments), []
    except _Problems as problems:
        return None, problems.sentences


def _check_files(folder: Path) -> None:
    entries = [path for path in sorted(folder.iterdir()) if path.suffix in READ]
    if odd := [path.name for path in entries if not path.is_file() and not path.is_dir()]:
        raise _Problems([f"{_listed(odd)}: not a regular file, or a broken link"])


def _adapter_problems(folder: Path) -> Iterator[str]:
    found = sorted(path.name for path in folder.glob("adapter_*") if path.suffix in (".json", ".safetensors", ".bin"))
    if found:
        yield (
            f"{_listed(found)}: an adapter, without which the base model's weights are a different model; merge it "
            "into them (peft: merge_and_unload) and save the whole"
        )


def _weight_files(folder: Path) -> list[Path]:
    """The files that a load reads, in the order in which it does."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return [folder / name for name in sorted(set(_read_index(folder).values()))]
    others = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
    pickles = f"; {_listed(others)}: pickles, which may run code, are not read: save as safetensors" if others else ""
    unfinished = " (is the run finished?)" if (folder / "identity.json").exists() else ""
    raise _Problems([f"holds no *.safetensors weights: neither {WEIGHTS} nor {INDEX}{unfinished}{pickles}"])


def _read_index(folder: Path) -> dict[str, str]:
    """Tensor → shard; all shards exist."""
    weight_map = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise _Problems([f"{INDEX} is damaged: expected a weight_map of tensors to files"])
    problems = []
    for name in sorted(set(weight_map.values())):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            problems.append(f"{INDEX} names a file outside the folder: {name}")
        elif not name.endswith(".safetensors"):
            problems.append(f"{INDEX} names a file that is not *.safetensors: {name}")
        elif not (folder / name).is_file():
            problems.append(f"{INDEX} names {name}, which is missing")
    if problems:
        raise _Problems(problems)
    return weight_map


def _read_headers(folder: Path) -> dict[str, Header]:
    """What the weights files hold, without reading the weights."""
    problems: list[str] = []
    files: dict[str, dict[str, Header]] = {}
    for path in _weight_files(folder):
        try:
            files[str(path.relative_to(folder))] = _read_header(path)
        except _Problems as found:
            problems += found.sentences
    headers: dict[str, Header] = {}
    for name, tensors in files.items():
        if twice := sorted(headers.keys() & tensors.keys()):
            problems.append(f"{name} holds tensors that another shard holds: {_listed(twice)}")
        headers |= tensors
    if not (folder / WEIGHTS).is_file():
        for tensor, name in _read_index(folder).items():
            if name in files and tensor not in files[name]:
                problems.append(f"{INDEX} names {tensor} in {name}, which does not hold it")
    if problems:
        raise _Problems(problems)
    return headers


def _read_header(path: Path) -> dict[str, Header]:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            headers = {name: Header(part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except SafetensorError as error:
        with path.open("rb") as content:
            pointer = content.read(20).startswith(b"version https://git")
        advice = "a pointer of Git LFS; fetch the file itself (git lfs pull)" if pointer else f"damaged ({error})"
        raise _Problems([f"{path.name} is {advice}"]) from None
    if not headers:
        raise _Problems([f"{path.name} holds no tensors"])
    return headers


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _Problems([f"{path.name} is damaged ({error})"]) from None
    if not isinstance(content, dict):
        raise _Problems([f"{path.name} is damaged: expected a mapping"])
    return content


def _read_config(folder: Path, most_layers: int, kind: Kind) -> PretrainedConfig:
    """The config of a usable model; anything else is a problem.

    Args:
        folder: the model's.
        most_layers: a model with more would take forever to lay out, and cannot be what the weights belong to.
        kind: of language model that it is to be.
    """
    if not (folder / CONFIG).is_file():
        raise _Problems([f"holds no readable model config (there is no {CONFIG})"])
    raw = _read_json(folder / CONFIG)
    for key in LAYER_COUNTS:
        if isinstance(raw.get(key), int) and raw[key] > most_layers:
            raise _Problems([f"{CONFIG}: {key} is {raw[key]}, more than the tensors of the weights"])
    make_known(str(raw.get("model_type")))
    if "auto_map" in raw and str(raw.get("model_type")) not in CONFIG_MAPPING:
        raise _Problems([f"{CONFIG}: auto_map: the model needs code of its own, and code from a folder is never run"])
    try:
        config = AutoConfig.from_pretrained(folder, **SAFELY)
    except Exception as error:  # damaged values fail in many ways
        raise _Problems([f"holds no readable model config ({_brief(error)})"]) from None
    if problems := list(_config_problems(config, kind)):
        raise _Problems(problems)
    return config


def _config_problems(config: PretrainedConfig, kind: Kind) -> Iterator[str]:
    if getattr(config, "is_encoder_decoder", False):
        yield f"{CONFIG}: {config.model_type} is an encoder-decoder, not a {kind.name} language model"
    elif type(config) not in kind.classes:
        yield f"{CONFIG}: {config.model_type} is not a {kind.name} language model"
    if getattr(config, "quantization_config", None):
        yield f"{CONFIG}: quantization_config: the weights are quantized; save them as plain floating-point numbers"
    if getattr(config, "transformers_weights", None):
        yield f"{CONFIG}: transformers_weights: names another weights file; call that {WEIGHTS} and remove the key"


def _weight_problems(config: PretrainedConfig, headers: Mapping[str, Header], kind: Kind) -> Iterator[str]:
    """How the tensors of the files differ from those of the model."""
    try:
        model, report = _load_on_meta(config, headers, kind)
    except Exception as error:  # inconsistent values fail in many ways
        yield f"no model can be built from {CONFIG} and these weights ({_brief(error)})"
        return
    unknown = sorted(name for name in report["unexpected_keys"] if not OLD_BUFFERS.search(name))
    if kind is MASKED:
        unknown = [name for name in unknown if not OTHER_HEADS.search(name)]
    missing = sorted(report["missing_keys"])
    if missing:
        yield f"weights are missing: {_listed(missing)}"
    if unknown:
        yield f"weights the model does not know: {_listed(unknown)}{_wrapper_hint(unknown, missing)}"
    for name, found, expected in sorted(report["mismatched_keys"]):
        yield f"{name} has shape {list(found)} where {CONFIG} makes it {list(expected)}"
    counters = {name for name, tensor in model.state_dict().items() if not tensor.is_floating_point()}
    coded = [name for name, header in headers.items() if header.dtype not in FLOATS and name not in counters]
    if coded := [name for name in coded if not OLD_BUFFERS.search(name)]:
        kinds = ", ".join(sorted({headers[name].dtype for name in coded}))
        yield f"stored as {kinds} instead of one of {', '.join(FLOATS)}: {_listed(coded)}"


def _load_on_meta(
    config: PretrainedConfig, headers: Mapping[str, Header], kind: Kind
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """What the library makes of the files: the model without values, and its report on missing tensors."""
    tensors = {name: torch.empty(header.shape, device="meta") for name, header in headers.items()}
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its report, which we read
    try:
        with quiet_transformers():
            return kind.classes[type(config)].from_pretrained(
                None, config=copy.deepcopy(config), state_dict=tensors, device_map="meta", dtype=torch.float32,
                ignore_mismatched_sizes=True, output_loading_info=True,
            )  # fmt: skip
    finally:
        transformers_logging.set_verbosity(verbosity)


def _wrapper_hint(unknown: list[str], missing: list[str]) -> str:
    """Advice if the names are right except for what a wrapper around the model has left in them."""
    for part, wrapper in WRAPPERS.items():
        if any(part in name for name in unknown):
            return f"; {part!r} is left by {wrapper}: save the model inside it, or remove that from the names"
    prefix = next((unknown[0].removesuffix(name) for name in missing if unknown[0].endswith(f".{name}")), "")
    if prefix and all(name.startswith(prefix) for name in unknown):
        return f"; {prefix!r} precedes the names: remove it from them"
    return ""


def _check_finite(model: PreTrainedModel) -> None:
    names = [
        name for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]  # fmt: skip
    if names:
        raise _Problems([f"weights are not finite in {str(model.dtype).removeprefix('torch.')}: {_listed(names)}"])


def _check_predictions(model: PreTrainedModel, kind: Kind) -> None:
    """Check that predictions are finite, and, of a causal model, do not depend on later tokens."""
    try:
        before, after = predictions_before(model)
    except Exception as error:  # architectures fail in many ways
        raise _Problems([f"the model does not run on a few tokens ({_brief(error)})"]) from None
    if not (before.isfinite().all() and after.isfinite().all()):
        raise _Problems(["the model's logits are not finite, though its weights are"])
    if kind is MASKED:
        return
    if not torch.equal(before, after) and model.dtype != torch.float32:
        _check_predictions(copy.deepcopy(model).float(), kind)  # rounding may be as large as a later token's effect
    elif looks_ahead(before, after):
        raise _Problems([f"{model.config.model_type}: {LOOKS_AHEAD}"])


def _attention_agrees(model: PreTrainedModel, load: Callable[[str], PreTrainedModel]) -> bool:
    """Whether fused and plain attention give the same logits but for rounding.

    In transformers 5.23 fused attention drops Gemma 2's cap of scores, and scales Falcon's ALiBi differently.

    Args:
        model: with one of them.
        load: the same with the other, where it cannot be exchanged.
    """
    chosen = model.config._attn_implementation
    other = "sdpa" if chosen == "eager" else "eager"
    tokens = probe_tokens(model)
    expected = logits_of(model, tokens)
    if model._can_set_attn_implementation():
        model.set_attn_implementation(other)
        found = logits_of(model, tokens)
        model.set_attn_implementation(chosen)
    else:
        found = logits_of(load(other), tokens)
    tolerance = AGREEMENT if model.dtype == torch.float32 else ROUGH_AGREEMENT
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def _listed(names: Iterable[str]) -> str:
    """Every name; those that differ in a layer's number alone are grouped: layers.{0, 1, 2}.mlp."""
    groups: dict[tuple[str, str], list[int]] = {}
    for name in names:
        before, *rest = re.split(r"(?<=\.)(\d+)(?=\.)", name, maxsplit=1)
        groups.setdefault((before, rest[1] if rest else ""), []).extend(int(number) for number in rest[:1])
    return ", ".join(f"{before}{_numbers(found)}{after}" for (before, after), found in groups.items())


def _numbers(found: list[int]) -> str:
    return str(found[0]) if len(found) == 1 else f"{{{', '.join(map(str, sorted(found)))}}}" if found else ""


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
