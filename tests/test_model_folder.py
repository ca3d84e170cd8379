"""Damaged and unsuitable model folders: each is refused by name before any work, wherever a model is loaded."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from shared_fixtures import Call, WriteConfig
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertForMaskedLM

from palenka.cli import main
from palenka.data.tokenizer import load_tokenizer
from palenka.evaluation.official.minicons_scorer import MiniconsScorer
from palenka.evaluation.scoring import Scorer
from palenka.models.folder import _digest, check_model_folder, load_frozen, weights_sha256
from palenka.models.huggingface import quiet_transformers
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json

Weights = dict[str, Tensor]
Damage = Callable[[Path], object]
HEAD, EMBEDDINGS, GATE = "lm_head.weight", "model.embed_tokens.weight", "model.layers.1.mlp.gate_proj.weight"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def weights(change: Callable[[Weights], Weights]) -> Damage:
    """The weights, changed."""

    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, metadata={"format": "pt"})

    return damage


def config(**keys: Any) -> Damage:
    """Other keys in config.json."""

    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))

    return damage


def content(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """A file's bytes, changed."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def write(name: str, text: str) -> Damage:
    return lambda folder: (folder / name).write_text(text)


def pipe(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def shards(change: Callable[[dict[str, str]], object] = lambda index: None) -> Damage:
    """Two shards in place of one file, and their index, changed."""

    def split(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        index = {name: SHARDS["layers" in name] for name in tensors}
        for shard in SHARDS:
            part = {name: tensor for name, tensor in tensors.items() if index[name] == shard}
            save_file(part, folder / shard, {"format": "pt"})
        change(index)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))

    return split


def both(*damages: Damage) -> Damage:
    return lambda folder: [damage(folder) for damage in damages]


def without(*names: str) -> Damage:
    return weights(lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names})


def renamed(change: Callable[[str], str]) -> Damage:
    return weights(lambda tensors: {change(name): tensor for name, tensor in tensors.items()})


def with_tensor(name: str, tensor: Tensor) -> Damage:
    return weights(lambda tensors: tensors | {name: tensor})


def bert(folder: Path) -> None:
    """A masked model, which the library would load as a causal one."""
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    entries = json.loads((folder / "config.json").read_text())["vocab_size"]
    with quiet_transformers():
        BertForMaskedLM(BertConfig(**shape, vocab_size=entries, tie_word_embeddings=False)).save_pretrained(folder)


SEEN_IN_HEADERS: dict[str, tuple[Damage, list[str]]] = {
    "no head": (without(HEAD), [f"weights are missing: {HEAD}"]),
    "a layer less": (without(GATE, "model.norm.weight"), ["missing: ", GATE, "model.norm.weight"]),
    "base model": (both(without(HEAD), renamed(lambda name: name.removeprefix("model."))), [f"missing: {HEAD}"]),
    "more": (with_tensor("value_head.weight", torch.ones(3)), ["the model does not know: value_head.weight"]),
    "compiled": (
        renamed("_orig_mod.{}".format),
        ["weights are missing: ", HEAD, "model.layers.{0, 1}.mlp.gate_proj.weight", "the model does not know: ",
         f"_orig_mod.{HEAD}", "left by torch.compile"],
    ),
    "compiled inside": (renamed(lambda name: name.replace("layers.", "layers._orig_mod.")), ["left by torch.compile"]),
    "parallel": (renamed("module.{}".format), [f"module.{HEAD}", "left by DistributedDataParallel"]),
    "wrapped": (renamed("net.student.{}".format), ["'net.student.' precedes the names"]),
    "shape": (
        weights(lambda tensors: tensors | {HEAD: tensors[HEAD][:5].clone()}),
        [f"{HEAD} has shape [5, 16] where config.json makes it [320, 16]"],
    ),
    "other config": (config(hidden_size=32), [f"{EMBEDDINGS} has shape [320, 16]", "[320, 32]"]),
    "fewer layers": (config(num_hidden_layers=1), ["the model does not know: ", GATE]),
    "more layers": (config(num_hidden_layers=3), ["missing: ", "model.layers.2.mlp.gate_proj.weight"]),
    "absurd layers": (config(num_hidden_layers=10**9), ["num_hidden_layers is 1000000000, more than the tensors"]),
    "no tensors": (weights(lambda tensors: {}), ["model.safetensors holds no tensors"]),
    "integers": (
        weights(lambda tensors: tensors | {HEAD: (100 * tensors[HEAD]).to(torch.int8)}), ["stored as I8", HEAD],
    ),
    "cut": (content("model.safetensors", lambda whole: whole[:-100]), ["model.safetensors is damaged", "incomplete"]),
    "cut header": (content("model.safetensors", lambda whole: whole[:100]), ["model.safetensors is damaged"]),
    "longer": (content("model.safetensors", lambda whole: whole + b"\0"), ["model.safetensors is damaged"]),
    "empty": (content("model.safetensors", lambda whole: b""), ["model.safetensors is damaged"]),
    "zeros": (content("model.safetensors", lambda whole: bytes(len(whole))), ["model.safetensors is damaged"]),
    "pointer": (write("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"), ["a pointer of Git LFS"]),
    "nothing": (lambda folder: (folder / "model.safetensors").unlink(), ["holds no *.safetensors weights"]),
    "pickles": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        ["holds no *.safetensors weights", "pytorch_model.bin: pickles"],
    ),
    "pipe": (pipe("model.safetensors"), ["model.safetensors: not a regular file"]),
    "config pipe": (pipe("config.json"), ["config.json: not a regular file"]),
    "link to nothing": (lambda folder: (folder / "tokenizer.model").symlink_to("nowhere"), ["tokenizer.model: not a"]),
    "adapter": (write("adapter_config.json", "{}"), ["adapter_config.json: an adapter", "merge_and_unload"]),
    "adapter alone": (
        lambda folder: (folder / "model.safetensors").rename(folder / "adapter_model.safetensors"),
        ["adapter_model.safetensors: an adapter", "holds no *.safetensors weights"],
    ),
    "shard gone": (
        both(shards(), lambda folder: (folder / SHARDS[1]).unlink()), [f"names {SHARDS[1]}, which is missing"],
    ),
    "shard cut": (both(shards(), content(SHARDS[0], lambda whole: whole[:-9])), [f"{SHARDS[0]} is damaged"]),
    "shard pipe": (both(shards(), pipe(SHARDS[0])), [f"{SHARDS[0]}: not a regular file"]),
    "shard above": (
        shards(lambda index: index.update({HEAD: "../other.safetensors"})),
        ["names a file outside the folder: ../other.safetensors"],
    ),
    "shard elsewhere": (
        shards(lambda index: index.update({HEAD: "/etc/other.safetensors"})),
        ["names a file outside the folder: /etc/other.safetensors"],
    ),
    "shard pickled": (shards(lambda index: index.update({HEAD: "x.bin"})), ["not *.safetensors: x.bin"]),
    "index of more": (
        shards(lambda index: index.update(more=SHARDS[0])), [f"names more in {SHARDS[0]}, which does not hold it"],
    ),
    "index of less": (
        both(shards(), write("model.safetensors.index.json", json.dumps({"weight_map": {HEAD: SHARDS[0]}}))),
        ["missing: ", "model.layers.{0, 1}.mlp.gate_proj.weight"],
    ),
    "index damaged": (both(shards(), write("model.safetensors.index.json", '{"weight')), ["index.json is damaged"]),
    "index empty": (both(shards(), write("model.safetensors.index.json", "{}")), ["expected a weight_map"]),
    "twice": (
        both(shards(), lambda folder: shutil.copy(folder / SHARDS[0], folder / SHARDS[1])),
        [f"{SHARDS[1]} holds tensors that another shard holds: {HEAD}"],
    ),
    "config cut": (content("config.json", lambda whole: whole[:50]), ["config.json is damaged"]),
    "config list": (write("config.json", "[]"), ["config.json is damaged: expected a mapping"]),
    "config deep": (write("config.json", "[" * 10**5), ["config.json is damaged"]),
    "config bytes": (content("config.json", lambda whole: b"\xff\xfe" + whole), ["config.json is damaged"]),
    "config gone": (lambda folder: (folder / "config.json").unlink(), ["there is no config.json"]),
    "no type": (write("config.json", "{}"), ["holds no readable model config", "model_type"]),
    "odd type": (config(model_type=["llama"]), ["holds no readable model config"]),
    "odd size": (config(hidden_size="16"), ["hidden_size", "expected int"]),
    "odd dtype": (config(dtype="nonsense"), ["nonsense"]),
    "odd activation": (config(hidden_act="sillu"), ["no model can be built", "sillu"]),
    "vision": (config(model_type="vit"), ["vit is not a causal language model"]),
    "encoder": (config(model_type="bart"), ["bart is an encoder-decoder"]),
    "code": (config(model_type="own", auto_map={"AutoConfig": "code.Config"}), ["auto_map: the model needs code"]),
    "quantized": (
        config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}), ["weights are quantized"],
    ),
    "other file": (config(transformers_weights="other.safetensors"), ["transformers_weights: names another"]),
    "several": (
        both(without(HEAD), with_tensor("odd", torch.ones(1)), write("adapter_config.json", "{}")), ["an adapter"],
    ),
    "config and weights": (
        both(write("config.json", "{"), content("model.safetensors", lambda whole: b"")),
        ["config.json is damaged", "model.safetensors is damaged"],
    ),
}  # fmt: skip


SEEN_WHEN_LOADED: dict[str, tuple[Damage, list[str]]] = {
    "nan": (
        weights(lambda tensors: tensors | {GATE: tensors[GATE].fill_(torch.nan)}),
        [f"weights are not finite in float32: {GATE}"],
    ),
    "infinite": (
        weights(lambda tensors: {name: tensor.clone().fill_(torch.inf) for name, tensor in tensors.items()}),
        ["not finite in float32: ", HEAD, "model.layers.{0, 1}.mlp.gate_proj.weight"],
    ),
    "overflow": (with_tensor("model.norm.weight", torch.full((16,), 3e38)), ["logits are not finite"]),
    "masked": (
        both(bert, write("config.yaml", "name: teacher\n")), ["bert: a later token changes what is predicted before"],
    ),
}


@pytest.fixture
def folder(prepared: Path, runs_folder: Path) -> Path:
    """The finished run `teacher`: a Llama with a head of its own."""
    return tiny.write_finished_run(runs_folder / "teacher", tiny.LLAMA, prepared / "tokenizer")


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items" / "blimp_filtered" / "pairs.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"sentence_good": "The cat sees a dog.", "sentence_bad": "The cat see a dog."}) + "\n")
    return path.parents[1]


@pytest.fixture
def refused(folder: Path, items: Path, call: Call, write_config: WriteConfig) -> Callable[..., None]:
    """refused(words, *overrides): evaluation and training end with exit code 2 and these words, and leave nothing."""

    def check(words: list[str], *overrides: str) -> None:
        before = sorted(folder.rglob("*"))
        code, _, errors = call(main, ["evaluate", str(folder), "--data", str(items), "--tasks", "blimp_filtered"])
        assert code == 2 and str(folder) in errors and "Traceback" not in errors
        assert [word for word in words if word not in errors] == [], errors
        with pytest.raises(UserError) as caught:
            tiny.train(load_plan(write_config(tiny.distill_values()), overrides, DistillConfig))
        assert str(folder) in str(caught.value)
        assert [word for word in words if word not in str(caught.value)] == []
        assert sorted(folder.rglob("*")) == before
        assert [path.name for path in folder.parent.iterdir()] == ["teacher"]

    return check


@pytest.mark.parametrize("damage", SEEN_IN_HEADERS)
def test_what_headers_tell_is_refused_before_any_work(
    folder: Path, refused: Callable[..., None], write_config: WriteConfig, damage: str
) -> None:
    apply, words = SEEN_IN_HEADERS[damage]
    apply(folder)
    refused(words)
    with pytest.raises(UserError, match=f"teachers.0: {re.escape(str(folder))}: "):
        load_plan(write_config(tiny.distill_values()), [], DistillConfig, dry_run=True)


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize("damage", SEEN_WHEN_LOADED)
def test_what_the_loaded_model_shows_is_refused_before_any_work(
    folder: Path, refused: Callable[..., None], damage: str
) -> None:
    apply, words = SEEN_WHEN_LOADED[damage]
    apply(folder)
    refused(words, "objective={logit: {weight: 1.0}}")


def record_weights(folder: Path) -> None:
    """As a training that ends."""
    write_json(folder / "result.json", read_json(folder / "result.json") | {"weights_sha256": weights_sha256(folder)})


QUIET_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit of the last number": lambda old: old[:-4] + bytes([old[-4] ^ 1]) + old[-3:],
    "the last sixteen numbers": lambda old: old[:-64] + bytes(64),
}


@pytest.mark.parametrize("change", QUIET_DAMAGES.values(), ids=QUIET_DAMAGES.keys())
def test_other_weights_than_a_run_exported_are_refused(
    folder: Path, refused: Callable[..., None], call: Call, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    record_weights(folder)
    content("model.safetensors", change)(folder)
    load_frozen(folder, torch.float32, tiny.CPU)  # nothing else shows it
    words = ["model.safetensors: not the weights that the training exported (sha256)", "without result.json"]
    refused(words)
    code, _, errors = call(main, ["submission", "teacher", "--format", "2025", "--out", str(tmp_path / "out")])
    assert code == 2 and words[0] in errors


def test_weights_as_a_run_exported_them_are_taken(
    folder: Path, items: Path, call: Call, write_config: WriteConfig
) -> None:
    record_weights(folder)
    assert call(main, ["evaluate", "teacher", "--data", str(items), "--tasks", "blimp_filtered"])[0] == 0
    load_plan(write_config(tiny.distill_values()), [], DistillConfig).identity()


def test_all_problems_are_named_at_once(folder: Path) -> None:
    both(without(HEAD), with_tensor("odd", torch.ones(1)), write("adapter_config.json", "{}"))(folder)
    with pytest.raises(UserError, match="an adapter"):
        check_model_folder(folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(UserError, match=f"missing: {HEAD}; weights the model does not know: odd$"):
        check_model_folder(folder)


def test_a_second_opinion_asks_for_the_same(folder: Path) -> None:
    pytest.importorskip("minicons")
    without(HEAD)(folder)
    with pytest.raises(UserError, match=f"weights are missing: {HEAD}"):
        MiniconsScorer.load(folder)


@pytest.mark.parametrize("scorer", ["palenka", "minicons"])
def test_a_prefix_that_the_model_does_not_know_is_named(folder: Path, items: Path, call: Call, scorer: str) -> None:
    pytest.importorskip("minicons")
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens({"bos_token": "<start>"})
    tokenizer.save_pretrained(folder)
    (folder / "special_tokens_map.json").unlink()  # names the old one
    options = ["--data", str(items), "--tasks", "blimp_filtered", "--scorer", scorer]
    code, _, errors = call(main, ["evaluate", str(folder), *options])
    assert code == 2
    assert f"begins with '<start>' (id 320): {folder}'s tokenizer gives ids beyond the model's 320 entries" in errors
    assert not list(folder.glob("evaluation/**/*.json"))


def test_a_tokenizer_that_cannot_be_read_is_named(folder: Path) -> None:
    content("tokenizer.json", lambda whole: whole[:-50])(folder)
    with pytest.raises(UserError, match=f"{folder}: the tokenizer cannot be loaded"):
        Scorer.load(folder)


SOUND: dict[str, tuple[dict[str, Any], Damage]] = {
    "shards": ({}, shards()),
    "another file": ({}, lambda folder: shutil.copy(folder / "model.safetensors", folder / "old.safetensors")),
    "base model of a tied one": (
        {"tie_word_embeddings": True}, renamed(lambda name: name.removeprefix("model.")),
    ),
    "head of a tied one": (
        {"tie_word_embeddings": True}, renamed(lambda name: HEAD if name == EMBEDDINGS else name),
    ),
    "frequencies": ({}, with_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(4))),
    "unknown dtype": ({}, config(torch_dtype="float8_of_some_kind")),
}  # fmt: skip


@pytest.mark.parametrize("case", SOUND)
def test_what_is_whole_in_other_ways_is_taken(prepared: Path, tmp_path: Path, case: str) -> None:
    keys, change = SOUND[case]
    folder = tiny.write_finished_run(tmp_path / "run", dict(tiny.LLAMA) | keys, prepared / "tokenizer")
    tokens, _ = tiny.batch()
    before = load_frozen(folder, torch.float32, tiny.CPU)(tokens).logits
    change(folder)
    torch.testing.assert_close(load_frozen(folder, torch.float32, tiny.CPU)(tokens).logits, before)


def test_buffers_that_older_releases_saved_are_no_weights(teacher: Path) -> None:
    mask = torch.ones(1, 1, 256, 256, dtype=torch.uint8)
    old = {f"h.{layer}.attn.bias": mask.clone() for layer in range(3)}
    old |= {f"h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(3)}
    renamed(lambda name: name.removeprefix("transformer."))(teacher)
    weights(lambda tensors: tensors | old)(teacher)
    tokens, _ = tiny.batch()
    expected = tiny.model(tiny.GPT2, seed=1).eval()(tokens).logits
    torch.testing.assert_close(load_frozen(teacher, torch.float32, tiny.CPU)(tokens).logits, expected)


@pytest.mark.parametrize("kind", ["bloom", "gemma2", "gpt_neox", "granite", "mamba", "mixtral", "opt", "qwen2_moe"])
def test_other_architectures_are_found_causal(tmp_path: Path, kind: str) -> None:
    shape = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "head_dim": 8,
        "num_key_value_heads": 2, "ffn_dim": 16, "word_embed_proj_dim": 16, "max_position_embeddings": 32,
        "state_size": 4, "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    }  # fmt: skip
    made = AutoConfig.for_model(kind, **shape, **tiny.TOKEN_IDS)
    with quiet_transformers():
        AutoModelForCausalLM.from_config(made).save_pretrained(tmp_path)
    load_frozen(tmp_path, torch.bfloat16, tiny.CPU)


def test_a_masked_model_is_found_in_low_precision_too(folder: Path) -> None:
    bert(folder)
    with pytest.raises(UserError, match="a later token changes what is predicted before it"):
        load_frozen(folder, torch.bfloat16, tiny.CPU)


def test_what_overflows_in_half_precision_is_named(folder: Path) -> None:
    weights(lambda tensors: tensors | {GATE: tensors[GATE] + 1e6})(folder)
    load_frozen(folder, torch.float32, tiny.CPU)
    with pytest.raises(UserError, match=f"not finite in float16: {GATE}"):
        load_frozen(folder, torch.float16, tiny.CPU)


def test_weights_are_read_again_only_when_they_changed(folder: Path) -> None:
    """All trials of a search ask for those of their teachers. A change in place that keeps size and time is one."""
    path, before = folder / "model.safetensors", weights_sha256(folder)
    hits = _digest.cache_info().hits
    assert weights_sha256(folder) == before and _digest.cache_info().hits == hits + 1
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=times)
    assert weights_sha256(folder) == hashlib.sha256(content).hexdigest() != before


def test_the_fingerprint_covers_what_a_load_reads(folder: Path) -> None:
    whole = weights_sha256(folder)
    shutil.copy(folder / "model.safetensors", folder / "old.safetensors")
    assert weights_sha256(folder) == whole
    shards()(folder)
    parts = weights_sha256(folder)
    content(SHARDS[1], lambda old: old[:-1] + b"\x01")(folder)
    assert weights_sha256(folder) not in (whole, parts)


def test_checking_draws_no_random_numbers(folder: Path) -> None:
    before = torch.get_rng_state()
    check_model_folder(folder)
    load_frozen(folder, torch.float32, tiny.CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_where_fused_attention_differs_the_models_own_formula_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True}
    config = AutoConfig.for_model("falcon", **tiny.TOKEN_IDS, **keys)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
        model.tie_weights()
        model.save_pretrained(tmp_path)
        tokens = torch.arange(4, 40)[None]
        expected = model(tokens).logits
        fused = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="sdpa").eval()
        assert (fused(tokens).logits - expected).abs().max() > 0.01 * expected.abs().max(), "as transformers 5.23 does"
        capsys.readouterr()
        found = load_frozen(tmp_path, torch.float32, tiny.CPU)
        torch.testing.assert_close(found(tokens).logits, expected)
    assert "fused attention (sdpa, the default of transformers) gives other logits" in capsys.readouterr().err


def test_attention_that_agrees_stays_as_it_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.model(tiny.LLAMA).save_pretrained(tmp_path)
    capsys.readouterr()
    assert load_frozen(tmp_path, torch.float32, tiny.CPU).config._attn_implementation == "eager"
    assert capsys.readouterr().err == ""
