"""Rotary position embeddings (RoPE): one spelling in memory, both in a written `config.json`.

transformers 5 holds base and scaling in `rope_parameters`. Release 4, which the challenge's pipelines pin, reads
`rope_theta` and `rope_scaling`, and takes its defaults in silence where these are missing. The two also differ in what
some values mean:

    yarn       release 4 takes max_position_embeddings / original_max_position_embeddings for the factor, where the
               latter is given, and knows no `truncate`
    longrope   release 4 reads original_max_position_embeddings beside `rope_scaling`, and takes its factor from it
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PretrainedConfig

from palenka.util.text import did_you_mean

BASE, SCALING, PARAMETERS = NAMES = ("rope_theta", "rope_scaling", "rope_parameters")
ORIGINAL = "original_max_position_embeddings"
DEFAULT_BASE = 10_000.0
KEYS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": (
        "factor", ORIGINAL, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
    ),
    "longrope": ("factor", ORIGINAL, "attention_factor", "short_factor", "long_factor"),
    "llama3": ("factor", ORIGINAL, "low_freq_factor", "high_freq_factor"),
}  # fmt: skip
"""The types that both releases have, and what each reads beside the base."""
PARTIAL = "partial_rotary_factor"
"""The share of a head that is rotated, where an architecture rotates but a part (GPT-NeoX)."""
RELEASE_4_NAMES = {"gpt_neox": {BASE: "rotary_emb_base", PARTIAL: "rotary_pct"}}
"""Where they are not the same."""
LEAST = {
    "factor": 1, ORIGINAL: 1, "attention_factor": 0, "beta_fast": 0, "beta_slow": 0, "low_freq_factor": 0,
    "high_freq_factor": 0,
}  # fmt: skip


def one_spelling(values: dict[str, Any]) -> dict[str, Any]:
    """A model's keys with those of release 4 moved into `rope_parameters`.

    Raises:
        ValueError: a value is given twice, or is no mapping.
    """
    base, scaling, parameters = (values.get(name) for name in NAMES)
    for name, value in ((SCALING, scaling), (PARAMETERS, parameters)):
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"{name} is {value!r}, expected a mapping such as {{rope_type: linear, factor: 2.0}}")
    if base is None and scaling is None:
        return {key: value for key, value in values.items() if key not in (BASE, SCALING)}
    if scaling is not None and parameters is not None:
        raise ValueError(f"{SCALING} and {PARAMETERS} are two names of one value; leave one out")
    found = dict(scaling if scaling is not None else parameters or {})
    if "type" in found and "rope_type" in found:
        raise ValueError("type and rope_type are two names of one value; leave one out")
    found.setdefault("rope_type", found.pop("type", "default"))
    if base is not None and BASE in found:
        given = SCALING if scaling is not None else PARAMETERS
        raise ValueError(f"{BASE} and {given}.{BASE} are two names of one value; leave one out")
    found.setdefault(BASE, DEFAULT_BASE if base is None else base)
    return {key: value for key, value in values.items() if key not in NAMES} | {PARAMETERS: found}


def key_problems(parameters: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the keys of `rope_parameters`: the library only warns of those that it does not read.

    Those of architectures that have a RoPE for each kind of layer are the library's own matter.
    """
    if any(isinstance(value, dict) for value in parameters.values()):
        return
    kind, base = parameters.get("rope_type", "default"), parameters.get(BASE, DEFAULT_BASE)
    if not _is_number(base, math.ulp(0)):
        yield f"{BASE} is {base!r}, expected a number above 0"
    if not (isinstance(kind, str) and kind in KEYS):
        yield f"rope_type {kind!r} is not known to transformers 4 and 5 alike{did_you_mean(str(kind), [*KEYS])}"
        return
    for key in parameters:
        if key not in (BASE, "rope_type", PARTIAL, *KEYS[kind]):
            known = ["rope_type", BASE, *KEYS[kind]]
            yield f"{PARAMETERS}: unknown key {key!r} for rope_type {kind!r}{did_you_mean(key, known)}"
        elif key in LEAST and parameters[key] is not None and not _is_number(parameters[key], LEAST[key]):
            yield f"{PARAMETERS}: {key} is {parameters[key]!r}, expected a number {LEAST[key]:.0f} or above"
    low, high = parameters.get("low_freq_factor", 0), parameters.get("high_freq_factor", math.inf)
    if _is_number(low, 0) and _is_number(high, 0) and low >= high:
        yield f"{PARAMETERS}: low_freq_factor {low} is not below high_freq_factor {high}"


def _is_number(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < math.inf


@contextmanager
def warnings_noted() -> Iterator[list[str]]:
    """Lists of a wrong length, by the library's own words: it takes them, and only warns."""
    noted: list[str] = []
    logger = logging.getLogger("transformers.modeling_rope_utils")
    level = logger.level

    def note(record: logging.LogRecord) -> bool:
        if " must have length " in (message := record.getMessage()):
            noted.append(message)
        return False

    logger.addFilter(note)
    logger.setLevel(logging.WARNING)
    try:
        yield noted
    finally:
        logger.removeFilter(note)
        logger.setLevel(level)


def release_4_problem(config: PretrainedConfig) -> str | None:
    """Why release 4 would compute another model, however its keys are spelled; None where it would not."""
    rope = _one_rope(config)
    if rope is None or _meaning(_read_as_release_4(_release_4_keys(config)), config) == _meaning(rope, config):
        return None
    ratio = config.max_position_embeddings / rope[ORIGINAL]
    wrong = "truncate: leave it out" if not rope.get("truncate", True) else f"factor: give {ratio}"
    return (
        f"{PARAMETERS}: the model could not be read by transformers 4, whose {rope['rope_type']} always truncates, and "
        f"has the factor max_position_embeddings / {ORIGINAL} = {ratio}; {wrong}"
    )


def _one_rope(config: PretrainedConfig) -> dict[str, Any] | None:
    """The `rope_parameters` of a config; None where there are none, or one for each kind of layer."""
    rope: dict[str, Any] | None = getattr(config, PARAMETERS, None)
    return rope if rope and rope.get("rope_type") in KEYS else None


def _release_4_keys(config: PretrainedConfig) -> dict[str, Any]:
    """What release 4 has to find in `config.json`."""
    rope = dict(config.rope_parameters)
    positions = config.max_position_embeddings
    keys: dict[str, Any] = {BASE: rope.pop(BASE), SCALING: None, "max_position_embeddings": positions}
    keys |= {PARTIAL: rope.pop(PARTIAL)} if PARTIAL in rope else {}
    keys |= {name: keys[key] for key, name in RELEASE_4_NAMES.get(config.model_type, {}).items()}
    kind, original = rope["rope_type"], rope.get(ORIGINAL)
    if kind == "default":
        return keys
    rope.pop("truncate", None)
    if kind in ("yarn", "longrope"):
        rope["factor"] = _factor(rope, positions)
        if original == positions:
            del rope[ORIGINAL]  # release 4 would take 1 for the factor
        elif kind == "longrope":
            keys[ORIGINAL] = original
    return keys | {SCALING: rope}


def _read_as_release_4(written: dict[str, Any]) -> dict[str, Any]:
    """The `rope_parameters` that release 4 would compute with, of a `config.json` that it reads."""
    positions, scaling = written["max_position_embeddings"], written.get(SCALING) or {"rope_type": "default"}
    names = {BASE: BASE, PARTIAL: PARTIAL} | RELEASE_4_NAMES.get(str(written.get("model_type")), {})
    rope = {key: written[name] for key, name in names.items() if name in written} | scaling
    rope.setdefault(BASE, DEFAULT_BASE)
    if rope["rope_type"] == "longrope":
        rope.pop(ORIGINAL, None)
        rope |= {ORIGINAL: written[ORIGINAL]} if ORIGINAL in written else {}
    if rope["rope_type"] in ("yarn", "longrope") and ORIGINAL in rope:
        rope["factor"] = positions / rope[ORIGINAL]
    return rope


def _factor(rope: dict[str, Any], positions: int) -> float:
    factor = rope.get("factor")
    return positions / rope.get(ORIGINAL, positions) if factor is None else factor


def _meaning(rope: dict[str, Any], config: PretrainedConfig) -> dict[str, Any]:
    """All values that a type computes with, those that are left out too."""
    positions = config.max_position_embeddings
    kind = rope["rope_type"]
    values = {key: rope.get(key) for key in (BASE, "rope_type", PARTIAL, *KEYS[kind])}
    if ORIGINAL in KEYS[kind]:
        values[ORIGINAL] = rope.get(ORIGINAL, positions)
        values["factor"] = _factor(rope, positions)
    if kind == "longrope" and values["attention_factor"] is not None:
        del values["factor"]  # which only decides that one
    if kind == "yarn":
        values["beta_fast"], values["beta_slow"] = values["beta_fast"] or 32, values["beta_slow"] or 1
        values["truncate"] = rope.get("truncate", True)
    return values


def both_spellings(written: dict[str, Any], config: PretrainedConfig) -> dict[str, Any]:
    """The content of a `config.json`, with what release 4 reads of the RoPE beside what release 5 wrote."""
    return written if _one_rope(config) is None else written | _release_4_keys(config)


def prove(written: dict[str, Any], read: PretrainedConfig, config: PretrainedConfig) -> None:
    """Check that both releases read the RoPE of `config`: in the content of a `config.json`, and as release 5 read it.

    Raises:
        RuntimeError: one of them does not.
    """
    if (rope := _one_rope(config)) is None:
        return
    expected = _meaning(rope, config)
    for release, found in ((4, _read_as_release_4(written)), (5, read.rope_parameters)):
        if (meant := _meaning(found, config)) != expected:
            raise RuntimeError(f"config.json: transformers {release} reads the RoPE {meant}, not {expected}")
