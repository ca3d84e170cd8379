"""The training loop in one process: schedule, records, export, determinism, accumulation, and being killed anywhere."""

import gc
import hashlib
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import pytest
import tiny
import torch
from accelerate.state import AcceleratorState
from killing import Killed, half_a_line, kill_at
from rounding import assert_alike
from run_files import outcome, records, snapshot
from safetensors.torch import load_file
from torch.nn import functional as F
from trainings import largest_difference, plan_for, train_run
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import palenka.runs.directory
import palenka.training.cohort
import palenka.training.export
import palenka.training.loop
import palenka.training.state
import palenka.training.student
import palenka.training.trainer
from palenka import objectives
from palenka.data.batch import Batch
from palenka.data.tokenizer import load_tokenizer
from palenka.data.tokens import Domain
from palenka.models.huggingface import build_model
from palenka.runs.directory import Run
from palenka.training.loss_module import LossModule
from palenka.training.meter import Meter
from palenka.training.plan import Plan
from palenka.training.session import Diverged
from palenka.training.student import Student
from palenka.training.trainer import Trainer
from palenka.training.validation import summarise
from palenka.util.errors import UserError
from palenka.util.files import read_json

TERMS = ("loss", "hard_target", "logit", "hidden_state", "grad_norm")
RECORD = ["step", "epoch", "tokens", "words", "split", "loss"]
# Adam divides by the root of the squared gradient: with a large epsilon, rounding of gradients near 0 stays rounding.
EXACT = {"precision": "fp32", "adam_epsilon": 1e-3}


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def initial_student(plan: Plan) -> PreTrainedModel:
    return build_model(plan.model, plan.config.seed, tiny.CPU)


# Dev summary


def test_dev_summary_by_hand() -> None:
    domains = [
        Domain("wiki", start=0, end=100, words=70, bytes=400, documents=2),  # 4 bytes a token
        Domain("books", start=100, end=150, words=40, bytes=100, documents=1),  # 2 bytes a token
    ]
    sums = torch.tensor([[20.0, 10], [30.0, 5]], dtype=torch.float64)  # nats, tokens
    summary = summarise(sums, domains)
    assert summary["tokens"] == 15
    assert summary["cross_entropy"] == pytest.approx(50 / 15)
    assert summary["bits_per_byte"] == pytest.approx(50 / 50 / math.log(2))  # 10 · 4 + 5 · 2 bytes
    assert summary["domains"] == {
        "wiki": {"cross_entropy": 2.0, "bits_per_byte": pytest.approx(20 / 40 / math.log(2)), "tokens": 10},
        "books": {"cross_entropy": 6.0, "bits_per_byte": pytest.approx(30 / 10 / math.log(2)), "tokens": 5},
    }


# What a run leaves


def dev_cross_entropy(model: PreTrainedModel, plan: Plan) -> float:
    """Nats per token over the dev windows, from plain logits."""
    inputs, labels = (torch.from_numpy(array) for array in plan.dev_windows().batch(range(len(plan.dev_windows()))))
    with torch.no_grad():
        logits = model.eval()(inputs).logits
    return float(F.cross_entropy(logits.flatten(0, 1).double(), labels.flatten()))


def test_training_lowers_the_dev_loss_it_reports(prepared: Path, runs_folder: Path) -> None:
    plan = plan_for(tiny.train_values(), lr=1e-2, max_steps=60, eval_steps=20)
    before = dev_cross_entropy(initial_student(plan), plan)
    run = tiny.train(plan)
    after = dev_cross_entropy(AutoModelForCausalLM.from_pretrained(run, dtype=torch.float32), plan)
    assert read_json(run / "result.json")["dev"]["cross_entropy"] == pytest.approx(after, abs=1e-5)
    assert after < before - 1
    losses = [record["loss"] for record in records(run, "dev")]
    assert len(losses) == 3
    first, *_, last = (record["domains"] for record in records(run, "dev"))
    assert all(last[name]["cross_entropy"] < first[name]["cross_entropy"] for name in tiny.DOMAINS)
    assert min(losses) == read_json(run / "result.json")["dev"]["cross_entropy"]


def test_records_have_the_documented_fields(teacher: Path) -> None:
    run = train_run(tiny.distill_values(), logging_steps=2)
    train_fields = [*RECORD, "hard_target", "hidden_state", "logit", "lr", "grad_norm", "tokens_per_second"]
    for record in records(run, "train"):
        assert sorted(record) == sorted(train_fields)
        terms = record["hard_target"] + 0.5 * record["logit"] + 0.5 * record["hidden_state"]
        assert record["loss"] == pytest.approx(terms, rel=1e-5)
    for record in records(run, "dev"):
        assert sorted(record) == sorted([*RECORD, "bits_per_byte", "domains"])
        assert list(record["domains"]) == sorted(tiny.DOMAINS)
    assert [(r["step"], r["split"]) for r in records(run)] == [
        (2, "train"), (4, "train"), (4, "dev"), (6, "train"), (8, "train"), (8, "dev"),
    ]  # fmt: skip


def test_records_count_what_was_seen(teacher: Path) -> None:
    plan = plan_for(tiny.distill_values())
    run = tiny.train(plan)
    for record in records(run):
        seen = range(8 * record["step"])
        starts, ends = plan.windows().bounds(seen)
        assert record["tokens"] == int((plan.windows().batch(seen)[1] != -100).sum()) == int((ends - starts).sum())
        assert record["words"] == plan.windows().words(seen)
        assert record["epoch"] == pytest.approx(8 * record["step"] / plan.windows().epoch_size(0), abs=1e-4)
    result = read_json(run / "result.json")
    last = records(run, "dev")[-1]
    assert [result[key] for key in ("steps", "tokens", "words", "epochs")] == [
        8,
        last["tokens"],
        last["words"],
        last["epoch"],
    ]


def test_first_record_is_the_loss_of_the_initial_student(prepared: Path, runs_folder: Path) -> None:
    plan = plan_for(tiny.train_values(), max_steps=1)
    inputs, labels = (torch.from_numpy(array) for array in plan.windows().batch(range(8)))
    with torch.no_grad():
        logits = initial_student(plan)(inputs).logits
    expected = float(F.cross_entropy(logits.flatten(0, 1), labels.flatten()))
    (record,) = records(tiny.train(plan), "train")
    assert record["cross_entropy"] == pytest.approx(expected, rel=1e-6)
    assert record["loss"] == pytest.approx(expected, rel=1e-6)
    assert record["lr"] == 0.5e-3


def test_log_interval_gives_means(prepared: Path, runs_folder: Path) -> None:
    each = records(train_run(tiny.train_values(name="each"), logging_steps=1), "train")
    pairs = records(train_run(tiny.train_values(name="pairs"), logging_steps=2), "train")
    for pair, first, second in zip(pairs, each[::2], each[1::2], strict=True):
        for key in ("loss", "cross_entropy", "grad_norm"):
            assert pair[key] == pytest.approx((first[key] + second[key]) / 2, rel=1e-5)
        assert pair["lr"] == second["lr"]


def test_a_scheduled_weight_follows_the_training_and_is_recorded(teacher: Path) -> None:
    falling = {"start": 1.0, "end": 0.0, "begin": 0.25, "finish": 0.75}
    run = train_run(tiny.distill_values(objective={"hard_target": {"weight": 1.0}, "logit": {"weight": falling}}))
    expected = [1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]  # of eight steps; the last but two are behind three quarters
    for weight, record in zip(expected, records(run, "train"), strict=True):
        assert record["logit_weight"] == pytest.approx(weight)
        assert "hard_target_weight" not in record
        assert record["loss"] == pytest.approx(record["hard_target"] + weight * record["logit"], rel=1e-5)


@pytest.mark.parametrize("name", [name for name in objectives.available() if name != "hard_target"])
def test_every_objective_trains_a_student_of_its_own_and_stays_out_of_its_folder(teacher: Path, name: str) -> None:
    alone = train_run(tiny.distill_values(name="alone", objective={"hard_target": {"weight": 1.0}}))
    terms = {"hard_target": {"weight": 1.0}, name: {"weight": 1.0}}
    run = train_run(tiny.distill_values(name="with", objective=terms))
    plain, student = (load_file(folder / "model.safetensors") for folder in (alone, run))
    assert largest_difference(plain, student) > 1e-5
    lines = records(run, "train")
    assert all(line["loss"] == pytest.approx(line["hard_target"] + line[name], rel=1e-4) for line in lines)


def test_the_gradient_exchange_is_let_go_of_before_the_processes_part(
    prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers: list[Trainer] = []
    held: list[Any] = []
    resume = Trainer.resume

    def noted(self: Trainer) -> None:
        trainers.append(self)
        resume(self)

    monkeypatch.setattr(Trainer, "resume", noted)
    monkeypatch.setattr(
        palenka.training.loop, "_leave_processes", lambda: held.append([list(t.accelerator._models) for t in trainers])
    )
    train_run(tiny.train_values())
    assert held == [[[]]]


def test_completion_is_marked_last(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[str] = []
    replace = Path.replace

    def recorded(self: Path, target: Path) -> Path:
        placed.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", recorded)
    run = train_run(tiny.distill_values())
    last = placed.index("result.json")
    assert {"model.safetensors", "config.json", "tokenizer.json", "metrics.jsonl"} <= set(placed[:last])
    assert all(name.startswith(".checkpoint-") for name in placed[last + 1 :])
    result = read_json(run / "result.json")
    assert list(result) == [
        "name", "method", "architecture", "parameters", "steps", "epochs", "tokens", "words", "ledger", "best_step",
        "dev", "weights_sha256", "seconds", "tokens_per_second",
    ]  # fmt: skip
    assert result["weights_sha256"] == hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    assert (result["name"], result["method"], result["architecture"]) == ("student", "distill", "llama")
    assert result["best_step"] in (4, 8)


def test_second_start_does_nothing(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_run(tiny.distill_values())
    before = snapshot(run)
    assert train_run(tiny.distill_values()) == run
    assert snapshot(run) == before
    assert "finished already" in capsys.readouterr().out


def test_run_finished_by_another_process_meanwhile_is_left_alone(teacher: Path) -> None:
    plan = plan_for(tiny.distill_values())
    late = Run("student", plan.runs)
    assert not late.finished
    run = tiny.train(plan)
    gc.collect()
    before = snapshot(run)
    with pytest.raises(UserError, match="finished"):
        tiny.trainer(plan, late)
    assert snapshot(run) == before


@pytest.mark.usefixtures("kept_checkpoints")
@pytest.mark.parametrize("tied", [False, True])
def test_export_is_the_plain_best_student(teacher: Path, tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(palenka.training.student, "learning_rate", lambda step, *rest: 1e-2 if step < 6 else 1.0)
    plan = plan_for(tiny.distill_values(student={**tiny.LLAMA, "tie_word_embeddings": tied}), eval_steps=2)
    run = tiny.train(plan)
    best = read_json(run / "result.json")["best_step"]
    dev = {record["step"]: record["loss"] for record in records(run, "dev")}
    assert best == min(dev, key=dev.__getitem__)
    assert best < 8, "the last steps' learning rate should spoil the student, so that best and last differ"

    weights = load_file(run / "model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    initial_student(plan).save_pretrained(run / "plain")
    assert weights.keys() == load_file(run / "plain" / "model.safetensors").keys()

    trained = {
        name.removeprefix("student."): tensor
        for name, tensor in load_file(run / f"checkpoint-{best}" / "distiller.safetensors").items()
        if name.startswith("student.")
    }
    plain = initial_student(plan)
    assert plain.load_state_dict(trained, strict=False).unexpected_keys == []
    exported, loading = AutoModelForCausalLM.from_pretrained(
        run, output_loading_info=True, dtype=torch.float32, attn_implementation="eager"
    )
    assert not any(loading.values())
    inputs = torch.from_numpy(plan.dev_windows().batch(range(4))[0])
    with torch.no_grad():
        assert torch.equal(exported.eval()(inputs).logits, plain.eval()(inputs).logits)


def test_export_has_the_datas_tokenizer(prepared: Path, runs_folder: Path) -> None:
    run = train_run(tiny.train_values(), max_steps=1)
    text = "The cat sees a dog.\nEvery farmer likes one river. <s>"
    assert AutoTokenizer.from_pretrained(run)(text) == load_tokenizer(prepared / "tokenizer")(text)
    config = read_json(run / "config.json")
    assert [config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size")] == [
        1,
        2,
        0,
        tiny.VOCABULARY,
    ]


# Seeds


def test_same_seed_same_bits(teacher: Path) -> None:
    first, again = (train_run(tiny.distill_values(name=name)) for name in ("first", "again"))
    assert outcome(first) == outcome(again)
    assert outcome(first)["weights"] != outcome(train_run(tiny.distill_values(name="other", seed=8)))["weights"]


def test_data_seed_decides_the_text_and_seed_the_rest(prepared: Path, runs_folder: Path) -> None:
    data = {"name": "tiny", "seq_length": 16, "dev_samples": 16}

    def first_step(name: str, seed: int, data_seed: int) -> dict[str, Any]:
        return records(
            train_run(tiny.train_values(name=name, seed=seed, data=data | {"seed": data_seed}), max_steps=8)
        )[0]

    one, other_seed, other_data = first_step("a", 1, 1), first_step("b", 2, 1), first_step("c", 1, 2)
    seen = ("tokens", "words")
    assert [one[key] for key in seen] == [other_seed[key] for key in seen] != [other_data[key] for key in seen]
    assert len({one["loss"], other_seed["loss"], other_data["loss"]}) == 3


def test_control_and_students_start_equal(teacher: Path) -> None:
    kd = {"hard_target": {"weight": 0.5}, "logit": {"weight": 0.5}}
    runs = [
        train_run(tiny.train_values(name="control"), max_steps=1),
        train_run(tiny.distill_values(name="kd", objective=kd), max_steps=1),
        train_run(tiny.distill_values(name="dskd"), max_steps=1),
    ]
    firsts = [records(run, "train")[0] for run in runs]
    assert len({first.get("hard_target", first.get("cross_entropy")) for first in firsts}) == 1
    assert len({(run / "model.safetensors").read_bytes() for run in runs}) == 3


# Accumulation


@pytest.mark.parametrize(
    ("processes", "expected"), [(2, [[3.0, 1.0, 0.5], [4.0, 2.0, 0.5]]), (1, [[7.0, 3.0, 0.5]])]
)
def test_sums_of_a_checkpoint_go_back_to_their_processes(processes: int, expected: list[list[float]]) -> None:
    """Loss and term are each process's share; every process has the same gradient norm."""
    found = []
    for rank in range(processes):
        meter = Meter(["hard_target"], tiny.CPU)
        accelerator: Any = SimpleNamespace(process_index=rank, num_processes=processes)
        meter.restore([[3.0, 1.0, 0.5], [4.0, 2.0, 0.5]], accelerator)
        found.append(meter.sums.tolist())
    assert found == expected


@pytest.mark.parametrize("reduction", ["token", "sequence_sum"])
def test_micro_batches_do_not_change_the_training(teacher: Path, reduction: str) -> None:
    objective = tiny.distill_values()["objective"] | {"logit": {"weight": 0.5, "reduction": reduction}}

    def student(name: str, micro_batch_size: int | None) -> Path:
        return train_run(
            tiny.distill_values(name=name, objective=objective), **EXACT, micro_batch_size=micro_batch_size
        )

    whole, parts, single = student("whole", None), student("parts", 2), student("single", 1)
    initial = initial_student(plan_for(tiny.distill_values())).state_dict()
    weights = load_file(whole / "model.safetensors")
    assert largest_difference(weights, initial) > 1e-3
    for run in (parts, single):
        assert largest_difference(weights, load_file(run / "model.safetensors")) < 2e-7
        for one, other in zip(records(whole, "train"), records(run, "train"), strict=True):
            assert_alike(one, other, TERMS, tokens=16 if reduction == "sequence_sum" else 1)


def test_gradient_is_clipped_apart_from_the_projections(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the projections' gradient is, the student's keeps its own norm, at most max_grad_norm."""
    norms = []

    def norm_of(parameters: Iterator[torch.nn.Parameter]) -> float:
        return math.sqrt(sum(float(p.grad.square().sum()) for p in parameters if p.grad is not None))

    clip = Student._clip

    def watched(self: Student) -> torch.Tensor:
        before = norm_of(self.loss.student.parameters())
        reported = clip(self)
        norms.append((before, float(reported[0]), *(norm_of(m.parameters()) for m in self.loss.children())))
        return reported

    monkeypatch.setattr(Student, "_clip", watched)
    train_run(tiny.distill_values(), max_grad_norm=0.01, max_steps=2)
    for before, reported, student, projections in norms:
        assert before > 0.01
        assert reported == pytest.approx(before, rel=1e-4)
        assert student == pytest.approx(0.01, rel=1e-3)
        assert projections == pytest.approx(0.01, rel=1e-3)


# Killed anywhere


def killed_run(values: dict[str, Any], point: tuple[Any, ...]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, *point)
        try:
            train_run(values, checkpoint_steps=1)
        except Killed:
            pass
        else:
            pytest.fail("the run was never killed")
    gc.collect()  # what held the lock is gone, as after a kill


def half_a_file(state: Any, file: BinaryIO) -> None:
    file.write(b"half of the optimizer")


def half_a_folder(path: Path, ignore_errors: bool = False) -> None:
    (path / "optimizer.pt").unlink()


def first_file_only(run: Run, folder: Path) -> None:
    first = min(folder.iterdir())
    first.replace(run.path / first.name)


POINTS = {
    "before anything": (Run, "drop_records_after", 1),
    "in the first step, without a checkpoint": (Student, "_clip", 1),
    "in a step": (Student, "_clip", 6),
    "while a record is appended": (Run, "log", 4, half_a_line),
    "while a dev record is appended": (Run, "log", 5, half_a_line),
    "after the weights of a checkpoint": (torch, "save", 3, half_a_file),
    "before a checkpoint's last file": (palenka.runs.directory, "write_state", 3),
    "before a checkpoint gets its name": (palenka.runs.directory, "sync_tree", 3),
    "before a checkpoint is flushed under its name": (palenka.runs.directory, "replace", 3),
    "before old checkpoints are dropped": (Run, "drop_checkpoints", 4),
    "before the checkpoint of the best step is dropped": (Run, "drop_checkpoints", 9),
    "while an old checkpoint is dropped": (shutil, "rmtree", 6, half_a_folder),
    "before the export": (palenka.training.trainer, "export_run", 1),
    "while the export is written": (palenka.training.export, "save_tokenizer", 1),
    "while the export is moved": (Run, "place", 1, first_file_only),
    "between export and result": (Run, "finish", 1),
}


@pytest.fixture
def dropout_student(teacher: Path) -> dict[str, Any]:
    """A student whose steps draw random numbers, which a resume must repeat."""
    student = {**tiny.GPT2, "hidden_size": 16, "resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.2}
    return tiny.distill_values(student=student)


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_killed_and_resumed_equals_unkilled(dropout_student: dict[str, Any], point: tuple[Any, ...]) -> None:
    whole = train_run(dropout_student | {"name": "whole"}, checkpoint_steps=1)
    killed_run(dropout_student, point)
    run = train_run(dropout_student, checkpoint_steps=1)
    assert outcome(run) == outcome(whole)


def test_killed_again_while_resuming(dropout_student: dict[str, Any]) -> None:
    whole = train_run(dropout_student | {"name": "whole"}, checkpoint_steps=1)
    for point in (
        POINTS["in a step"],
        (Run, "drop_records_after", 1),
        (palenka.training.state, "load_model", 1),
        (Run, "log", 1, half_a_line),
    ):
        killed_run(dropout_student, point)
    assert outcome(train_run(dropout_student, checkpoint_steps=1)) == outcome(whole)


def test_killed_between_records_keeps_their_means(dropout_student: dict[str, Any]) -> None:
    """A record is a mean over steps on both sides of the kill."""
    values = dropout_student | {"training": dropout_student["training"] | {"logging_steps": 4}}
    whole = train_run(values | {"name": "whole"}, checkpoint_steps=1)
    killed_run(values, (Student, "_clip", 7))
    assert outcome(train_run(values, checkpoint_steps=1)) == outcome(whole)


def test_best_checkpoint_outlives_later_ones(teacher: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(palenka.training.student, "learning_rate", lambda step, *rest: 1e-2 if step < 4 else 1.0)
    whole = train_run(tiny.distill_values(name="whole"), checkpoint_steps=1, eval_steps=2)
    values = tiny.distill_values(training=tiny.distill_values()["training"] | {"eval_steps": 2})
    killed_run(values, (Student, "_clip", 8))
    run = runs_folder / "student"
    assert {path.name for path in run.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6", "checkpoint-7"}
    train_run(values, checkpoint_steps=1)
    assert outcome(run) == outcome(whole)
    assert read_json(run / "result.json")["best_step"] == 4


def test_killed_after_the_result_is_finished(dropout_student: dict[str, Any], runs_folder: Path) -> None:
    whole = train_run(dropout_student | {"name": "whole"}, checkpoint_steps=1)
    killed_run(dropout_student, (Run, "drop_checkpoints", 10))
    run = runs_folder / "student"
    before = snapshot(run)
    train_run(dropout_student, checkpoint_steps=1)
    without_checkpoints = {name: file for name, file in before.items() if not name.startswith("checkpoint-")}
    assert snapshot(run) == without_checkpoints != before
    assert [outcome(run)[key] for key in ("weights", "metrics", "result")] == [
        outcome(whole)[key] for key in ("weights", "metrics", "result")
    ]


def test_resume_takes_the_optimizer_and_the_projections_along(teacher: Path) -> None:
    """With the last checkpoint far behind, all that was not in it would show."""
    whole = train_run(tiny.distill_values(name="whole"), checkpoint_steps=3)
    plan = plan_for(tiny.distill_values(), checkpoint_steps=3)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Student, "_clip", 6)
        tiny.train(plan)
    gc.collect()
    assert Run("student", plan.runs).checkpoints() == [4, 3]
    assert outcome(tiny.train(plan)) == outcome(whole)


# Refusals


def test_a_run_does_not_go_on_in_another_precision(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` may mean another one on the device that a requeued job gets."""
    plan = plan_for(tiny.distill_values(), checkpoint_steps=1, precision="auto")
    monkeypatch.setattr("palenka.training.plan.fast_precision", lambda device: "fp32")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Student, "_clip", 3)
        tiny.train(plan)
    gc.collect()
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("palenka.training.plan.fast_precision", lambda device: "bf16")
    with pytest.raises(UserError, match="trained in fp32 so far, but training.precision: auto means bf16") as refused:
        tiny.train(plan_for(tiny.distill_values(), checkpoint_steps=1, precision="auto"))
    del refused
    gc.collect()
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("palenka.training.plan.fast_precision", lambda device: "fp32")
    assert (tiny.train(plan_for(tiny.distill_values(), checkpoint_steps=1, precision="auto")) / "result.json").exists()


def test_changed_learning_rate_under_a_taken_name(
    teacher: Path,
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import distill

    run = train_run(tiny.distill_values())
    before = snapshot(run)
    config = str(write_config(tiny.distill_values()))
    monkeypatch.setattr("sys.argv", ["distill.py", "--config", config, "training.lr=0.5", "training.precision=fp32"])
    with pytest.raises(SystemExit) as ended:
        distill.main()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "this name is another run's; nothing was changed" in message
    assert "config.training.lr: 0.001 there, 0.5 here" in message
    assert "Traceback" not in message
    assert snapshot(run) == before


def test_changed_teacher_under_a_taken_name(teacher: Path, prepared: Path) -> None:
    train_run(tiny.distill_values())
    tiny.write_finished_run(teacher, tiny.GPT2, prepared / "tokenizer", seed=2)
    with pytest.raises(UserError, match="teachers.teacher"):
        train_run(tiny.distill_values())


def spoil_weights_after(step: int, patch: pytest.MonkeyPatch) -> None:
    """An infinite learning rate in that step: its loss is still finite."""
    student = palenka.training.student
    original = student.learning_rate
    patch.setattr(student, "learning_rate", lambda at, *rest: math.inf if at == step else original(at, *rest))


@pytest.mark.parametrize(
    "cadence", [{"checkpoint_steps": 2}, {"checkpoint_steps": 1, "eval_steps": 100, "logging_steps": 100}]
)
def test_loss_that_is_not_finite_ends_the_run(
    teacher: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch, cadence: dict[str, int]
) -> None:
    spoil_weights_after(4, monkeypatch)
    with pytest.raises(Diverged, match=r"is (nan|inf) at step (.|\n)*The checkpoint of step 4 is kept") as ended:
        train_run(tiny.distill_values(), **cadence)
    assert ended.value.code == 1
    run = runs_folder / "student"
    assert not (run / "result.json").exists()
    kept = [path for path in run.glob("checkpoint-*") if int(path.name.split("-")[1]) <= 4]
    assert sorted(kept) == sorted(run.glob("checkpoint-*")) != []
    for path in kept:
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(path / "distiller.safetensors").values())


def test_windows_are_the_plans(prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step trains on the next batch_size windows, over the end of an epoch too."""
    plan = plan_for(
        tiny.train_values(data={"name": "tiny", "seq_length": 16, "dev_samples": 16, "fraction": 0.05}), max_steps=10
    )
    assert plan.windows().epoch_size(0) < 80, "the run should see more than one epoch"
    seen = []
    forward = LossModule.forward

    def watched(self: LossModule, batch: Batch, *rest: Any) -> Any:
        seen.append(batch.input_ids.numpy().copy())
        return forward(self, batch, *rest)

    monkeypatch.setattr(LossModule, "forward", watched)
    run = tiny.train(plan)
    assert np.array_equal(np.concatenate(seen), plan.windows().batch(range(80))[0])
    assert records(run)[-1]["epoch"] > 1
