"""Benchmarks still run: what they measure is their own affair; that peers take the same step is shown here."""

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from made_items import write_lines

from palenka.data.published import FILES
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.tasks import read_task
from palenka.evaluation.tasks.choices import Choices
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


@pytest.mark.parametrize("year", ["2025", "2026"])
def test_made_items_of_a_year_are_what_its_protocol_reads(
    year: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    from year_items import Maker

    make = Maker([f"{noun}{number}" for number in range(100) for noun in tiny.NOUNS])
    rules = PROTOCOLS[year]
    folders = {rules.folder(task) for task in rules.tasks} - {"blimp_filtered", "supplement_filtered", "reading"}
    for folder in sorted(folders):
        for file in FILES[folder]:
            write_lines(tmp_path / folder / f"{file}.jsonl", islice(make.of(folder, file), 40))
        task = read_task(tmp_path / folder, year)
        assert isinstance(task, Choices)
        if folder == "entity_tracking" and not rules.nothing:
            assert 0 < len(task.items) < 40 * len(FILES[folder])
        else:
            assert len(task.items) == 40 * len(FILES[folder])
        assert np.mean([len(set(item.choices)) > 1 for item in task.items]) > 0.9


def test_a_gpu_is_known_by_the_name_that_cuda_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    from gpu_table import find_device

    names = {"NVIDIA H200": "H200", "NVIDIA A100-SXM4-80GB": "A100-80GB", "NVIDIA A100-PCIE-40GB": "A100-40GB",
             "NVIDIA H100 80GB HBM3": "H100", "NVIDIA A40": "A40", "NVIDIA GeForce RTX 4090": "RTX-4090",
             "Tesla T4": None}  # fmt: skip
    found = {name: find_device(name) for name in names}
    assert {name: device and device.name for name, device in found.items()} == names
    assert find_device(None) is None


def test_a_row_of_the_gpus_table_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # 9.89 TFLOP in 0.02 s are 494.5 TFLOP/s, half of what an H200's datasheet claims; predicted 0.025 s: 40 %.
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    from gpu_table import table

    peer = {"seconds": 0.02, "fastest": 0.019, "slowest": 0.03, "tokens_per_second": 204_800.0,
            "share_of_matrix_rate": 0.7, "peak_gib": 6.5}  # fmt: skip
    step = {"config": "c.yaml", "tokens": 4096, "flops": 9.89e12, "rounds": 10, "peers": {"palenka": peer},
            "machine": {"gpu": "NVIDIA H200", "torch": "2.13.0"}}  # fmt: skip
    predicted = {"seconds_per_step": {"student": 0.01, "teachers": 0.015}, "memory": {"students": 2**30, "kept": 2**31}}
    rows = table(step, {"devices": {"H200": predicted}}).splitlines()
    assert rows[-2] == "| palenka | 0.020 (0.019–0.030) | 204,800 | 50% | 70% | 6.50 |"
    assert rows[-1] == "| *predicted* | 0.025 | 163,840 | 40% | | 3.00 |"
