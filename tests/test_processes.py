"""Runs as real processes: killed, locked, shared by two, ended by a bad loss, and read by an older transformers.

PALENKA_KILLS            how often the run is killed (default 4)
PALENKA_TRANSFORMERS_4   a Python with transformers 4.51, which must read every exported run
"""

import gc
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from killing import Killed, kill_at
from rounding import assert_alike
from run_files import outcome, records, snapshot
from safetensors.torch import load_file

from palenka.data.tokenizer import PROBES
from palenka.models.huggingface import build_model
from palenka.runs.directory import Run
from palenka.training.plan import make_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.training.student import Student
from palenka.util.paths import ROOT

KILLS = int(os.environ.get("PALENKA_KILLS", "4"))
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
SECONDS = 1200  # of patience with a busy machine
HERE = Path(__file__).parent
WriteConfig = Callable[..., Path]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Python on `arguments`, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error."""
    try:
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, errors


def distill(config: Path, *overrides: str) -> tuple[int, str]:
    return finish(start(ROOT / "distill.py", "--config", config, *overrides))


def student(**training: Any) -> dict[str, Any]:
    """A DSKD student with one matrix as embedding and head, in float32."""
    values = tiny.distill_values(student={**tiny.LLAMA, "tie_word_embeddings": True})
    return values | {"training": {**values["training"], "precision": "fp32", **training}}


# Killed


def latest_step(run: Path) -> int:
    """Step of the newest checkpoint, 0 without one."""
    steps = [int(path.name.removeprefix("checkpoint-")) for path in run.glob("checkpoint-*")]
    return max(steps, default=0)


def half_written(run: Path) -> list[str]:
    """Checkpoints that have no name yet."""
    return [path.name for path in run.glob(".checkpoint-*.tmp") if re.fullmatch(r"\.checkpoint-\d+\.tmp", path.name)]


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, f"ended before it was killed: {process.communicate()[1]}"
        time.sleep(0.0005)


def stop_while_writing(process: subprocess.Popen[str], run: Path) -> None:
    """Freeze the process at an instant when a checkpoint is being written."""
    while True:
        wait_until(lambda: half_written(run), process)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if half_written(run):
            return
        process.send_signal(signal.SIGCONT)


def kill_often(command: Sequence[str | Path], run: Path, kills: int, steps: int, seed: int = 0) -> list[str]:
    """Start the command and kill it, `kills` times over its `steps`; every second time while a checkpoint is written.

    Returns what each kill left, for people.
    """
    chance, moments = random.Random(seed), []
    for number in range(kills):
        begun = latest_step(run)
        goal = max(begun, number * steps // (kills + 1)) + chance.randint(1, 3)
        process = start(*command)
        wait_until(lambda goal=goal: latest_step(run) >= goal, process)
        if number % 2 == 0:
            stop_while_writing(process, run)
        else:
            time.sleep(chance.uniform(0, 0.1))
        process.kill()
        code, _ = finish(process)
        assert code == -signal.SIGKILL
        assert not (run / "result.json").exists()
        assert number % 2 or half_written(run)
        left = ", ".join(sorted(path.name for path in run.iterdir() if "checkpoint" in path.name))
        moments.append(f"kill {number + 1}: begun at step {begun}, left {left}")
    return moments


def test_killed_run_equals_the_unkilled_one(teacher: Path, write_config: WriteConfig, runs_folder: Path) -> None:
    steps = 12 * (KILLS + 1)
    config = write_config(student(max_steps=steps, eval_steps=5, checkpoint_steps=1, logging_steps=3))
    assert distill(config, "name=whole")[0] == 0
    command, run = (ROOT / "distill.py", "--config", config), runs_folder / "student"
    print("\n".join(kill_often(command, run, KILLS, steps)))
    code, errors = finish(start(*command))
    assert code == 0, errors
    assert "resuming from step" in errors
    assert outcome(run) == outcome(runs_folder / "whole")


# Two processes


HIDDEN_STATES_ALONE: dict[str, Any] = {
    "student": dict(tiny.LLAMA),
    "teachers": [{"run": "teacher", "layer_mapping": [[1, 1]]}],
    "objective": {"hidden_state": {"weight": 1.0}},
}


@pytest.mark.parametrize(
    ("changes", "untrained"),
    [({}, ()), (HIDDEN_STATES_ALONE, ("lm_head.", "model.norm.", "model.layers.1."))],
    ids=["all objectives", "a part of the student"],
)
def test_two_processes_train_as_one(
    teacher: Path, write_config: WriteConfig, runs_folder: Path, changes: dict[str, Any], untrained: tuple[str, ...]
) -> None:
    """Same batches, same means per token, same weights: to rounding, which a large Adam epsilon does not amplify."""
    values = student(micro_batch_size=2, adam_epsilon=1e-3, logging_steps=2) | changes
    values |= {"data": {"name": "tiny", "seq_length": 16, "dev_samples": 100}}
    config = write_config(values)
    one, two = runs_folder / "one", runs_folder / "two"
    code, errors = distill(config, "name=one", "training.micro_batch_size=8")
    assert code == 0, errors
    code, errors = finish(start(*TORCHRUN, HERE / "keep_ranks.py", "--config", config, "name=two"))
    assert code == 0, errors

    ranks = [load_file(two / f"rank-{rank}.safetensors") for rank in range(2)]
    assert any("projections" in name for name in ranks[0])
    assert ranks[0].keys() == ranks[1].keys()
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])

    plan = make_plan(DistillConfig.model_validate(values), "test")
    initial = build_model(plan.model, plan.config.seed, tiny.CPU).state_dict()
    weights = [load_file(run / "model.safetensors") for run in (one, two)]
    for name, tensor in weights[0].items():
        assert float((tensor - weights[1][name]).abs().max()) < 2e-7
        moved = float((tensor - initial[name]).abs().max())
        assert moved == 0 if name.startswith(untrained) else moved > 1e-5
    for single, double in zip(records(one), records(two), strict=True):
        assert single.keys() == double.keys()
        timing_free = [key for key in single if key not in ("tokens_per_second", "domains", "split")]
        assert_alike(single, double, timing_free)
        for name, domain in single.get("domains", {}).items():
            assert domain == pytest.approx(double["domains"][name], rel=1e-5)


# Refused and ended


def test_second_process_on_a_run_is_refused(teacher: Path, write_config: WriteConfig, runs_folder: Path) -> None:
    values = student()
    plan = make_plan(DistillConfig.model_validate(values), "test")
    holder = Run("student", plan.runs)
    holder.open(plan.identity(), plan.resolved)
    before = snapshot(runs_folder)
    code, errors = distill(write_config(values))
    assert code == 2
    assert f"another process is training this run (process {os.getpid()} on" in errors
    assert "Traceback" not in errors
    assert snapshot(runs_folder) == before


def test_loss_that_is_not_finite_ends_with_code_1(teacher: Path, write_config: WriteConfig, runs_folder: Path) -> None:
    code, errors = distill(write_config(student(lr=1e38)))
    assert code == 1
    assert "the loss is nan at step 2" in errors or "the loss is inf at step 2" in errors
    assert "Traceback" not in errors
    assert not (runs_folder / "student" / "result.json").exists()


# Damaged


def test_two_processes_pass_over_the_same_damaged_checkpoint(
    teacher: Path, write_config: WriteConfig, runs_folder: Path, fresh_accelerator: None
) -> None:
    values = student(max_steps=5, eval_steps=5, checkpoint_steps=1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed) as killed:
        kill_at(patch, Student, "_clip", 4)
        tiny.train(make_plan(DistillConfig.model_validate(values), "test"))
    del killed
    gc.collect()  # and with it the lock
    damaged = runs_folder / "student" / "checkpoint-3" / "optimizer.pt"
    damaged.write_bytes(damaged.read_bytes()[:100])
    code, errors = finish(start(*TORCHRUN, ROOT / "distill.py", "--config", write_config(values)))
    assert code == 0, errors
    assert errors.count(f"{damaged}: damaged: 100 bytes instead of") == 1
    assert "student: resuming from step 2" in errors
    assert (runs_folder / "student" / "result.json").exists()


# Read elsewhere


def test_exported_runs_load_in_transformers_4(prepared: Path, runs_folder: Path, write_config: WriteConfig) -> None:
    python = os.environ.get("PALENKA_TRANSFORMERS_4")
    if not python:
        pytest.skip("PALENKA_TRANSFORMERS_4 names no Python with transformers 4.51")
    runs = []
    for name, model in {
        "gpt2": tiny.GPT2,
        "llama": tiny.LLAMA,
        "tied": {**tiny.LLAMA, "tie_word_embeddings": True},
    }.items():
        values = tiny.train_values(name=name, model=dict(model))
        values["training"] |= {"precision": "fp32", "lr": 1e-2}
        runs.append(str(tiny.train(make_plan(TrainConfig.model_validate(values), "test"))))
    texts = runs_folder / "texts.json"
    texts.write_text(json.dumps(["The cat sees a dog.\nEvery farmer likes one river.", *PROBES]), encoding="utf-8")

    def read(interpreter: str) -> dict[str, Any]:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [interpreter, str(HERE / "read_runs.py"), str(texts), *runs]
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=SECONDS)
        answer: dict[str, Any] = json.loads(output.stdout)
        return answer

    here, there = read(sys.executable), read(python)
    assert there["version"].startswith("4.51.")
    for ours, theirs in zip(here["folders"], there["folders"], strict=True):
        assert ours["problems"] == theirs["problems"] == []
        assert ours["ids"] == theirs["ids"]
        assert torch.allclose(torch.tensor(ours["logits"]), torch.tensor(theirs["logits"]), rtol=0, atol=1e-4)
