"""Noting what layers attend with, while a model computes what it did before."""

from collections.abc import Collection
from typing import Any

import pytest
import terms
import tiny
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from palenka.models.attention import AttentionRecorder
from palenka.models.config import ModelConfig
from palenka.models.outputs import Attention

GROUPED = {**tiny.LLAMA, "num_attention_heads": 4, "num_key_value_heads": 2}
WIDE_HEADS = {**tiny.LLAMA, "head_dim": 12}
GPTJ = {**tiny.LLAMA, "architecture": "gptj", "rotary_dim": 4}
MODELS = {"gpt2": tiny.GPT2, "llama": tiny.LLAMA, "grouped": GROUPED, "wide heads": WIDE_HEADS, "gptj": GPTJ}
every_model = pytest.mark.parametrize("keys", MODELS.values(), ids=MODELS)
OUTPUT_PROJECTIONS = ("c_proj", "o_proj", "out_proj")
INPUTS = tiny.batch()[0]


def model(keys: Any, seed: int = 0) -> PreTrainedModel:
    return tiny.model({**keys, **terms.SPREAD}, seed).eval()


def record(recorded: PreTrainedModel, layers: Collection[int]) -> dict[int, Attention]:
    """What one run over INPUTS notes."""
    recorder = AttentionRecorder(recorded, layers)
    recorded(INPUTS)
    return recorder.take()


def attended(attention: Attention) -> Tensor:
    """Causal attention weights (batch, heads, time, time)."""
    scores = attention.queries @ attention.keys.transpose(-1, -2) / attention.keys.shape[-1] ** 0.5
    past = torch.ones(scores.shape[-2:]).tril().bool()
    return scores.masked_fill(~past, -torch.inf).softmax(-1)


def assert_same(noted: dict[int, Attention], expected: dict[int, Attention]) -> None:
    """The same layers and the same bits."""
    assert noted.keys() == expected.keys()
    for layer, sides in expected.items():
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(noted[layer], sides, strict=True))


@every_model
@torch.no_grad()
def test_queries_and_keys_reproduce_the_models_own_attention(keys: Any) -> None:
    depth, heads = keys["num_hidden_layers"], keys["num_attention_heads"]
    shape = (3, heads, 12, keys.get("head_dim", keys["hidden_size"] // heads))
    expected = model(keys)(INPUTS, output_attentions=True).attentions
    noted = record(model(keys), range(1, depth + 1))
    assert sorted(noted) == list(range(1, depth + 1))
    for layer, attention in noted.items():
        assert {side.shape for side in attention} == {shape}
        torch.testing.assert_close(attended(attention), expected[layer - 1])


@every_model
@torch.no_grad()
def test_values_are_those_that_attention_weighs(keys: Any) -> None:
    """Weighed by it, and with all heads side by side, they are what goes into a layer's output projection."""
    recorded, entered = model(keys), []
    for name, module in recorded.named_modules():
        if name.endswith(OUTPUT_PROJECTIONS) and "mlp" not in name:
            module.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0]))
    noted = record(recorded, range(1, keys["num_hidden_layers"] + 1))
    assert len(entered) == len(noted)
    for layer, attention in noted.items():
        weighed = (attended(attention) @ attention.values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(weighed, entered[layer - 1])


@every_model
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_the_model_computes_the_same_bits(keys: Any, implementation: str) -> None:
    if (keys, implementation) == (GPTJ, "sdpa"):
        pytest.skip("GPT-J has no fused attention")
    built = AutoModelForCausalLM.from_config(
        ModelConfig(**keys).hugging_face(tiny.TOKEN_IDS), attn_implementation=implementation
    ).eval()
    before = built(INPUTS, output_hidden_states=True)
    assert record(built, [1])
    after = built(INPUTS, output_hidden_states=True)
    assert torch.equal(before.logits, after.logits)
    assert all(torch.equal(one, other) for one, other in zip(before.hidden_states, after.hidden_states, strict=True))


@every_model
def test_only_wanted_layers_are_noted(keys: Any) -> None:
    everything = record(model(keys), [1, 2])
    assert_same(record(model(keys), [2]), {2: everything[2]})
    assert record(model(keys), []) == {}


@every_model
def test_nothing_is_kept_after_it_is_taken_and_a_later_run_is_noted_anew(keys: Any) -> None:
    recorded = model(keys)
    recorder = AttentionRecorder(recorded, [2])
    recorded(INPUTS)
    first = recorder.take()
    assert recorder.take() == recorder.noted == {}
    recorded(INPUTS.flip(0))
    again = recorder.take()
    assert torch.equal(again[2].queries, first[2].queries.flip(0))


@every_model
@pytest.mark.parametrize("side", Attention._fields)
def test_gradients_flow_from_what_was_noted_to_the_layers_below(keys: Any, side: str) -> None:
    recorded = model(keys)
    getattr(record(recorded, [2])[2], side).square().sum().backward()
    reached = {name for name, weight in recorded.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert any("layers.0.mlp" in name or "h.0.mlp" in name for name in reached)
    assert not any("layers.1.mlp" in name or "h.1.mlp" in name for name in reached)
    assert recorded.get_input_embeddings().weight.grad.any()


@torch.no_grad()
def test_models_recorded_at_once_do_not_mix() -> None:
    """Three of one class, each with layers of its own, run in turn; and one of the same class that nobody records."""
    wanted: tuple[Collection[int], ...] = ([1], [2], [1, 2])
    alone = [record(model(tiny.LLAMA, seed), layers) for seed, layers in enumerate(wanted)]
    models = [model(tiny.LLAMA, seed) for seed in range(3)]
    recorders = [AttentionRecorder(one, layers) for one, layers in zip(models, wanted, strict=True)]
    for one in (*models, model(tiny.LLAMA, 9)):
        one(INPUTS)
    for recorder, expected in zip(recorders, alone, strict=True):
        assert_same(recorder.take(), expected)


@every_model
def test_a_saved_model_does_not_know_that_it_was_recorded(keys: Any, tmp_path: Any) -> None:
    recorded = model(keys)
    record(recorded, [1])
    recorded.save_pretrained(tmp_path / "recorded")
    model(keys).save_pretrained(tmp_path / "plain")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "recorded" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
