"""LTG-BERT and GPT-BERT: equal to a plain formula written here from the papers, and whole again after a save."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from palenka.models.architectures import _relative
from palenka.models.attention import AttentionRecorder
from palenka.models.config import ModelConfig
from palenka.models.folder import load_frozen
from palenka.models.forward import check_states
from palenka.models.huggingface import build_model, count_parameters_of, export_model
from palenka.util.errors import UserError

SIZES = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 3}
MODELS: dict[str, dict[str, Any]] = {
    "ltg_bert": {"architecture": "ltg_bert", **SIZES},
    "gpt_bert": {"architecture": "gpt_bert", **SIZES},
    "gpt_bert without gate": {"architecture": "gpt_bert", "attention_gate": False, **SIZES},
    "gpt_bert without both": {"architecture": "gpt_bert", "attention_gate": False, "dense_weights": False, **SIZES},
}
FROM = [*range(17), 17, 21, 26, 32, 41, 51, 64, 81, 102, 128, 162, 203, 256, 322, 406]
"""The first distance of each of the 32 buckets, as the published code has them."""
TIME = 45
LEAST = torch.finfo(torch.float64).min


def model_of(name: str, **keys: Any) -> Any:
    """A model in float64 whose every parameter is random, in evaluation mode."""
    config = ModelConfig(**MODELS[name] | keys).hugging_face(tiny.TOKEN_IDS)
    model = build_model(config, 0, tiny.CPU).double().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def tokens(rows: int = 2) -> Tensor:
    return torch.randint(0, tiny.TOKEN_IDS["vocab_size"], (rows, TIME), generator=torch.Generator().manual_seed(2))


def blocks() -> Tensor:
    """Additive (2, 1, time, time): two documents of their own, then padding that sees nothing and is not seen."""
    mask = torch.full((2, 1, TIME, TIME), LEAST, dtype=torch.float64)
    for row, (first, second) in enumerate([(20, 41), (5, 45)]):
        mask[row, :, :first, :first] = 0
        mask[row, :, first:second, first:second] = 0
    return mask


MASKS: dict[str, Callable[[], Tensor | None]] = {
    "causal": lambda: None,
    "full": lambda: torch.zeros(1, 1, TIME, TIME, dtype=torch.float64),
    "blocks": blocks,
}


# The plain formula: one sequence and one head at a time, every pair's own position vectors, exponentials by hand.


def normed(x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Plain:
    """The logits of one sequence, from a model's parameters by their names."""

    def __init__(self, model: Any, kind: str) -> None:
        self.w, self.kind, self.config = dict(model.named_parameters()), kind, model.config
        self.eps = {"ltg_bert": 1e-7, "gpt_bert": 1e-5}[kind.split()[0]]

    def linear(self, name: str, x: Tensor) -> Tensor:
        y = torch.einsum("...i,oi->...o", x, self.w[f"{name}.weight"])
        return y + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else y

    def attention(self, at: str, x: Tensor, table: Tensor, visible: Tensor) -> Tensor:
        time, width = x.shape
        size = width // SIZES["num_attention_heads"]
        x = normed(x, self.eps)
        of_token, of_place = self.linear(f"{at}.queries_keys", x), self.linear(f"{at}.queries_keys", table)
        values = self.linear(f"{at}.{'values' if self.kind == 'ltg_bert' else 'values_gate'}", x)
        signed = [[bucket_by_hand(i - j) for j in range(time)] for i in range(time)]
        places = of_place[torch.tensor(signed) + 31]  # (i, j, 2 width)
        heads = []
        for head in range(SIZES["num_attention_heads"]):
            q = slice(head * size, (head + 1) * size)
            k = slice(width + head * size, width + (head + 1) * size)
            score = torch.einsum("id,jd->ij", of_token[:, q], of_token[:, k])
            score = score + torch.einsum("id,ijd->ij", of_token[:, q], places[..., k])
            score = score + torch.einsum("jd,ijd->ij", of_token[:, k], places[..., q])
            weight = (score / math.sqrt(3 * size)).exp() * visible
            weight = weight / weight.sum(-1, keepdim=True).where(visible.any(-1, keepdim=True), 1)
            heads.append(weight @ values[:, q])
        context = torch.cat(heads, -1)
        if self.kind == "ltg_bert":
            norm = normed(self.linear(f"{at}.output", context), self.eps)
            return norm * self.w[f"{at}.output_norm.weight"] + self.w[f"{at}.output_norm.bias"]
        if self.kind == "gpt_bert":
            context = context * gelu(values[:, width:])
        return self.linear(f"{at}.output", normed(context, self.eps))

    def feed_forward(self, at: str, x: Tensor) -> Tensor:
        inner = self.linear(f"{at}.inner", normed(x, self.eps))
        width = SIZES["intermediate_size"]
        return self.linear(f"{at}.output", normed(inner[:, :width] * gelu_tanh(inner[:, width:]), self.eps))

    def logits(self, ids: Tensor, visible: Tensor) -> Tensor:
        table = normed(self.w["body.relative_embedding.weight"], self.eps)
        table = table * self.w["body.relative_norm.weight"] + self.w["body.relative_norm.bias"]
        x = normed(self.w["body.embedding.weight"][ids], self.eps)
        stored = [x]
        for number in range(2 * SIZES["num_hidden_layers"]):
            at = f"body.sublayers.{number}"
            stored.append(x + (self.feed_forward(at, x) if number % 2 else self.attention(at, x, table, visible)))
            weights = self.w.get(f"body.dense.{number}.weight")
            x = stored[-1] if weights is None else torch.einsum("k,ktd->td", weights, torch.stack(stored))
        x = normed(gelu(self.linear("body.transform.1", normed(x, self.eps))), self.eps)
        return x @ self.w["body.embedding.weight"].T + self.w["head.bias"]


def bucket_by_hand(distance: int) -> int:
    bucket = max(number for number, first in enumerate(FROM) if first <= abs(distance))
    return bucket if distance >= 0 else -bucket


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_are_those_of_the_plain_formula(name: str, mask: str) -> None:
    model, ids, additive = model_of(name), tokens(), MASKS[mask]()
    visible = torch.ones(1, 1, TIME, TIME, dtype=torch.bool).tril() if additive is None else additive == 0
    found = model(ids, attention_mask=additive).logits
    plain = Plain(model, name)
    expected = torch.stack([plain.logits(ids[i], visible.expand(2, 1, TIME, TIME)[i, 0]) for i in range(2)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)

    parameters = dict(model.named_parameters())
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradients = [torch.autograd.grad((each * weights).sum(), parameters.values()) for each in (found, expected)]
    for parameter, ours, theirs in zip(parameters, *gradients, strict=True):
        scale = theirs.abs().max()
        assert scale > 1e-6, parameter
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10 * float(scale), msg=parameter)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", MODELS)
def test_at_some_places_the_states_are_those_of_all(name: str, mask: str) -> None:
    model, ids, additive = model_of(name), tokens(), MASKS[mask]()
    places = torch.tensor([[3, TIME - 1, 20], [7, 0, 7]])
    whole = model.body(ids, attention_mask=additive).last_hidden_state
    computed: list[int] = []
    model.body.sublayers[-1].register_forward_hook(lambda _, inputs, __: computed.append(inputs[0].shape[1]))
    found = model.body(ids, attention_mask=additive, places=places).last_hidden_state
    expected = torch.stack([whole[row, of_row] for row, of_row in enumerate(places)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert computed == [3]


def test_buckets_have_the_published_edges() -> None:
    expected = [max(bucket for bucket, first in enumerate(FROM) if first <= d) for d in range(600)]
    assert [_relative.bucket(d, 32, 512) for d in range(600)] == expected
    index = _relative.bucket_index(600, 32, 512, tiny.CPU)
    assert index[:, 0].tolist() == [31 + bucket for bucket in expected]
    assert index[0].tolist() == [31 - bucket for bucket in expected]
    assert index.unique().tolist() == list(range(63))


@pytest.mark.parametrize("name", MODELS)
def test_who_sees_whom(name: str) -> None:
    """A token changes the logits of exactly those positions that see it, over however many layers."""
    model, ids, at = model_of(name), tokens(1), 30
    changed = ids.clone()
    changed[0, at] = (ids[0, at] + 1) % tiny.TOKEN_IDS["vocab_size"]
    every = set(range(TIME))
    expected = {"causal": set(range(at, TIME)), "full": every, "blocks": set(range(20, 41))}
    for mask, positions in expected.items():
        additive = MASKS[mask]()
        options = {"attention_mask": None if additive is None else additive[:1]}
        before, after = model(ids, **options).logits, model(changed, **options).logits
        assert {t for t in every if not torch.equal(before[0, t], after[0, t])} == positions


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_positions_that_see_nothing_are_finite(name: str, dtype: torch.dtype) -> None:
    model = model_of(name).to(dtype).train()
    mask = torch.full((1, 1, TIME, TIME), torch.finfo(dtype).min, dtype=dtype)
    model(tokens(), attention_mask=mask).logits.float().logsumexp(-1).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    attention = model.body.sublayers[0]
    states = torch.randn(1, TIME, 24, dtype=dtype)
    index = _relative.bucket_index(TIME, 32, 512, tiny.CPU)
    relative = model.body.relative_embedding.weight
    assert not attention.attend(states, states, relative, index, mask < 0).any()


@pytest.mark.parametrize("name", ["ltg_bert", "gpt_bert"])
def test_first_values(name: str) -> None:
    keys = MODELS[name] | {"hidden_size": 96, "intermediate_size": 128, "num_hidden_layers": 4}
    model = build_model(ModelConfig(**keys).hugging_face(tiny.TOKEN_IDS), 0, tiny.CPU)
    std = math.sqrt(2 / (5 * 96))
    for parameter, value in model.state_dict().items():
        layer = int(parameter.split(".")[2]) // 2 if "sublayers" in parameter else 0
        if "dense" in parameter:
            assert value.tolist() == [0.0] * (len(value) - 1) + [1.0]
        elif value.ndim == 1:
            assert (value == float("norm.weight" in parameter)).all(), parameter
        else:
            is_inner = "sublayers" in parameter and int(parameter.split(".")[2]) % 2
            cut = 2 * std * (math.sqrt(1 / (2 * (1 + layer))) if is_inner else 1)
            assert 0.99 * cut < value.abs().max() <= cut, parameter
            deviation = 0.8796 * cut / 2  # of a normal law cut at two standard deviations
            assert value.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * value.numel())), parameter
            assert abs(value.mean()) < 5 * deviation / math.sqrt(value.numel()), parameter
    given = build_model(ModelConfig(**keys, initializer_range=0.5).hugging_face(tiny.TOKEN_IDS), 0, tiny.CPU)
    assert 0.99 < given.body.embedding.weight.abs().max() <= 1


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_loaded_with_equal_logits(name: str, tmp_path: Path) -> None:
    model = model_of(name).float()
    export_model(model, tmp_path)
    loaded = load_frozen(tmp_path, torch.float32, tiny.CPU)
    assert not list(model.buffers())
    assert loaded.head.weight is loaded.body.embedding.weight
    assert torch.equal(loaded(tokens()).logits, model(tokens()).logits)
    again = [value for _, value in loaded.named_parameters()]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), again, strict=True))


PUBLISHED = {
    ("ltg_bert", 768, 12, 2048, 16_384): 98_229_760,  # the paper's base model: 98M
    ("ltg_bert", 384, 6, 1024, 16_384): 27_741_952,
    ("ltg_bert", 192, 3, 512, 16_384): 8_533_888,
    ("ltg_bert", 384, 6, 1024, 6_144): 23_799_552,  # the trunk of ELC-BERT's strict-small model: 24M
    ("gpt_bert", 768, 12, 2560, 16_384): 119_454_532,  # strict: 119M
    ("gpt_bert", 384, 6, 1280, 8_192): 29_892_164,  # strict-small: 30M
}


@pytest.mark.parametrize("shape", PUBLISHED)
def test_parameters_of_the_published_shapes(shape: tuple[str, int, int, int, int]) -> None:
    name, width, heads, inner, vocabulary = shape
    keys = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": inner, "num_hidden_layers": 12}
    config = ModelConfig(architecture=name, **keys).hugging_face(tiny.TOKEN_IDS | {"vocab_size": vocabulary})
    products = 2 * width + (2 if name == "gpt_bert" else 1) * width + width  # rows: queries, keys; values, gate; output
    layer = (width + 1) * products + 3 * width * inner + (2 * width if name == "ltg_bert" else 0)
    places, head, dense = (63 + 2) * width, (width + 1) * width + vocabulary, 324 * (name == "gpt_bert")
    expected = vocabulary * width + places + 12 * layer + head + dense
    assert count_parameters_of(config) == {"total": expected, "non_embedding": expected - vocabulary * width}
    assert expected == PUBLISHED[shape]


@pytest.mark.parametrize("key", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropouts(key: str) -> None:
    """Of attention: its weights, the table of positions, what it adds. Of others: embeddings, inner layers, head."""
    model = model_of("ltg_bert", **{key: 0.5})
    halves = {name for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p == 0.5}
    of_attention = {"body.sublayers.0.dropout", "body.sublayers.2.dropout"}
    others = {"body.dropout", "body.sublayers.1.dropout", "body.sublayers.3.dropout", "body.transform.4"}
    assert halves == (of_attention if key.startswith("attention") else others)


@pytest.mark.parametrize("name", ["ltg_bert", "gpt_bert"])
def test_its_attention_is_no_product_of_queries_and_keys_to_record(name: str) -> None:
    model = model_of(name).float()
    with pytest.raises(UserError, match="the attention of layer 1 cannot be recorded"):
        check_states(model, hidden_states=True, recorder=AttentionRecorder(model, {1}))
