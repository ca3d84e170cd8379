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
