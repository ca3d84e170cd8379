"""Every kind of run still gives what it gave: bit for bit on processors that have a record, else to rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from golden_runs import RECORDS, differing_runs, record_path

from palenka.util.paths import ROOT


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, processes: None) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("golden") / "record.json"
    command = [sys.executable, str(Path(__file__).with_name("golden_runs.py")), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_losses_are_those_of_the_record_to_rounding(found: dict[str, Any], path: Path) -> None:
    """Adam turns a rounding of a gradient near 0 into a step of its own, so that a few digits are lost in six steps."""
    expected = json.loads(path.read_text(encoding="utf-8"))
    assert found["runs"].keys() == expected["runs"].keys()
    for name, run in found["runs"].items():
        for key in ("losses", "dev"):
            assert run[key] == pytest.approx(expected["runs"][name][key], rel=1e-3), name


def test_every_bit_is_that_of_this_processors_record(found: dict[str, Any]) -> None:
    if not record_path().exists():
        pytest.skip(f"no record of this processor; python tests/golden_runs.py writes {record_path().name}")
    expected = json.loads(record_path().read_text(encoding="utf-8"))
    if found["torch"] != expected["torch"]:
        pytest.skip(f"the record is of torch {expected['torch']}")
    assert differing_runs(found, expected) == []


def test_runs_that_differ_are_named(found: dict[str, Any]) -> None:
    other = json.loads(json.dumps(found))
    other["runs"]["dskd"]["losses"][3] += 1e-6
    other["runs"]["kd-gpt2"]["weights"] = "0" * 64
    assert differing_runs(found, other) == ["dskd: losses differ", "kd-gpt2: weights differ"]


def test_a_resumed_run_is_the_unbroken_one(found: dict[str, Any]) -> None:
    assert found["runs"]["resumed"] == found["runs"]["dskd"]
    assert found["runs"]["cohort/L0.5"] == found["runs"]["dskd"]
