"""Models: keys, shapes, seeds, and what is read back from a run."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from pydantic import ValidationError
from shared_fixtures import WriteConfig
from transformers import AutoModelForCausalLM

from palenka.models.config import ModelConfig
from palenka.models.folder import check_model_folder, load_frozen, weights_sha256
from palenka.models.huggingface import attention_implementation, build_model, count_parameters, count_parameters_of
from palenka.models.probing import probe_tokens
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.errors import UserError
from palenka.util.seeds import named_seed, seeded


def shape(architecture: str, width: int, layers: int, heads: int, **others: Any) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {"architecture": architecture, **sizes, **others}


PUBLISHED = {
    "GPT2-705M": (shape("gpt2", 1536, 24, 16, intermediate_size=6144), 704_928_768, 680_352_768),
    "Llama-360M": (shape("llama", 1024, 24, 8, intermediate_size=3072), 359_973_888, 327_205_888),
    "BabyLlama1-58M": (shape("llama", 512, 16, 8, intermediate_size=1024), 58_343_936, 41_959_936),
    "GPT-J-97M": (shape("gptj", 768, 12, 12, tie_word_embeddings=True), 97_304_704, 85_016_704),
}


@pytest.mark.parametrize(("keys", "total", "non_embedding"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_shapes_have_the_published_parameters(keys: dict[str, Any], total: int, non_embedding: int) -> None:
    config = ModelConfig(**keys).hugging_face({**tiny.TOKEN_IDS, "vocab_size": 16_000})
    assert count_parameters_of(config) == {"total": total, "non_embedding": non_embedding}


@pytest.mark.parametrize("keys", [tiny.GPT2, tiny.LLAMA, {**tiny.LLAMA, "tie_word_embeddings": True}])
def test_counts_of_a_shape_are_those_of_the_model(keys: dict[str, Any]) -> None:
    model = tiny.model(keys)
    counts = count_parameters(model)
    assert counts == count_parameters_of(model.config)
    assert counts["total"] == sum(parameter.numel() for parameter in model.parameters())
    tables = 1 if model.config.tie_word_embeddings else 2
    assert counts["total"] - counts["non_embedding"] == tables * tiny.VOCABULARY * keys["hidden_size"]


def test_keys_mean_the_same_in_every_architecture() -> None:
    for architecture in ("gpt2", "gptj", "llama"):
        keys = {**tiny.LLAMA, "architecture": architecture}
        if architecture == "gptj":
            keys["rotary_dim"] = 8
        config = ModelConfig(**keys).hugging_face(tiny.TOKEN_IDS)
        assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (16, 2, 2)
        assert config.max_position_embeddings == 256


def test_intermediate_size_reaches_gpt2() -> None:
    model = tiny.model({**tiny.GPT2, "intermediate_size": 40})
    assert model.config.n_inner == 40
    assert model.transformer.h[0].mlp.c_fc.weight.shape == (24, 40)


def test_an_architectures_own_names_are_taken_too() -> None:
    config = ModelConfig(architecture="gpt2", n_embd=24, n_layer=3, n_head=2, n_inner=40, n_positions=512).hugging_face(
        {}
    )
    assert (config.hidden_size, config.num_hidden_layers, config.n_inner) == (24, 3, 40)
    assert config.max_position_embeddings == 512


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hiden_size": 3}, "unknown key 'hiden_size' for architecture 'llama'; did you mean 'hidden_size'?"),
        ({"num_layer": 3, "hiden_size": 3}, "unknown key 'num_layer'"),
        ({"num_heads": 2}, "; did you mean 'num_attention_heads' or 'num_key_value_heads'?"),
        ({"resid_pdrop": 0.1}, "unknown key 'resid_pdrop' for architecture 'llama'; known: attention_bias"),
        ({"vocab_size": 100}, "vocab_size comes from the tokenizer; leave it out"),
        ({"bos_token_id": 1}, "bos_token_id comes from the tokenizer; leave it out"),
        ({"eos_token_id": 1}, "eos_token_id comes from the tokenizer; leave it out"),
        ({"pad_token_id": 1}, "pad_token_id comes from the tokenizer; leave it out"),
        (
            {"hidden_size": 18, "num_attention_heads": 4},
            "hidden size (18) is not a multiple of the number of attention heads (4)",
        ),
        ({"hidden_size": "None"}, "'hidden_size' expected int, got str"),
        ({"hidden_size": 0}, "hidden_size is 0, expected at least 1"),
        ({"intermediate_size": -8}, "intermediate_size is -8, expected at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, expected at least 1"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0, expected at least 1"),
        ({"max_position_embeddings": -1}, "max_position_embeddings is -1, expected at least 1"),
        ({"hidden_act": "sillu"}, "no llama model can be built of these values: KeyError: 'sillu'"),
        ({"attention_dropout": 7.0}, "attention_dropout is 7.0, expected at least 0 and less than 1"),
        ({"num_key_value_heads": 3}, "no llama model can be built of these values"),
    ],
)
def test_keys_and_values_that_make_no_model_are_refused(changes: dict[str, Any], expected: str) -> None:
    assert expected in tiny.problem_of(**{**tiny.LLAMA, **changes})


def test_all_wrong_keys_are_named_at_once() -> None:
    message = tiny.problem_of(**tiny.LLAMA, hiden_size=3, vocab_size=5)
    assert "hiden_size" in message and "vocab_size" in message


def test_sizes_are_checked_under_every_name_and_in_every_architecture() -> None:
    assert "n_head is 0, expected at least 1" in tiny.problem_of(architecture="gpt2", n_head=0)
    assert "intermediate_size is 0, expected at least 1" in tiny.problem_of(**{**tiny.GPT2, "intermediate_size": 0})
    found = tiny.problem_of(**{**tiny.GPT2, "hidden_size": 25})
    assert "hidden_size 25 is not a multiple of num_attention_heads 2" in found
    assert "no gptj model can be built of these values" in tiny.problem_of(**{**tiny.LLAMA, "architecture": "gptj"})


@pytest.mark.parametrize(("one", "other"), [("hidden_size", "n_embd"), ("intermediate_size", "n_inner")])
def test_two_names_of_one_value_are_refused(one: str, other: str) -> None:
    assert f"{one} and {other} are two names of one value; leave one out" in tiny.problem_of(**{**tiny.GPT2, other: 24})


def test_token_ids_are_the_tokenizers_and_no_defaults_of_other_tokenizers() -> None:
    for keys in (tiny.GPT2, tiny.LLAMA):
        config = tiny.model(keys).config
        assert (config.vocab_size, config.pad_token_id, config.bos_token_id, config.eos_token_id) == (320, 0, 1, 2)


def test_equal_shapes_and_seeds_start_equal_whatever_was_drawn_before() -> None:
    config = ModelConfig(**tiny.LLAMA).hugging_face(tiny.TOKEN_IDS)
    torch.manual_seed(1)
    first = build_model(config, 5, tiny.CPU).state_dict()
    torch.manual_seed(2)
    torch.rand(100)
    second = build_model(config, 5, tiny.CPU).state_dict()
    other = build_model(config, 6, tiny.CPU).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_building_a_model_draws_nothing_from_the_stream_outside() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    tiny.model(tiny.GPT2)
    assert torch.equal(torch.rand(4), expected)


def test_streams_depend_on_seed_and_on_every_name() -> None:
    seeds = [
        named_seed(*parts) for parts in ((1, "a"), (2, "a"), (1, "b"), (1, "a", 0), (1, "a", 1), (11, "a"), (1, 1, "a"))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    with seeded(1, "a"):
        first = torch.rand(2)
    with seeded(1, "a"):
        assert torch.equal(torch.rand(2), first)


def start(path: Path, schema: Any) -> dict[str, torch.Tensor]:
    """The initial state of all that a run trains."""
    state = tiny.trainer(load_plan(path, [], schema)).loss.state_dict()
    return {name: value.clone() for name, value in state.items()}


@pytest.mark.usefixtures("fresh_accelerator")
def test_control_and_students_start_equal_whatever_objectives_there_are(
    teacher: Path, write_config: WriteConfig
) -> None:
    terms = tiny.distill_values()["objective"]
    control = start(write_config(tiny.train_values()), TrainConfig)
    kd = tiny.distill_values(name="kd", objective={"logit": terms["logit"]})
    plain = start(write_config(kd, "kd.yaml"), DistillConfig)
    deep = start(write_config(tiny.distill_values(), "deep.yaml"), DistillConfig)
    only = tiny.distill_values(name="only", objective={"hidden_state": {"weight": 3.0}})
    alone = start(write_config(only, "only.yaml"), DistillConfig)
    students = [
        {name: value for name, value in run.items() if name.startswith("student.")}
        for run in (control, plain, deep, alone)
    ]
    for student in students[1:]:
        assert student.keys() == students[0].keys()
        assert all(torch.equal(value, students[0][name]) for name, value in student.items())
    projections = [name for name in deep if name.startswith("objectives.")]
    assert len(projections) == 2
    assert all(torch.equal(deep[name], alone[name]) for name in projections)
    assert not torch.equal(deep[projections[0]], deep[projections[1]])


def test_a_teacher_is_loaded_as_it_was_saved(teacher: Path) -> None:
    frozen = load_frozen(teacher, torch.float32, tiny.CPU)
    original = tiny.model(tiny.GPT2, seed=1).eval()
    batch, _ = tiny.batch()
    torch.testing.assert_close(frozen(batch).logits, original(batch).logits)
    assert load_frozen(teacher, torch.bfloat16, tiny.CPU).dtype == torch.bfloat16


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: holds no readable model config"):
        check_model_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    with pytest.raises(UserError, match="holds no readable model config"):
        check_model_folder(tmp_path)
    with pytest.raises(UserError, match=r"holds no \*.safetensors weights"):
        weights_sha256(tmp_path)


def test_the_fingerprint_is_of_the_weights_alone(teacher: Path) -> None:
    before = weights_sha256(teacher)
    (teacher / "README.md").write_text("a model card")
    assert weights_sha256(teacher) == before
    path = teacher / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert weights_sha256(teacher) != before


@pytest.mark.parametrize(
    ("architecture", "device", "expected"),
    [("llama", "cuda", "sdpa"), ("gpt2", "cuda", "sdpa"), ("gptj", "cuda", "eager"), ("llama", "cpu", "eager")],
)
def test_attention_is_fused_on_gpus_where_the_architecture_has_it(
    architecture: str, device: str, expected: str
) -> None:
    keys = {"architecture": architecture, "hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ModelConfig.model_validate(keys).hugging_face(tiny.TOKEN_IDS)
    assert attention_implementation(config, torch.device(device)) == expected
    AutoModelForCausalLM.from_config(config, attn_implementation=expected)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"attention_dropout": -1}, "attention_dropout is -1, expected at least 0 and less than 1"),
        ({"rms_norm_eps": 1e9}, "rms_norm_eps is 1000000000.0, expected more than 1e-30 and at most 10"),
        ({"initializer_range": 1e-400}, "initializer_range is 0.0, expected more than 1e-30 and at most 10"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -2.0}}, "factor is -2.0, expected a number 1 or above"),
        (
            {"rope_parameters": {"rope_type": "longrope", "factor": 4.0, "short_factor": [1], "long_factor": [1]}},
            "long_factor field must have length",
        ),
        ({"rope_theta": True}, "rope_theta is True, expected a number above 0"),
    ],
)
def test_values_that_no_model_can_mean_are_refused(
    keys: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValidationError) as error:
        ModelConfig(**{**tiny.LLAMA, **keys})
    assert message in str(error.value)


@pytest.mark.parametrize(("padding", "first_and_last"), [(0, [1, 319]), (319, [0, 318]), (None, [0, 319])])
def test_a_probe_holds_no_padding(padding: int | None, first_and_last: list[int]) -> None:
    """transformers warns of it, in the middle of a training's lines, and some positions are not counted there."""
    model = tiny.model(tiny.LLAMA)
    model.config.pad_token_id = padding
    tokens = probe_tokens(model)
    assert tokens.shape == (1, 8)
    assert tokens[0, [0, -1]].tolist() == first_and_last
