"""From the call to the first result: processor seconds of commands that start, this checkout against another.

    git worktree add ../before HEAD~10
    python benchmarks/start.py --other ../before --out start.json

What is measured is user and system time of the whole process, its threads too: the interpreter, imports, the work, and
the end. Other programs on the machine change it less than the time on the clock, but they do, by up to a half where
threads share a core: so the checkouts take turns. The first round writes the bytecode and warms the disk; it is not
timed. `status`, `compare` and `report` read the demo's runs (`make demo`), below PALENKA_RUNS if that is set. The
training goes into a folder that is removed: one step, with its dev loss and its export. `import numpy` and the like are
the limits below which what needs them cannot come.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from palenka.cli import command
from palenka.util.errors import UserError
from palenka.util.paths import ROOT, runs_root

PALENKA = ("-m", "palenka")
TRAIN = ("train.py", "--config", "config/demo/control.yaml", "evaluation=null", "training.max_steps=1", "name=timed")


@dataclass(frozen=True)
class Start:
    """A call of Python; `{folder}` in it is an empty folder, where its runs go if it trains."""

    name: str
    line: tuple[str, ...]
    trains: bool = False


STARTS = (
    Start("the interpreter", ("-c", "pass")),
    Start("import palenka", ("-c", "import palenka")),
    Start("import numpy", ("-c", "import numpy")),
    Start("import matplotlib.figure", ("-c", "import matplotlib.figure")),
    Start("palenka --help", (*PALENKA, "--help")),
    Start("palenka status", (*PALENKA, "status")),
    Start("palenka compare", (*PALENKA, "compare", "demo/control", "demo/student-kd")),
    Start("palenka report", (*PALENKA, "report", "demo", "--out", "{folder}/report.html")),
    Start("import torch", ("-c", "import torch")),
    Start("import PreTrainedModel", ("-c", "from transformers import PreTrainedModel")),
    Start("import train", ("-c", "import train")),
    Start("train.py, one step", TRAIN, trains=True),
)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, metavar="CHECKOUT", help="of another state of the repository")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="TEXT", help="starts in whose names it is")
    parser.add_argument("--out", type=Path, default=Path("start.json"))
    arguments = parser.parse_args()
    checkouts = {"here": ROOT} | ({"there": arguments.other.resolve()} if arguments.other else {})
    chosen = [start for start in STARTS if arguments.only in start.name]
    found = {start.name: measure(start, checkouts, arguments.rounds) for start in chosen}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


def measure(start: Start, checkouts: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each round, by checkout; they take turns. Prints a row of the table."""
    found: dict[str, list[float]] = {name: [] for name in checkouts}
    for _ in range(rounds + 1):
        for name, checkout in checkouts.items():
            found[name].append(processor_seconds(start, checkout))
    timed = {name: seconds[1:] for name, seconds in found.items()}
    print(f"{start.name:26}" + "".join(f"  {name} {described(seconds)}" for name, seconds in timed.items()), flush=True)
    return timed


def described(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):6.2f} s ({min(seconds):.2f}-{max(seconds):.2f})"


def processor_seconds(start: Start, checkout: Path) -> float:
    """User and system time of one process."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        line = [sys.executable, *(word.format(folder=folder) for word in start.line)]
        runs = folder if start.trains else str(runs_root())
        environment = os.environ | {"PYTHONPATH": str(checkout), "PALENKA_RUNS": runs, "HF_HUB_OFFLINE": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        process = subprocess.Popen(line, cwd=checkout, env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            said.seek(0)
            raise UserError(f"{start.name}: ended with status {status}: {said.read().decode(errors='replace')[-500:]}")
        return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
