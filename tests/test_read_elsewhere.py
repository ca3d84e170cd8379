"""What is written can be read elsewhere: the same model in both major versions of transformers.

PALENKA_TRANSFORMERS_4 names a Python with transformers 4.51 for the tests that ask that release itself.
"""

import copy
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from pydantic import ValidationError
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from palenka.data.tokenizer import PROBES, load_tokenizer, save_tokenizer
from palenka.models import rope
from palenka.models.config import ModelConfig
from palenka.models.huggingface import export_model

HERE = Path(__file__).parent
LLAMA = dict(tiny.LLAMA) | {"max_position_embeddings": 32, "initializer_range": 0.5}
FACTORS = {"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [2.0, 3.0, 4.0, 5.0]}
YARN = {"rope_type": "yarn", "rope_theta": 50.0}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

ROPES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 50.0},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "linear with a base": {"rope_type": "linear", "factor": 2, "rope_theta": 70},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0, "rope_theta": 50.0},
    "yarn": YARN | {"factor": 4.0, "original_max_position_embeddings": 8},
    "yarn without a factor": YARN | {"factor": None, "original_max_position_embeddings": 8},
    "yarn without an original length": YARN | {"factor": 3.0},
    "yarn with all": YARN
    | {"factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 3, "beta_slow": 0.5, "mscale": 1.5,
       "mscale_all_dim": 0.5, "truncate": True},
    "yarn with an attention factor": YARN | {"factor": 3.0, "attention_factor": 1.7},
    "longrope": {"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 16, **FACTORS},
    "longrope without a factor": {"rope_type": "longrope", "original_max_position_embeddings": 16, **FACTORS},
    "longrope without an original length": {"rope_type": "longrope", "factor": 2.0, **FACTORS},
    "longrope with an attention factor": {
        "rope_type": "longrope", "factor": 7.0, "attention_factor": 1.3, "original_max_position_embeddings": 16,
        **FACTORS,
    },
    "longrope with little": {"rope_type": "longrope", **FACTORS},
    "llama3": LLAMA3 | {"original_max_position_embeddings": 16, "rope_theta": 50.0},
    "llama3 without an original length": LLAMA3 | {"rope_theta": 50.0},
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 1, "hidden_act": "relu", "rms_norm_eps": 0.1, "attention_bias": True,
              "mlp_bias": True, "head_dim": 12, "tie_word_embeddings": True, "attention_dropout": 0.3,
              "pretraining_tp": 2, "use_cache": False},
    "gpt2": {"n_inner": 20, "activation_function": "relu", "layer_norm_epsilon": 0.1,
             "reorder_and_upcast_attn": True, "tie_word_embeddings": False,
             "resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3, "use_cache": False, "summary_type": "last"},
    "gptj": {"n_inner": 20, "activation_function": "relu", "layer_norm_epsilon": 0.1, "rotary_dim": 4,
             "tie_word_embeddings": True, "resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3,
             "use_cache": False},
}  # fmt: skip
BASES = {
    name: {"architecture": name, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
           "max_position_embeddings": 64, "initializer_range": 0.5}
    for name in OTHERS
}  # fmt: skip
BASES["gptj"]["rotary_dim"] = 8


def save(keys: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write a model of such keys; the content of its config.json."""
    export_model(tiny.model(keys), folder)
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def rotation(config: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines that a Llama multiplies with, at positions beyond its length."""
    embedding = LlamaRotaryEmbedding(config)
    cosines, sines = embedding(torch.zeros(1), torch.arange(48)[None])
    return cosines, sines


@pytest.mark.parametrize("name", ROPES)
def test_both_spellings_mean_one_model(name: str, tmp_path: Path) -> None:
    """Release 5 still understands the older spelling, and computes the same with it alone."""
    written = save(LLAMA | {"rope_parameters": dict(ROPES[name])}, tmp_path)
    both = AutoConfig.from_pretrained(tmp_path)
    del written["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(written))
    older = AutoConfig.from_pretrained(tmp_path)
    expected = ModelConfig(**LLAMA, rope_parameters=dict(ROPES[name])).hugging_face(tiny.TOKEN_IDS)
    for config in (both, older):
        assert all(map(torch.equal, rotation(config), rotation(expected)))
    assert not torch.equal(rotation(expected)[0], rotation(ModelConfig(**LLAMA).hugging_face(tiny.TOKEN_IDS))[0])


def test_base_and_scaling_as_transformers_4_writes_them(tmp_path: Path) -> None:
    written = save(LLAMA | {"rope_theta": 500}, tmp_path / "base")
    assert (written["rope_theta"], written["rope_scaling"]) == (500, None)
    written = save(LLAMA | {"rope_theta": 500, "rope_scaling": {"type": "linear", "factor": 2.0}}, tmp_path / "scaled")
    assert written["rope_theta"] == 500
    assert written["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    assert written["rope_parameters"] == {"rope_type": "linear", "factor": 2.0, "rope_theta": 500}
    written = save(LLAMA | {"rope_parameters": dict(ROPES["longrope"])}, tmp_path / "long")
    assert written["original_max_position_embeddings"] == 16
    written = save(LLAMA | {"rope_parameters": dict(ROPES["yarn without an original length"])}, tmp_path / "yarn")
    assert "original_max_position_embeddings" not in written["rope_scaling"]  # it would take 1 for the factor


def test_one_model_has_one_identity() -> None:
    spellings: list[dict[str, Any]] = [
        {"rope_theta": 500.0},
        {"rope_scaling": {"rope_type": "default", "rope_theta": 500.0}, "rope_theta": None},
        {"rope_theta": 500, "rope_scaling": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"rope_parameters": {"rope_type": "default"}, "rope_theta": 500.0},
    ]
    dumps = [ModelConfig(**LLAMA, **spelling).model_dump(mode="json", exclude_none=True) for spelling in spellings]
    assert all(dump == dumps[0] for dump in dumps)
    assert dumps[0]["rope_parameters"] == {"rope_type": "default", "rope_theta": 500.0}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"rope_theta": 500.0, "rope_parameters": {"rope_theta": 500.0}}, "two names of one value"),
        ({"rope_theta": 500.0, "rope_scaling": {"rope_theta": 500.0, "type": "default"}}, "two names of one value"),
        ({"rope_scaling": ROPES["linear"], "rope_parameters": ROPES["linear"]}, "two names of one value"),
        ({"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.0}}, "two names of one value"),
        ({"rope_scaling": 2.0}, "rope_scaling is 2.0, expected a mapping"),
        ({"rope_theta": 0}, "rope_theta is 0, expected a number above 0"),
        ({"rope_theta": "500"}, "rope_theta is '500', expected a number above 0"),
        ({"rope_theta": math.nan}, "rope_theta is nan, expected a number above 0"),
        ({"rope_parameters": {"rope_theat": 500.0}}, "unknown key 'rope_theat' for rope_type 'default'; did you mean"),
        ({"rope_parameters": {"rope_type": "proportional"}}, "'proportional' is not known to transformers 4 and 5"),
        ({"rope_parameters": YARN | {"factor": 3.0, "original_max_position_embeddings": 8}}, "factor: give 4.0"),
        ({"rope_parameters": YARN | {"factor": 3.0, "truncate": False}}, "truncate: leave it out"),
        ({"rope_parameters": ROPES["longrope"] | {"factor": 3.0}}, "factor: give 2.0"),
        ({"rope_parameters": {"rope_type": "linear"}}, "no llama model can be built of these values"),
        ({"hidden_act": "xielu"}, "hidden_act 'xielu' is not known to transformers 4"),
    ],
)
def test_what_transformers_4_cannot_read_is_refused(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(problem)):
        ModelConfig(**LLAMA, **copy.deepcopy(keys))


@pytest.mark.parametrize("keys", [{"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}])
def test_what_its_fused_attention_ignores_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="which transformers 4 would ignore"):
        ModelConfig(**BASES["gpt2"], **keys)
    ModelConfig(**BASES["gpt2"], scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False)


@pytest.mark.parametrize("architecture", ["gpt2", "gptj"])
def test_other_architectures_have_no_such_keys(architecture: str) -> None:
    with pytest.raises(ValidationError, match="unknown key 'rope_theta'"):
        ModelConfig(**BASES[architecture], rope_theta=500.0)


@pytest.mark.parametrize("change", [{"rope_theta": 9.0}, {"rope_scaling": None}])
def test_a_config_that_would_be_read_otherwise_is_not_left(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faithful = rope.both_spellings
    monkeypatch.setattr(rope, "both_spellings", lambda *given: faithful(*given) | change)
    with pytest.raises(RuntimeError, match="config.json: transformers [45] reads"):
        save(LLAMA | {"rope_parameters": dict(ROPES["llama3"])}, tmp_path)


@pytest.mark.usefixtures("processes")
def test_transformers_4_reads_and_computes_the_same(tmp_path: Path, prepared: Path) -> None:
    python = os.environ.get("PALENKA_TRANSFORMERS_4")
    if not python:
        pytest.skip("PALENKA_TRANSFORMERS_4 names no Python with transformers 4.51")
    models = {f"rope {name}": LLAMA | {"rope_parameters": dict(keys)} for name, keys in ROPES.items()}
    for architecture, keys in OTHERS.items():
        models |= {f"{architecture} {key}": BASES[architecture] | {key: value} for key, value in keys.items()}
        models[architecture] = BASES[architecture] | keys
    for name, of_model in models.items():
        save(of_model, tmp_path / name)
        save_tokenizer(load_tokenizer(prepared / "tokenizer"), tmp_path / name)
    inputs = tmp_path / "inputs.json"
    texts = ["The cat sees a dog.\nEvery farmer likes one river.", *PROBES]
    ids = [[1, 5, 9, 200, 33], list(range(10, 38)), list(range(10, 58))]
    inputs.write_text(json.dumps({"ids": ids, "texts": texts}), encoding="utf-8")

    def read(interpreter: str) -> dict[str, Any]:
        command = [interpreter, str(HERE / "read_folders.py"), str(inputs), *(str(tmp_path / name) for name in models)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer

    here, there = read(sys.executable), read(python)
    assert there["version"].startswith("4.51.")
    for name, ours, theirs in zip(models, here["folders"], there["folders"], strict=True):
        assert torch.allclose(torch.tensor(ours["logits"]), torch.tensor(theirs["logits"]), rtol=1e-4, atol=1e-4), name
        assert ours["tokens"] == theirs["tokens"] and ours["problems"] == theirs["problems"] == [], name
