"""A share of the faults of docs/reliability.md, and whether their judges can say no: `make torture` is the whole.

It runs in a process of its own, which imports everything once and forks: pytest's has threads by now.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from torture import table
from torture.cases import VERDICTS
from torture.kills import phase, points
from torture.run import Result

from palenka.util.paths import ROOT

SECONDS = 900


@pytest.mark.usefixtures("processes")
def test_a_share_of_the_faults_is_met_as_promised(tmp_path: Path) -> None:
    """Judges are first shown programs that do everything wrong."""
    command = [ROOT / "tests" / "torture" / "run.py", "--fast", "--processes", "1", "--json", tmp_path / "results"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" program: ") == 20


def test_of_each_kind_of_change_one_is_a_kill() -> None:
    changes = ["mkdir runs/a", "open runs/a/checkpoint-1", "open runs/a/checkpoint-2", "open runs/a/result.json"]
    assert list(points(changes)) == [
        (1, "mkdir runs/a"), (3, "open runs/a/checkpoint-N"), (4, "open runs/a/result.json"),
    ]  # fmt: skip
    assert phase("open runs/a/.checkpoint-N.tmp/state.json") == "while a checkpoint is written"
    assert phase("rename runs/a/checkpoint-N to .checkpoint-N.doomed.tmp") == "while checkpoints are cleared away"


def result(fault: str, verdict: str, command: str = "train.py --config a.yaml") -> Result:
    return Result("kills", fault, "case", command, verdict, "", 1.0, "abc")


def test_the_table_counts_each_verdict(tmp_path: Path) -> None:
    results = [result("SIGKILL", "right"), result("SIGKILL", "loss", "palenka grid --config b"), result("a", "untried")]
    page = tmp_path / "page.md"
    page.write_text(f"Above.\n{table.BEGIN}\nold\n{table.END}\nBelow.\n")
    table.write(table.rows(results), "Today.", page)
    assert page.read_text().splitlines() == [
        "Above.", table.BEGIN, "Today.", "",
        "| fault | command | tried | right | silent wrong | traceback | loss | unclear |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| SIGKILL | `palenka grid`, `train.py` | 2 | 1 | 0 | 0 | 1 | 0 |",
        "| a | `train.py` | not tried here | 0 | 0 | 0 | 0 | 0 |",
        "| all | `palenka grid`, `train.py` | 2 | 1 | 0 | 0 | 1 | 0 |",
        table.END, "Below.",
    ]  # fmt: skip
    assert set(VERDICTS) > set(table.COLUMNS[3:])
    page.write_text("no table")
    with pytest.raises(SystemExit, match="expected one"):
        table.write([], "", page)
