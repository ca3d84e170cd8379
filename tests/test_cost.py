"""What a run will cost: FLOPs against a count of the products that are run, memory against what autograd keeps."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import terms
import tiny
import torch
import yaml
from architectures import ALL as ARCHITECTURES
from architectures import SIZES
from shared_fixtures import Call, WriteConfig
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from palenka import cli, objectives
from palenka.cost import estimate, probe
from palenka.cost.counting import count_layer
from palenka.cost.dry_run import describe
from palenka.cost.estimate import (
    Shared,
    fitting_cohort,
    flops_per_token,
    forward_flops,
    memory,
    step_seconds,
    total_steps,
)
from palenka.cost.forecast import Length
from palenka.cost.measurement import Measurement
from palenka.cost.probe import affordable_sequences, measure
from palenka.data.batch import Batch
from palenka.models.config import ModelConfig, make_known, of_depth
from palenka.models.onednn import is_onednn_usable
from palenka.models.outputs import model_shape
from palenka.objectives import TeacherShape
from palenka.search.cost import read_estimate
from palenka.teachers.live import TeacherPass, Teachers
from palenka.training.loss_module import LossModule, StepSize
from palenka.training.plan import Workload, load_plan, make_plan, make_workload
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.config import load
from palenka.util.devices import DEVICES, GIB, HERE, find_devices
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

MakeWork = Callable[..., Workload]
pytestmark = pytest.mark.slow  # counts what autograd keeps of every architecture
GPTJ = {**tiny.GPT2, "architecture": "gptj", "hidden_size": 32, "rotary_dim": 8}
GRID = {
    "axes": {
        "objective.logit.weight": [0.1, 0.3, 0.5, 0.7, 1.0], "objective.hidden_state.weight": [0.1, 0.3, 0.5, 0.7, 1.0],
    },
}  # fmt: skip

STEP_COUNTS = 4 * (2 * 9 + 3 + 2)  # AdamW's: of each tensor of two layers, embeddings, norm, head, and two projections


@pytest.fixture(autouse=True)
def _no_data(runs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is prepared and nothing trained, unless a test asks for it; this machine is a made-up one."""
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "nothing"))
    for module in ("palenka.cost.dry_run", "palenka.search.cost"):
        monkeypatch.setattr(f"{module}.this_machine", lambda: tiny.MACHINE)


@pytest.fixture
def work(teacher: Path, write_config: WriteConfig) -> MakeWork:
    """work(*overrides) is the workload of tiny.distill_values()."""
    file = write_config(tiny.distill_values())
    return lambda *overrides: make_workload(load(file, overrides, DistillConfig), str(file))


class FlopCounter(TorchDispatchMode):
    """Counts by PyTorch's formulas; its own FlopCounterMode cannot see gradients that are taken within a forward."""

    total = 0
    formulas = flop_registry | {
        torch.ops.mkldnn._linear_pointwise: lambda states, weight, *rest, out_val: 2 * states.numel() * weight.shape[0]
    }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := self.formulas.get(func._overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def counted(model: LossModule, inputs: torch.Tensor, labels: torch.Tensor) -> int:
    """FLOPs of matrix products in one training step, as they are run."""
    is_onednn_usable(torch.float32)  # the small products that it tries are none of the step's
    with FlopCounter() as counter:
        model(Batch(inputs, labels), terms.whole(labels))[0].backward()
    return counter.total


def with_objectives(*names: str) -> LossModule:
    """A Llama student of a GPT-2 and a Llama, by objectives of weight 1; contrasts within two windows."""
    student, teachers = tiny.model(tiny.LLAMA), [tiny.model(tiny.GPT2), tiny.model({**tiny.LLAMA, "hidden_size": 32})]
    shapes = [
        TeacherShape(**vars(model_shape(model.config)), share=0.5, layer_pairs=pairs)
        for model, pairs in zip(teachers, terms.PAIRS, strict=True)
    ]
    shape = model_shape(student.config)
    built = {name: terms.objective(name, shape, shapes, **terms.ADDITIVE.get(name, {})) for name in names}
    return LossModule(student, built, Teachers(teachers))


# FLOPs


def test_flops_by_hand(work: MakeWork) -> None:
    # Student: two layers of 4 · 16² + 3 · 16 · 32 weights, a head of 320 · 16, attention over 16 tokens.
    student = 6 * (2 * (4 * 16**2 + 3 * 16 * 32) + 320 * 16) + 12 * 2 * 16 * 16
    # Teacher: three layers of 4 · 24² + 2 · 24 · 48 weights, and a head of 320 · 24; two projections are the student's.
    teacher = 2 * (3 * (4 * 24**2 + 2 * 24 * 48) + 320 * 24) + 4 * 3 * 24 * 16
    assert flops_per_token(work()) == Shared(student + 6 * 2 * 16 * 24, teacher)


def test_flops_are_counted_only_for_what_is_computed(work: MakeWork) -> None:
    whole = flops_per_token(work())
    without_logits = flops_per_token(work("objective.logit.weight=0"))
    assert whole.teachers - without_logits.teachers == 2 * 320 * 24  # the teacher's head
    assert whole.student == without_logits.student
    assert flops_per_token(work("objective.logit.weight=0", "objective.hidden_state.weight=0")).teachers == 0
    only_states = flops_per_token(work("objective.logit.weight=0", "objective.hard_target.weight=0"))
    assert whole.student - only_states.student == 6 * 320 * 16  # the student's head
    assert whole.teachers - only_states.teachers == 2 * 320 * 24


def test_heads_are_counted_for_what_a_masked_run_predicts(work: MakeWork, teacher: Path) -> None:
    (teacher / "config.yaml").write_text("paradigm: masked\n")
    whole = flops_per_token(work("paradigm={name: masked, rate: 0.6}"))
    masked = flops_per_token(work("paradigm=masked"))
    assert whole.student - masked.student == pytest.approx(0.85 * 6 * 320 * 16)
    assert whole.teachers - masked.teachers == pytest.approx(0.85 * 2 * 320 * 24)


def test_teachers_are_counted_for_the_phases_that_they_teach(
    work: MakeWork, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of causal epochs for a third of the time, and one of masked ones, who forms fewer logits."""
    body, head = 2 * 3 * (4 * 24**2 + 2 * 24 * 48) + 4 * 3 * 24 * 16, 2 * 320 * 24
    alternate = "paradigm={name: alternate, epochs: [{causal: 1}, {masked: 4}, {causal: 1}]}"
    assert flops_per_token(work(alternate)).teachers == pytest.approx((body + head) / 3)
    (teacher / "config.yaml").write_text("paradigm: masked\n")
    planned = work(alternate, "training.micro_batch_size=4")
    assert flops_per_token(planned).teachers == pytest.approx(2 / 3 * (body + 0.15 * head))
    assert flops_per_token(work("paradigm={name: mix, rows: {masked: 1, causal: 3}}")).teachers >= body
    whole = work("paradigm=masked", "training.micro_batch_size=4")
    for device in ("cpu", "cuda"):
        machine = replace(tiny.MACHINE, kind=device)
        assert step_seconds(planned, machine).teachers == pytest.approx(2 / 3 * step_seconds(whole, machine).teachers)

    monkeypatch.setattr(probe, "this_machine", lambda: tiny.MACHINE)
    monkeypatch.setattr(probe, "STEPS", 1)
    told: list[bool] = []
    run = LossModule.forward

    def noted(self: LossModule, batch: Batch, size: StepSize, teachers: TeacherPass | None) -> Any:
        told.append(teachers is None)
        return run(self, batch, size, teachers)

    monkeypatch.setattr(LossModule, "forward", noted)
    measure(planned)
    assert told == [True] * 4 + [False] * 4, "two steps of two micro-batches with the teacher, and two without"


@pytest.mark.parametrize("keys", [tiny.LLAMA, tiny.GPT2, GPTJ], ids=lambda keys: keys["architecture"])
def test_flops_are_those_that_a_model_runs(keys: Mapping[str, Any]) -> None:
    inputs, labels = tiny.batch(sequences=4, length=16)
    student = tiny.model(keys)
    hard_target = terms.objective("hard_target", model_shape(student.config), [])
    model = LossModule(student, {"hard_target": hard_target})
    expected = 3 * forward_flops(student.config, 16) * inputs.numel()
    assert counted(model, inputs, labels) == pytest.approx(expected, rel=0.005)  # rotary angles are a product, too


@pytest.mark.parametrize("name", sorted({*objectives.available()} - {"hard_target"}))
def test_every_objective_states_the_flops_it_adds(name: str) -> None:
    inputs, labels = tiny.batch(sequences=4, length=16)
    model = with_objectives("hard_target", name)
    added = counted(model, inputs, labels) - counted(with_objectives("hard_target"), inputs, labels)
    head = getattr(model.objectives[name], "teacher_logits", "none") != "none"
    of_teachers = sum(forward_flops(teacher.config, 16, logit_share=head) for teacher in model.teachers.models)
    expected = (model.objectives[name].flops(16) + of_teachers) * inputs.numel()
    assert added == pytest.approx(expected, rel=0.005)


# Memory


def kept(model: PreTrainedModel, low: bool) -> int:
    """Bytes that autograd keeps of a forward pass of (4, 16) tokens, beside parameters."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    precision = torch.autocast("cpu", torch.bfloat16) if low else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), precision:
        model.base_model(tiny.batch(sequences=4, length=16)[0], use_cache=False)
    return sum(sizes.values())


@pytest.mark.parametrize("low", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("keys", [tiny.LLAMA, tiny.GPT2, GPTJ], ids=lambda keys: keys["architecture"])
def test_a_layer_keeps_what_is_counted(work: MakeWork, keys: Mapping[str, Any], low: bool) -> None:
    wide = {**keys, "hidden_size": 96, "intermediate_size": 160}
    model = ModelConfig(**wide).hugging_face(tiny.TOKEN_IDS)
    stated = estimate._kept_of_layer(model, work(f"training.precision={'bf16' if low else 'fp32'}"), "cpu")
    weights = 4 * 96**2 + (3 if keys is tiny.LLAMA else 2) * 96 * 160
    three, two = (kept(tiny.model({**wide, "num_hidden_layers": layers}).train(), low) for layers in (3, 2))
    found = three - two - (2 * weights if low else 0)
    assert stated * 4 * 16 == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize("kind", ["gpt_neox", "bloom", "mamba", "opt", "gemma2", "roberta", "ltg_bert", "gpt_bert"])
def test_a_layer_of_any_architecture_keeps_what_is_counted(kind: str) -> None:
    make_known(kind)
    config = AutoConfig.for_model(kind, **{**tiny.TOKEN_IDS, **ARCHITECTURES.get(kind, SIZES)})
    stated = count_layer(config, 16, False, "cpu").kept
    cut = (of_depth(config, depth) for depth in (3, 2))
    models = [AutoModelForCausalLM.from_config(each, attn_implementation="eager").train() for each in cut]
    three, two = (kept(model, False) for model in models)
    assert stated * 4 * 16 == pytest.approx(three - two, rel=0.03)


def test_an_architecture_that_needs_data_to_run_is_taken_for_a_llama_of_its_size() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    routed = AutoConfig.for_model("mixtral", **sizes, num_key_value_heads=2, num_local_experts=2)
    llama = AutoConfig.for_model("llama", **sizes)
    for kind in ("cpu", "cuda"):
        assert count_layer(routed, 16, True, kind) == count_layer(llama, 16, True, kind)


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_teachers_of_any_architecture_have_their_cost(work: MakeWork, kind: str) -> None:
    config = AutoConfig.for_model(kind, **{**tiny.TOKEN_IDS, **ARCHITECTURES[kind]})
    planned = work("objective.hidden_state.weight=0")
    shape = TeacherShape(**vars(model_shape(config)), share=1.0, layer_pairs=())
    teacher = replace(planned.teachers[0], model=config, shape=shape)
    for device in ("cpu", "cuda"):
        seconds = step_seconds(replace(planned, teachers=[teacher]), replace(tiny.MACHINE, kind=device))
        assert seconds.teachers > 0
        assert memory(replace(planned, teachers=[teacher]), device).total > 0


def test_memory_by_hand(work: MakeWork) -> None:
    found = memory(work(), "cpu")
    student = 2 * (4 * 16**2 + 3 * 16 * 32 + 2 * 16) + 16 + 2 * 320 * 16 + 2 * 16 * 24
    teacher_layer = 4 * 24**2 + 2 * 24 * 48 + 9 * 24 + 48 - 24 + 24
    assert found.students == 16 * student + STEP_COUNTS + 4 * 320 * 16
    assert found.teachers == 4 * work().teachers[0].parameters["total"] >= 4 * 3 * teacher_layer
    tokens = 8 * 16
    layer = 40 * 16 + 16 * 32 + 4 * 2 * 16 + 8  # two heads of 16 probabilities; two norms' scales
    assert found.kept == 1.5 * tokens * (2 * layer + 12 * 16)
    assert found.outputs == 1.5 * tokens * 4 * 24 * 4  # embeddings and three layers
    assert found.transient == 1.5 * 4 * tokens * 320 * (5 + 4 + 1)  # logits and losses of all 128 tokens
    assert found.total == sum(vars(found).values())


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_memory_grows_with_what_needs_it(work: MakeWork, kind: estimate.Kind) -> None:
    plain = memory(work(), kind).total
    grown = (
        "training.batch_size=16", "data.seq_length=32", "student.hidden_size=32", "student.num_hidden_layers=4",
        "teachers=[{run: teacher}, {run: teacher}]", "objective.auxiliary={weight: 1}",
    )  # fmt: skip
    for override in grown:
        assert memory(work(override), kind).total > plain, override
    assert memory(work("training.micro_batch_size=2"), kind).total < plain
    assert memory(work("objective.hidden_state.weight=0"), kind).total < plain
    assert memory(work("training.precision=bf16"), kind).kept < memory(work(), kind).kept


def test_a_gpu_has_low_precision_wherever_one_asks(work: MakeWork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palenka.training.plan.fast_precision", lambda device: "fp32")  # a CPU without bf16
    chosen = {p: work(f"training.precision={p}") for p in ("auto", "bf16", "fp32")}
    for kind, alike in (("cuda", "bf16"), ("cpu", "fp32")):
        assert memory(chosen["auto"], kind) == memory(chosen[alike], kind)
        device = replace(tiny.MACHINE, kind=kind)
        assert step_seconds(chosen["auto"], device) == step_seconds(chosen[alike], device)


def test_a_cohort_adds_the_state_of_each_student_and_its_teachers_logits(work: MakeWork) -> None:
    sizes = [memory(work(), "cuda", students).total for students in range(1, 6)]
    trained = work().parameters["total"] + work().owned_parameters
    logits = 1.1 * 8 * 16 * 320 * 4  # of 8 windows, in float32, with what allocators hold beside
    added = [after - before for before, after in pairwise(sizes)]
    state = 12 * trained + STEP_COUNTS
    assert added == pytest.approx([state + logits] + [state] * 3)
    split = [memory(work("training.micro_batch_size=4"), "cuda", students).total for students in (2, 3)]
    assert split[1] - split[0] == state + 4 * trained  # gradients are collected over micro-batches, each student's


def test_a_cohort_keeps_the_logits_that_its_students_ask_for(work: MakeWork) -> None:
    def added(*overrides: str) -> float:
        alone, pair, three = (memory(work(*overrides), "cuda", students).total for students in (1, 2, 3))
        return (pair - alone) - (three - pair)

    two = "teachers=[{run: teacher}, {run: teacher}]"
    assert added(two) == pytest.approx(added()), "a mean of two is as large as one"
    assert added(two, "objective.logit.combine=probabilities") == pytest.approx(2 * added())
    assert added("objective.logit.weight=0") == pytest.approx(0)


def test_a_cohort_fits_up_to_the_devices_memory(work: MakeWork) -> None:
    three = memory(work(), "cuda", 3).total
    room = (three + 1) / estimate.USABLE
    assert fitting_cohort(work(), "cuda", room, 25) == 3
    assert fitting_cohort(work(), "cuda", room, 2) == 2
    assert fitting_cohort(work(), "cuda", 1000.0, 25) == 0
    alone = memory(work(), "cuda").total
    assert fitting_cohort(work(), "cuda", (alone + 1) / estimate.USABLE, 25) == 1
    assert fitting_cohort(work(), "cuda", (alone - 1) / estimate.USABLE, 25) == 0


# Time and length


def test_teachers_are_paid_once_a_cohort() -> None:
    amount = Shared(student=2.0, teachers=7.0)
    assert amount.of() == 9.0
    assert amount.of(25, 25) == 57.0
    assert amount.of(25, 8) == 50.0 + 4 * 7.0
    assert amount.of(25, 1) == 25 * amount.of()


def test_time_follows_the_device_and_a_measured_share(work: MakeWork) -> None:
    slow, fast = tiny.MACHINE, replace(tiny.MACHINE, low_rate=4e12, full_rate=2e12, bandwidth=1e11)
    assert step_seconds(work(), slow).of() == pytest.approx(2 * step_seconds(work(), fast).of())
    tokens = 8 * 16
    at_share = step_seconds(work(), slow, share=0.25)
    assert at_share.of() == pytest.approx(flops_per_token(work()).of() * tokens / (0.25 * 1e12))
    launched = step_seconds(work(), replace(fast, kind="cuda", low_rate=1e30, full_rate=1e30, bandwidth=1e30))
    kernels = launched.times(1 / estimate.LAUNCH)  # of two layers of a Llama, and of three of a GPT-2
    assert (kernels.student, kernels.teachers) == pytest.approx((2 * 100, 3 * 20), rel=0.1)  # in float32


def test_steps_without_data_are_those_of_the_text_once_it_is_there(prepared: Path, write_config: WriteConfig) -> None:
    training = {**tiny.train_values()["training"], "max_steps": None, "num_epochs": 3}
    values = tiny.train_values(training=training)
    values["data"]["window_start"] = "anywhere"
    plan = load_plan(write_config(values), [], TrainConfig)
    text = json.loads((prepared / "prepared.json").read_text())["splits"]["train"]
    rate = text["tokens"] / text["words"]
    assert total_steps(plan.config, text["words"], rate) == pytest.approx(plan.total_steps, rel=0.02)
    half = plan.config.model_copy(update={"data": plan.config.data.model_copy(update={"fraction": 0.5})})
    assert total_steps(half, 2 * text["words"], rate) == total_steps(plan.config, text["words"], rate)


# Devices


def test_devices_are_found_by_name() -> None:
    assert [device.name for device in find_devices(["h100", "here"], tiny.MACHINE)] == ["H100", HERE]
    assert find_devices([], tiny.MACHINE) == [*DEVICES, tiny.MACHINE]
    with pytest.raises(UserError, match="unknown device 'A41'; known: A40, A100-40GB, .*, here"):
        find_devices(["A41"], tiny.MACHINE)


def test_this_machine_is_measured() -> None:
    here = estimate.this_machine()
    assert here.name == HERE
    assert min(here.low_rate, here.full_rate, here.bandwidth) > 1e6
    assert here.memory > GIB / 4


def test_cached_logits_cost_the_loss_but_not_its_teachers(work: MakeWork) -> None:
    without_states = "objective.hidden_state.weight=0"
    live, control = work(without_states), work(without_states, "objective.logit.weight=0")
    recorded = work(without_states, "cached_logits.top_k=8")
    assert flops_per_token(recorded) == Shared(flops_per_token(live).student, 0)
    assert memory(recorded, "cpu").teachers == memory(recorded, "cpu").outputs == 0
    arrays = [memory(each, "cpu").transient / (1.5 * 4 * 128 * 320) for each in (control, recorded, live)]
    assert arrays == [5, 10, 10]
    with pytest.raises(UserError, match="--probe runs a student with its teachers"):
        probe.measure_apart(recorded)


# The probe


def test_a_probe_measures_real_steps(work: MakeWork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "this_machine", lambda: tiny.MACHINE)
    monkeypatch.setattr(probe, "STEPS", 2)
    found = measure(work("training.micro_batch_size=4"))
    assert 0 < found.fastest <= found.seconds <= found.slowest
    assert found.sequences == 8
    assert found.tokens_per_second == pytest.approx(8 * 16 / found.seconds)
    assert found.share == pytest.approx(flops_per_token(work()).of() * found.tokens_per_second / 1e12)
    assert found.memory > GIB / 16


def test_a_probe_measures_steps_of_masked_runs(
    work: MakeWork, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (teacher / "config.yaml").write_text("paradigm: mntp\n")
    monkeypatch.setattr(probe, "this_machine", lambda: tiny.MACHINE)
    monkeypatch.setattr(probe, "STEPS", 1)
    shown: list[Batch] = []
    run = LossModule.forward

    def noted(self: LossModule, batch: Batch, *others: Any) -> Any:
        shown.append(batch)
        return run(self, batch, *others)

    monkeypatch.setattr(LossModule, "forward", noted)
    measure(work("paradigm=mntp"))
    assert {batch.attention for batch in shown} == {"full"}
    assert {int(batch.counts.sum()) for batch in shown} == {8 * 3}, "a seventh of 16 tokens, rounded up"


def test_a_probe_takes_as_many_sequences_as_it_has_time_for(work: MakeWork) -> None:
    room = probe.SECONDS / (1 + probe.STEPS)
    whole = work("training={batch_size: 64, micro_batch_size: 16}")
    assert affordable_sequences(whole, room) == 64
    assert affordable_sequences(whole, 1.5 * room) == 32  # two of the four micro-batches
    assert affordable_sequences(whole, 8 * room) == 8  # half a micro-batch
    assert affordable_sequences(whole, 1000 * room) == 1


# The command


def test_a_dry_run_names_what_a_run_costs(teacher: Path, write_config: WriteConfig) -> None:
    plan = load_plan(write_config(tiny.distill_values()), [], DistillConfig)
    text = describe(plan)
    for expected in (
        f"student: llama, {plan.parameters['total']:,} parameters", "teacher teacher: ", "[(2, 1), (3, 2)]",
        "objectives: 768 parameters of their own",  # two projections of 16 · 24
        f"{plan.windows().epoch_size(0):,} windows of 16 tokens", "8 steps of 8 sequences", "FLOPs", "GiB", "predicted",
        *(device.name for device in DEVICES), "this machine",
    ):  # fmt: skip
        assert expected in text
    assert yaml.safe_load(text.split("\n\n")[0]) == plan.resolved and "not set" not in text


def test_a_dry_run_names_sizes_that_are_left_to_the_library(prepared: Path, write_config: WriteConfig) -> None:
    """A Llama of two layers of 16 and 11,008 between has 1.1 million parameters that nobody asked for."""
    values = tiny.train_values()
    del values["model"]["intermediate_size"]
    plan = load_plan(write_config(values), [], TrainConfig)
    assert "not set, and so what the architecture has by default: intermediate_size 11,008\n" in describe(plan)
    assert plan.parameters["total"] > 2 * 3 * 16 * 11_008
    values["model"] = {"architecture": "gpt2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    assert "not set" not in describe(load_plan(write_config(values), [], TrainConfig)), "GPT-2's follows from its width"


def test_cost_needs_neither_data_nor_trained_teachers(call: Call, tmp_path: Path) -> None:
    file = ROOT / "config" / "distillation" / "PalenkaLlama1-58M.yaml"
    code, output, errors = call(cli.main, ["cost", "--config", str(file), "--json", str(tmp_path / "c.json")])
    assert (code, errors) == (0, "")
    for expected in ("58,343,936 parameters", "704,928,768 parameters", "20,971,520 parameters of their own",
                     "10M words, 6 epochs", "100M words, 6 epochs", "A40", "H100", "this machine"):  # fmt: skip
        assert expected in output
    (found,) = json.loads((tmp_path / "c.json").read_text())
    ten, hundred = found["devices"]["A40"]["lengths"].values()
    assert hundred["steps"] == pytest.approx(10 * ten["steps"], rel=1e-3)
    assert ten["seconds"] == pytest.approx(ten["steps"] * sum(found["devices"]["A40"]["seconds_per_step"].values()))


def test_a_run_of_fixed_length_costs_the_same_on_any_text(call: Call, write_config: WriteConfig) -> None:
    file = write_config(tiny.train_values())
    code, output, _ = call(cli.main, ["cost", "--config", str(file), "--device", "A40", "--words", "1M,10M"])
    assert code == 0
    assert "8 steps, whatever the number of words" in output
    assert "1M" not in output.replace(str(file), "")


def test_a_grid_pays_its_teachers_once_a_cohort(
    call: Call, teacher: Path, write_config: WriteConfig, tmp_path: Path
) -> None:
    file = write_config(tiny.distill_values() | {"grid": GRID})
    found = read_estimate(file, [10**6])
    assert found.trials == 25
    assert found.cohort_on(DEVICES[0]) == 25
    arguments = ["cost", "--config", str(file), "--device", "H100", "--json", str(tmp_path / "c.json")]
    code, output, _ = call(cli.main, arguments)
    assert code == 0
    assert "25 trials" in output
    (record,) = json.loads((tmp_path / "c.json").read_text())
    step, (length,) = record["devices"]["H100"]["seconds_per_step"], record["devices"]["H100"]["lengths"].values()
    assert length["grid_seconds"] == pytest.approx(8 * (25 * step["student"] + step["teachers"]))


def test_teachers_whose_states_are_kept_run_for_one_epoch(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of four epochs they cost a quarter, but for their heads; the plan tells how large the states are."""
    monkeypatch.setenv("PALENKA_SIGNALS", str(tmp_path))
    values = tiny.distill_values(objective={"logit": {"weight": 1.0}})
    values["data"] |= {"crop": "fixed"}
    values["training"] |= {"num_epochs": 4, "max_steps": None}
    configs = [DistillConfig.model_validate(values | {"teacher_cache": cache}) for cache in (None, {})]
    work = [make_workload(config, "") for config in configs]
    live, kept = map(flops_per_token, work)
    body, head = estimate.count_forward(work[0].teachers[0].model, values["data"]["seq_length"])
    assert live.student == kept.student
    assert (live.teachers, kept.teachers) == (body + head, body / 4 + head)
    config = DistillConfig.model_validate(values | {"teacher_cache": {"precision": "fp8", "max_gib": 1e-4}})
    text = describe(make_plan(config, ""))
    kept_states = make_plan(config, "").kept_states
    assert kept_states and 0 < kept_states.room < kept_states.windows
    assert f"{kept_states.token_bytes} bytes a token, {kept_states.room} of {kept_states.windows} (teacher_c" in text


def test_a_search_costs_its_trials(call: Call, teacher: Path, write_config: WriteConfig) -> None:
    """With the run's own values and what is the same in all trials; without teachers each trial is alone, and tpe gets
    a quarter of them at once."""
    for values, cohort in ((tiny.distill_values(), 2), (tiny.train_values(), 1)):
        run = write_config(values, "run.yaml")
        asked = {"name": "search", "run": str(run), "axes": {"training.lr": [1e-4, 1e-3]}, "trials": 6}
        file = write_config(asked | {"sampler": "tpe", "overrides": {"training.max_steps": 5}}, "search.yaml")
        found = read_estimate(file, [10**6])
        assert (found.trials, found.cohort_on(DEVICES[0]), found.lengths) == (6, cohort, [Length("5 steps", 5)])
        code, output, _ = call(cli.main, ["cost", "--config", str(file), "--device", "H100"])
        assert code == 0 and "6 trials" in output
    bad = write_config(asked | {"trials": None}, "search.yaml")
    code, _, errors = call(cli.main, ["cost", "--config", str(bad)])
    assert code == 2 and "trials: sampler tpe has no end of its own" in errors


def test_a_measurement_rules_the_estimates_of_all_devices(
    call: Call, teacher: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measurement(0.5, 0.4, 0.6, 256.0, tiny.MACHINE, 0.125, 3 * GIB, 8)
    monkeypatch.setattr("palenka.search.cost.measure_apart", lambda work: measured)
    file = write_config(tiny.distill_values())
    _, output, _ = call(cli.main, ["cost", "--config", str(file), "--device", "here,A40", "--probe"])
    for expected in ("256 tokens/s (0.5 s a step, 0.4 to 0.6, on 8 sequences)", "12% of 1 TFLOP/s", "3.0 GiB"):
        assert expected in " ".join(output.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--device", "A41"], "--device: unknown device 'A41'; known: A40"),
        (["--words", "many"], "--words: expected a number of words above 0, such as 250000, 500K or 1M, got 'many'"),
        (["--words", "0"], "--words: expected a number of words"),
        (["--config", "nothing.yaml"], "nothing.yaml: no such file"),
    ],
)
def test_bad_input_is_a_message(call: Call, write_config: WriteConfig, arguments: list[str], expected: str) -> None:
    file = ["--config", str(write_config(tiny.train_values()))]
    code, output, errors = call(cli.main, ["cost", *file, *arguments])
    assert (code, output) == (2, "")
    assert expected in errors


def test_a_config_that_is_no_run_is_named_with_its_problems(call: Call, write_config: WriteConfig) -> None:
    bad = tiny.distill_values() | {"grid": {"axes": {}}}
    for values, expected in ((bad, "grid.axes"), (tiny.train_values(modell=1), "unknown key; did you mean 'model'?")):
        code, _, errors = call(cli.main, ["cost", "--config", str(write_config(values))])
        assert code == 2
        assert expected in errors
