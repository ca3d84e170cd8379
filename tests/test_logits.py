"""Logits, states and attention of teachers of many architectures: what their own forward says, or a refusal."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from architectures import ALL, LINEAR
from safetensors.torch import load_file, save_file
from shared_fixtures import WriteConfig
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from palenka.data.batch import Batch
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.texts import Text
from palenka.models.folder import load_frozen
from palenka.models.huggingface import build_model
from palenka.models.logits import OwnHead, check_student, vocabulary_head
from palenka.models.onednn import use_onednn
from palenka.models.outputs import model_shape
from palenka.models.probing import longest_input
from palenka.teachers.live import Teachers
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig
from palenka.util.errors import UserError

WITHOUT_ATTENTION = {"bloom", "falcon", "mamba"}
"""Those in which no recorder finds it."""


def build(kind: str, **keys: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**tiny.TOKEN_IDS, **ALL[kind], **keys})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.tie_weights()
    return model.eval().requires_grad_(False)


built = cache(build)
each_architecture = pytest.mark.parametrize("kind", ALL)


def chunks(teachers: Teachers, tokens: Tensor, size: int = 5) -> dict[str, Tensor]:
    """(tokens, vocabulary) of the first teacher and of their mean, as a loss asks for them."""
    teachers.require(False, [()] * len(teachers.models))
    computed = teachers.run(Batch(tokens, tokens))
    sources = {"each": computed.each_logits[0], "mean": computed.mean_logits}
    rows = [slice(start, start + size) for start in range(0, tokens.numel(), size)]
    empty = torch.empty(0)
    return {name: torch.cat([of.logits(r, torch.float32, empty) for r in rows]) for name, of in sources.items()}


@each_architecture
def test_a_teachers_logits_are_those_of_its_own_forward(kind: str) -> None:
    tokens, _ = tiny.batch()
    expected = built(kind)(tokens).logits.flatten(0, 1)
    teachers = Teachers([built(kind)])
    assert isinstance(teachers.heads[0], nn.Linear) == (kind in LINEAR)
    for found in chunks(teachers, tokens).values():
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "granite", "roberta"])
def test_in_low_precision_they_are_those_of_its_low_precision(kind: str) -> None:
    model = build(kind).bfloat16()
    tokens, _ = tiny.batch()
    expected = model(tokens).logits.flatten(0, 1).float()
    for found in chunks(Teachers([model]), tokens).values():
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_a_mean_of_teachers_is_the_mean_of_what_their_forwards_say() -> None:
    models, shares = [built("granite"), built("llama"), built("opt")], [0.5, 0.3, 0.2]
    tokens, _ = tiny.batch()
    expected = sum(share * model(tokens).logits for share, model in zip(shares, models, strict=True))
    found = chunks(Teachers(models, shares), tokens)["mean"]
    torch.testing.assert_close(found, expected.flatten(0, 1), rtol=1e-4, atol=1e-4)


def test_a_cap_is_seen_where_logits_are_small() -> None:
    model = build("gemma2", final_logit_softcapping=30.0)
    model.get_output_embeddings().weight.mul_(1e-3)
    assert isinstance(vocabulary_head(model), OwnHead)


@each_architecture
@torch.inference_mode()
def test_evaluation_scores_by_the_models_own_forward(kind: str) -> None:
    model = build(kind)
    tokens = tuple(tiny.batch()[0][0].tolist())
    log_probs = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    expected = sum(float(log_probs[place - 1, tokens[place]]) for place in range(3, len(tokens)))
    use_onednn(model)
    scorer = Scorer(model, range(tiny.VOCABULARY), kind)
    assert scorer.score([Text(tokens[:3], tokens[3:])]) == pytest.approx([expected], abs=1e-3)


# Padded vocabularies


@pytest.mark.parametrize("kind", ["llama", "gptj", "granite"])
def test_rows_beyond_the_vocabulary_do_not_count(kind: str) -> None:
    plain, padded = build(kind), build(kind, vocab_size=tiny.VOCABULARY + 24)
    fill(padded, plain)
    tokens, _ = tiny.batch()
    for mixed in ([], [built("llama")]):
        found = chunks(Teachers([padded, *mixed], entries=tiny.VOCABULARY), tokens)
        expected = chunks(Teachers([plain, *mixed], entries=tiny.VOCABULARY), tokens)
        for name, logits in found.items():
            assert logits.shape == (36, tiny.VOCABULARY)
            torch.testing.assert_close(logits, expected[name], rtol=1e-5, atol=1e-5)


def fill(padded: nn.Module, plain: nn.Module) -> None:
    """Give a model the weights of one with fewer rows; what is in the others is anything."""
    for name, weight in padded.state_dict().items():
        source = plain.state_dict()[name]
        weight[: len(source)] = source
        weight[len(source) :] = 1000.0


def test_a_student_of_a_padded_teacher_is_that_of_the_unpadded_one(
    teacher: Path, prepared: Path, runs_folder: Path, write_config: WriteConfig, fresh_accelerator: None
) -> None:
    """In the weights of its last step; the tokenizer's file differs, too, in what changes no token."""
    shutil.copytree(teacher, runs_folder / "padded")
    plain = load_frozen(teacher, torch.float32, tiny.CPU)
    config = AutoConfig.from_pretrained(teacher, vocab_size=plain.config.vocab_size + 24)
    padded = build_model(config, 0, tiny.CPU).requires_grad_(False)
    fill(padded, plain)
    padded.save_pretrained(runs_folder / "padded")
    backend = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    backend.enable_truncation(16)
    backend.save(str(runs_folder / "padded" / "tokenizer.json"))
    weights = []
    for name in ("teacher", "padded"):
        changes = {"name": f"of-{name}", "teachers": [{"run": name}], "objective": {"logit": {"weight": 1.0}}}
        tiny.train(load_plan(write_config(tiny.distill_values(**changes)), ["training.max_steps=2"], DistillConfig))
        weights.append(load_file(runs_folder / f"of-{name}" / "model.safetensors"))
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-5, atol=1e-6)


def test_a_plan_refuses_a_teacher_of_fewer_embeddings_than_entries(teacher: Path, write_config: WriteConfig) -> None:
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    weights = load_file(teacher / "model.safetensors")
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"][:300].clone()
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="the teacher 'teacher' has 300 embeddings, fewer than the 320 entries"):
        load_plan(write_config(tiny.distill_values()), [], DistillConfig)


def test_a_teacher_of_fewer_entries_is_refused() -> None:
    with pytest.raises(UserError, match=r"\(llama\): it has 320 embeddings, but the vocabulary has 321 entries"):
        Teachers([built("llama")], entries=tiny.VOCABULARY + 1)


def test_logits_that_states_do_not_decide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    forward = type(model).forward

    def shifted(self: Any, input_ids: Any = None, **options: Any) -> Any:
        output = forward(self, input_ids, **options)
        return type(output)(logits=output.logits.cumsum(dim=1))

    monkeypatch.setattr(type(model), "forward", shifted)
    with pytest.raises(UserError, match=r"\(llama\): its logits cannot be made of its last states"):
        Teachers([model])


def test_a_student_whose_logits_are_more_than_linear_is_refused() -> None:
    check_student(build("llama"))
    with pytest.raises(UserError, match=r"\(granite\): its logits are more than a linear layer"):
        check_student(build("granite"))


# Shapes


@each_architecture
def test_a_models_longest_input_can_be_read_and_no_longer_one(kind: str) -> None:
    model = built(kind)
    longest = longest_input(model)
    assert (longest is None) == (kind in {"bloom", "mamba"})
    if longest is not None and longest < 100:
        assert longest == 64 if kind != "roberta" else longest == 65
        model(torch.ones(1, longest, dtype=torch.long) * 5)
    if kind in {"opt", "bert", "roberta"}:  # with a table of positions
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.ones(1, longest + 1, dtype=torch.long) * 5)


@each_architecture
def test_states_and_attention_are_the_models_or_refused(kind: str) -> None:
    model = build(kind)
    shape, tokens = model_shape(model.config), tiny.batch()[0]
    teachers = Teachers([model])
    if kind == "opt":
        with pytest.raises(UserError, match=r"\(opt\): its last states have 8 numbers, not the 16 of its layers"):
            teachers.require(True, [()])
    else:
        teachers.require(True, [()])
        hidden = teachers.run(Batch(tokens, tokens)).states()[0].hidden
        torch.testing.assert_close(hidden[-1], model.base_model(tokens).last_hidden_state)
        assert len(hidden) == shape.num_hidden_layers + 1
    if kind in WITHOUT_ATTENTION:
        with pytest.raises(UserError, match=rf"\({kind}\): the attention of layers? 2 cannot be recorded"):
            teachers.require(False, [{2}])
    else:
        teachers.require(False, [{2}])
        attention = teachers.run(Batch(tokens, tokens)).states()[0].attention[2]
        assert attention.queries.shape == attention.keys.shape
        assert attention.queries.shape[1] * attention.queries.shape[3] == shape.attention_size
    assert F.softmax(chunks(teachers, tokens)["mean"], -1).sum() == pytest.approx(tokens.numel(), rel=1e-4)


def test_padding_at_the_end_of_rows_is_no_reason_for_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """GPT-2 of transformers warns of padding without a mask; where a row ends, none is needed."""
    logger = transformers_logging.get_logger("transformers.modeling_utils")
    logger.warning_once.cache_clear()  # type: ignore[attr-defined]
    logger.addHandler(caplog.handler)
    model = tiny.model(tiny.GPT2)
    model(torch.tensor([[5, 6, model.config.pad_token_id]]))
    logger.warning("another")
    logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"another"}
