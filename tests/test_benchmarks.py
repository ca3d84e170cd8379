"""Benchmarks still run: what they measure is their own affair; that peers take the same step is shown here."""

import sys
from pathlib import Path

import pytest
import torch

from palenka.util.paths import ROOT


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_step_of_the_product_and_of_its_peer_have_one_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    import step

    work = step.workload(ROOT / "config" / "demo" / "student-kd.yaml", [])
    cpu = torch.device("cpu")
    ours, plain = (step.stepper(peer, work, tmp_path, cpu) for peer in ("palenka", "plain float32"))
    for number in range(2):
        assert float(ours(number)) == pytest.approx(float(plain(number)), rel=step.AGREEMENT["float32"])
