"""What a step costs with one more term: training steps of several configs, taken in turns in one process.

    python benchmarks/term_cost.py config/cpu/control-3M.yaml config/cpu/student-kd-3M.yaml

Teachers have to be trained. Each config takes a step, then the next one; the first round is left out, and medians with
the spread are printed, one JSON line per config. The ratio is to the first config.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from palenka.cli import command
from palenka.runs.directory import Run
from palenka.training.cohort import side_by_side
from palenka.training.loop import Loop
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.training.session import Session
from palenka.util.config import compose


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="override keys of all configs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cohorts = [build(config, arguments.set, Path(folder)) for config in arguments.configs]
        seconds: list[list[float]] = [[] for _ in cohorts]
        for step in range(arguments.rounds + 1):
            for cohort, taken in zip(cohorts, seconds, strict=True):
                started = time.perf_counter()
                cohort.step(step)
                taken.append(time.perf_counter() - started)
    medians = [statistics.median(taken[1:]) for taken in seconds]
    for config, taken, median in zip(arguments.configs, seconds, medians, strict=True):
        spread = [round(min(taken[1:]), 3), round(max(taken[1:]), 3)]
        figures = {"seconds": round(median, 3), "spread": spread, "ratio": round(median / medians[0], 2)}
        print(json.dumps({"config": config.stem} | figures))


def build(config: Path, overrides: list[str], folder: Path) -> Loop:
    """A cohort of the config's one student, whose run directory is thrown away."""
    plan = load_plan(config, overrides, DistillConfig if "teachers" in compose(config) else TrainConfig)
    return side_by_side([Session(plan, Run(plan.config.name, folder))])


if __name__ == "__main__":
    main()
