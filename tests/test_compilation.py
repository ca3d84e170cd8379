"""Compiled parts of a step: the same training but for rounding, resumed as before; what happens without a compiler."""

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import terms
import tiny
import torch
from killing import Killed, kill_at
from rounding import assert_alike
from run_files import outcome, records
from trainings import plan_for, train_run

from palenka.data.batch import Batch
from palenka.training import compilation
from palenka.training.student import Student
from palenka.util import hardware
from palenka.util.errors import UserError

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
STUDENT = {**tiny.LLAMA, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def compiler() -> None:
    """What a test needs that compiles; to try it takes seconds."""
    if problem := hardware.compiler_problem(tiny.CPU):
        pytest.skip(f"compiling does not work here: {problem}")


def values(name: str, compiles: Any) -> dict[str, Any]:
    changed = tiny.distill_values(name=name, student=STUDENT)
    changed["training"] |= {"compile": compiles, "micro_batch_size": 4}
    return changed


@pytest.mark.usefixtures("compiler")
def test_a_compiled_training_is_the_same_but_for_rounding_and_resumes_bit_by_bit(teacher: Path) -> None:
    plain = train_run(values("plain", False))
    compiled = train_run(values("compiled", True))
    for ours, expected in zip(records(compiled, "train"), records(plain, "train"), strict=True):
        assert_alike(ours, expected, ("loss", "hard_target", "logit", "hidden_state", "grad_norm"))
    assert [r["loss"] for r in records(compiled, "dev")] == pytest.approx([r["loss"] for r in records(plain, "dev")])

    plan = plan_for(values("killed", True))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Student, "_clip", 7)
        tiny.train(plan)
    gc.collect()
    assert outcome(tiny.train(plan))["weights"] == outcome(compiled)["weights"]


@pytest.mark.usefixtures("compiler")
def test_students_that_differ_in_weights_share_what_is_compiled(teacher: Path) -> None:
    """More students than PyTorch would compile one function for: it would go on uncompiled, without a word."""
    torch.compiler.reset()
    limit = torch._dynamo.config.recompile_limit
    batch, labels = tiny.batch()
    counters = torch._dynamo.utils.counters
    counters.clear()
    for number in range(limit + 2):
        weights = {"logit": {"weight": 0.1 + number}, "hidden_state": {"weight": 1.0 + number}}
        plan = plan_for(values(f"trial-{number}", True) | {"objective": weights})
        tiny.trainer(plan).loss(Batch(batch, labels), terms.whole(labels))[0].backward()
        if number == 0:
            compiled = counters["stats"]["unique_graphs"]
    assert compiled > 0
    assert counters["stats"]["unique_graphs"] == compiled


@pytest.mark.parametrize(("wanted", "steps"), [(False, 10**7), ("auto", 8)])
def test_a_short_training_or_one_told_not_to_is_not_compiled(wanted: Any, steps: int, teacher: Path) -> None:
    plan = plan_for(values("run", wanted), max_steps=steps)
    assert not compilation.should_compile(plan, tiny.CPU, warns=True)


def test_a_long_training_is_compiled_where_a_compiler_is_at_hand_and_says_so_where_not(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(compilation.COMPILE_FROM, "cpu", 10**13)  # FLOPs that so small a model comes to
    plan = plan_for(values("long", "auto"), max_steps=10**7)
    monkeypatch.setattr(compilation, "compiler_problem", lambda device: None)
    assert compilation.should_compile(plan, tiny.CPU, warns=True)
    monkeypatch.setattr(compilation, "compiler_problem", lambda device: "no C++ compiler")
    assert not compilation.should_compile(plan, tiny.CPU, warns=False)
    assert capsys.readouterr().err == ""
    assert not compilation.should_compile(plan, tiny.CPU, warns=True)
    assert capsys.readouterr().err == "long: torch.compile unavailable, running eager: no C++ compiler\n"
    with pytest.raises(UserError, match="training.compile: true, but compiling does not work here: no C"):
        compilation.should_compile(plan_for(values("demanded", True)), tiny.CPU, warns=True)


@pytest.mark.usefixtures("processes")
def test_a_missing_compiler_is_noticed(tmp_path: Path) -> None:
    code = "import torch; from palenka.util import hardware; print(hardware.compiler_problem(torch.device('cpu')))"
    environment = {"CXX": str(tmp_path / "no-such-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True)
    assert done.stdout.strip() not in ("", "None"), done.stderr
