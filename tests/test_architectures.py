"""Architectures: whatever transformers builds as a causal language model, and those that are a file of ours."""

import gc
import json
import re
import runpy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from killing import Killed, kill_at
from run_files import outcome, records
from safetensors.torch import load_file
from shared_fixtures import Call, WriteConfig
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from palenka import cli
from palenka.models import architectures
from palenka.models.folder import load_frozen
from palenka.runs.directory import Run
from palenka.util.files import read_json
from palenka.util.paths import ROOT

PAGE = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2}
HEADS = {**SIZES, "intermediate_size": 32, "num_attention_heads": 2}
MODELS: dict[str, Mapping[str, Any]] = {
    "gpt_neox": {"architecture": "gpt_neox", **HEADS},
    "opt": {"architecture": "opt", **HEADS},
    "qwen3": {"architecture": "qwen3", **HEADS, "num_key_value_heads": 1, "head_dim": 8},
    "mamba": {"architecture": "mamba", **SIZES, "state_size": 4},
    "mixer": {"architecture": "mixer", **SIZES, "intermediate_size": 32},
    "ltg_bert": {"architecture": "ltg_bert", **HEADS},
    "gpt_bert": {"architecture": "gpt_bert", **HEADS},
}
PAIRS = [{"sentence_good": "The cat sees a dog.", "sentence_bad": "The cat see a dog."}]

Program = Any


@pytest.fixture(scope="module", autouse=True)
def mixer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's own architecture, as a file in a folder of its own that the door looks into, too."""
    folder = tmp_path_factory.mktemp("architectures")
    file = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    (folder / "mixer.py").write_text(file, encoding="utf-8")
    (folder / "seer.py").write_text(file.replace("Mixer", "Seer").replace(".tril()", ".add(0.1)"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architectures, "__path__", [*architectures.__path__, str(folder)])
        yield
    for name in ("mixer", "seer"):
        sys.modules.pop(f"{architectures.__name__}.{name}", None)
        MODEL_FOR_CAUSAL_LM_MAPPING._extra_content.pop(CONFIG_MAPPING._extra_content.pop(name, None), None)


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, call: Call, prepared: Path, runs_folder: Path, fresh_accelerator: None
) -> Program:
    """program("train.py", *arguments) is what the program prints; it must succeed."""

    def run(name: str, *arguments: Any) -> str:
        monkeypatch.syspath_prepend(ROOT)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        code, output, errors = call(runpy.run_path, str(ROOT / name), run_name="__main__")
        assert code == 0, errors
        return str(output)

    return run


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_and_teaches_itself_and_others(
    name: str, program: Program, runs_folder: Path, write_config: WriteConfig, call: Call, tmp_path: Path
) -> None:
    """As baseline, as the teacher of its like, and scored; a Llama learns from the pair of it and a GPT-2."""
    values = tiny.train_values(model=dict(MODELS[name]))
    values["training"] |= {"lr": 1e-2, "max_steps": 4, "warmup_steps": 0, "eval_steps": 2}
    program("train.py", "--config", write_config(values))
    losses = [record["loss"] for record in records(runs_folder / "baseline", "train")]
    assert losses[-1] < losses[0] - 0.05
    assert read_json(runs_folder / "baseline" / "result.json")["architecture"] == name

    shared = {"teachers": [{"run": "baseline"}], "objective": {"hard_target": {"weight": 1}, "logit": {"weight": 0.5},
              "hidden_state": {"weight": 0.1}}, "training": values["training"]}  # fmt: skip
    file = write_config(tiny.distill_values(student=dict(MODELS[name]), **shared))
    program("distill.py", "--config", file)
    found = records(runs_folder / "student", "train")
    assert found[-1]["loss"] < found[0]["loss"] and found[-1]["hidden_state"] > 0

    folder = tmp_path / "items" / "pairs"
    folder.mkdir(parents=True)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), encoding="utf-8")
    code, output, errors = call(cli.main, ["evaluate", "student", "--data", str(folder.parent), "--tasks",
                                           "pairs,cross_entropy"])  # fmt: skip
    assert code == 0, errors
    dev = read_json(runs_folder / "student" / "evaluation" / "cross_entropy.json")["splits"]["dev"]
    assert 1 < dev["cross_entropy"] < 6


@pytest.mark.parametrize("name", ["mamba", "mixer", "gpt_bert"])
def test_a_killed_run_is_resumed_bit_by_bit(
    name: str, program: Program, runs_folder: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny.train_values(model=dict(MODELS[name]))
    values["training"] |= {"max_steps": 4, "eval_steps": 2, "checkpoint_steps": 1}
    program("train.py", "--config", write_config(values | {"name": "whole"}))
    file = write_config(values | {"name": "killed"})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Run, "log", 4)
        program("train.py", "--config", file)
    gc.collect()  # and with it the lock
    assert not (runs_folder / "killed" / "result.json").exists()
    program("train.py", "--config", file)
    assert outcome(runs_folder / "killed") == outcome(runs_folder / "whole")


def test_an_exported_model_of_our_own_is_loaded_by_its_folder(
    program: Program, runs_folder: Path, write_config: WriteConfig
) -> None:
    values = tiny.train_values(model=dict(MODELS["mixer"]))
    program("train.py", "--config", write_config(values))
    model = load_frozen(runs_folder / "baseline", torch.float32, tiny.CPU)
    weights = load_file(runs_folder / "baseline" / "model.safetensors")
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    again = AutoModelForCausalLM.from_pretrained(runs_folder / "baseline")
    batch, _ = tiny.batch()
    assert torch.equal(model(batch).logits, again.eval()(batch).logits)
    assert AutoConfig.from_pretrained(runs_folder / "baseline").intermediate_size == 32


def test_one_of_our_own_is_exported_with_its_code(
    runs_folder: Path, prepared: Path, call: Call, tmp_path: Path
) -> None:
    folder = tiny.write_finished_run(runs_folder / "mixer", MODELS["mixer"], prepared / "tokenizer")
    code, _, errors = call(cli.main, ["export", "mixer", "--with-code", "--out", str(tmp_path / "out")])
    assert code == 0, errors
    module = runpy.run_path(str(tmp_path / "out" / "mixer.py"), run_name="mixer")
    model = module["MixerForCausalLM"].from_pretrained(tmp_path / "out")
    tokens, _ = tiny.batch()
    expected = load_frozen(folder, torch.float32, tiny.CPU)(tokens).logits
    assert torch.allclose(model(tokens, attention_mask=torch.ones_like(tokens)).logits, expected)


def test_what_needs_more_of_palenka_is_not_exported(
    runs_folder: Path, prepared: Path, call: Call
) -> None:
    file = next(Path(folder, "seer.py") for folder in architectures.__path__ if Path(folder, "seer.py").exists())
    tiny.write_finished_run(runs_folder / "seer", {**MODELS["mixer"], "architecture": "seer"}, prepared / "tokenizer")
    text = file.read_text()
    file.write_text("from palenka.util.errors import UserError\n" + text)
    code, _, errors = call(cli.main, ["export", "seer", "--with-code"])
    file.write_text(text)
    assert code == 2 and "seer: imports palenka.util.errors, which others do not have" in errors
    assert not (runs_folder / "seer" / "export").exists()


def test_a_dry_run_counts_its_parameters_and_products(program: Program, write_config: WriteConfig) -> None:
    values = tiny.train_values(model=dict(MODELS["mixer"]))
    output = program("train.py", "--dry-run", "--config", write_config(values))
    inner, norms, table = 2 * 16 * 32 + 32 + 16, 2 * 2 * 16, 320 * 16
    total = 2 * (256 * 256 + inner + norms) + 2 * 16 + 2 * table
    assert f"baseline: mixer, {total:,} parameters ({total - 2 * table:,} outside the embeddings)" in output
    products = 2 * (2 * (2 * 16 * 32) + 2 * 16 * 16) + 2 * table  # of a window of 16 tokens
    assert f"{3 * products:.3g} FLOPs a token" in output


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"architecture": "gpt_neo_x"}, "unknown architecture 'gpt_neo_x'; did you mean 'gpt_neox'?"),
        ({"architecture": "mixre"}, "unknown architecture 'mixre'; did you mean 'mixer'?"),
        ({"architecture": "zzz"}, "unknown architecture 'zzz'; known are the files of palenka/models/architectures/"),
        ({**MODELS["mixer"], "hiden_size": 3}, "unknown key 'hiden_size' for architecture 'mixer'; did you mean"),
        ({**MODELS["mamba"], "num_attention_heads": 3}, "unknown key 'num_attention_heads' for architecture 'mamba'"),
        ({**MODELS["gpt_neox"], "vocab_size": 3}, "vocab_size comes from the tokenizer; leave it out"),
        ({**MODELS["opt"], "ffn_dim": 3}, "intermediate_size and ffn_dim are two names of one value; leave one out"),
        ({**MODELS["opt"], "num_attention_heads": 3}, "no opt model can be built of these values"),
        ({**MODELS["qwen3"], "num_key_value_heads": 3}, "no qwen3 model can be built of these values"),
        ({**MODELS["mamba"], "expand": "wide"}, "no mamba model can be built of these values"),
        ({**MODELS["mixer"], "num_hidden_layers": 0}, "num_hidden_layers is 0, expected at least 1"),
        ({**MODELS["ltg_bert"], "num_attention_heads": 3}, "hidden_size 16 is not a multiple of num_attention_heads 3"),
        ({**MODELS["ltg_bert"], "attention_gate": False}, "unknown key 'attention_gate' for architecture 'ltg_bert'"),
    ],
)
def test_what_is_no_model_is_refused(keys: dict[str, Any], expected: str) -> None:
    assert expected in tiny.problem_of(**keys)


def test_positions_are_checked_where_there_are_some(
    program: Program, write_config: WriteConfig, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"name": "tiny", "seq_length": 300, "dev_samples": 4}
    long = tiny.train_values(model=dict(MODELS["mamba"]), data=data)
    assert "300 tokens" in program("train.py", "--dry-run", "--config", write_config(long))
    with pytest.raises(AssertionError, match="data.seq_length: 300 tokens do not fit the model's max_position"):
        program("train.py", "--dry-run", "--config", write_config(long | {"model": dict(MODELS["mixer"])}))


@pytest.mark.parametrize("name", ["mamba", "mixer", "ltg_bert"])
def test_attention_that_a_model_has_not_is_refused_by_name(
    name: str, program: Program, runs_folder: Path, prepared: Path, write_config: WriteConfig
) -> None:
    tiny.write_finished_run(runs_folder / "teacher", MODELS[name], prepared / "tokenizer")
    values = tiny.distill_values(objective={"attention": {"weight": 1.0}})
    with pytest.raises(AssertionError, match="attention"):
        program("distill.py", "--config", write_config(values))


def test_a_student_that_looks_ahead_is_refused_before_its_first_step(
    program: Program, runs_folder: Path, write_config: WriteConfig
) -> None:
    values = tiny.train_values(model={**MODELS["mixer"], "architecture": "seer"})
    with pytest.raises(AssertionError, match="a later token changes what is predicted before it"):
        program("train.py", "--config", write_config(values))
    assert not (runs_folder / "baseline" / "metrics.jsonl").exists()
