"""A distillation method is one new file and one config: the README's own, added to a copy and trained."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from run_files import records

from palenka.objectives import ModelShape, ObjectiveConfig, TeacherShape
from palenka.util.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
METHOD = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
CONFIG = next(text for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "total_variation" in text)


def test_the_readmes_method_by_hand() -> None:
    names: dict[str, Any] = {}
    exec(METHOD, names)
    shape = TeacherShape(8, 2, 1, 2, share=1.0, layer_pairs=())
    term = names["TotalVariation"](ObjectiveConfig.model_validate({"weight": 1.0}), ModelShape(8, 2, 1, 2), [shape])
    student = torch.tensor([[0.0, 0.0], [2.0, 1.0]], requires_grad=True)
    teacher = torch.tensor([[0.25, 0.75], [0.0, 0.0]]).log()
    teacher[1] = student[1].detach()
    # The student gives each of two words 1/2, its teacher 1/4 and 3/4; then both agree.
    losses = term(student, [teacher], torch.tensor([0, 1]))
    torch.testing.assert_close(losses, torch.tensor([0.25, 0.0]))
    losses.sum().backward()
    assert student.grad is not None and student.grad[0].abs().sum() > 0


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The programs and the package, as a clone has them."""
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / "palenka", folder / "palenka", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "distill.py", folder)
    return folder


@pytest.mark.usefixtures("processes")
def test_a_method_added_as_one_file_is_trained_by_one_config(copy: Path, teacher: Path, runs_folder: Path) -> None:
    (copy / "palenka" / "objectives" / "total_variation.py").write_text(METHOD, encoding="utf-8")
    base = yaml.safe_dump(tiny.distill_values(objective={"hard_target": {"weight": 0.5}, "logit": {"weight": 0.5}}))
    (copy / "student-kd.yaml").write_text(base, encoding="utf-8")
    (copy / "student-variation.yaml").write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "distill.py", "--config", "student-variation.yaml"]
    done = subprocess.run(command, cwd=copy, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = records(runs_folder / "demo" / "student-variation", "train")
    assert all(0 < line["total_variation"] < 1 and "logit" not in line for line in lines)
    assert lines[-1]["loss"] == pytest.approx(0.5 * lines[-1]["hard_target"] + 0.5 * lines[-1]["total_variation"])
