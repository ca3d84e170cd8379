"""What 24 trials over loss weights and the learning rate cost in a search's cohorts, against 24 runs of their own.

    python benchmarks/search.py --sampler random --precision fp32 --rounds 3 --out search.json
    python benchmarks/search.py --sampler tpe --precision fp32 --rounds 3        # which is given a quarter at once

Shapes, text and teachers are those of grid.py, at half of the published widths. The first cohort that the search
proposes and three of its trials alone take a step in turns, the first round left out: all cohorts, and all solo runs,
are alike in cost. The losses of these three have to be one by one what they are alone, in float32. FLOPs are the cost
model's. How long it takes to propose and claim a cohort, which is done once for all of its steps, is told beside.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from grid import CLOCKS, TIMED_DIVISOR, TIMED_SEQUENCES, TOLERANCE, cohort_of, machine, make_inputs, run_values, timed

from palenka.cli import command
from palenka.runs.directory import Run
from palenka.search.grid import cohort_flops
from palenka.search.search import Search
from palenka.search.space import SearchConfig
from palenka.training.plan import Plan

TRIALS, ALONE = 24, 3
AXES = {
    "objective.logit.weight": {"uniform": [0.1, 0.9]},
    "objective.hidden_state.weight": {"uniform": [0.1, 0.9]},
    "training.lr": {"log_uniform": [1e-4, 1e-3]},
}
OBJECTIVE = {"hard_target": {"weight": 1.0}, "logit": {"weight": 0.5}, "hidden_state": {"weight": 0.5}}
GOAL = 0.4


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", default="random", choices=("random", "quasi_random", "tpe"))
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp16", "fp32"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {f"PALENKA_{name}": str(Path(folder) / name.lower()) for name in ("DATA", "RUNS", "EVAL")}
        make_inputs(Path(folder), TIMED_DIVISOR)
        figures = measure(make_search(Path(folder), arguments.sampler, arguments.precision), arguments.rounds)
    print(table(figures))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def make_search(folder: Path, sampler: str, precision: str) -> Search:
    run = folder / "run.yaml"
    values = run_values(TIMED_DIVISOR, TIMED_SEQUENCES, precision) | {"name": "run", "objective": OBJECTIVE}
    run.write_text(yaml.safe_dump(values), encoding="utf-8")
    asked = {"name": "search", "run": str(run), "axes": AXES, "sampler": sampler, "trials": TRIALS}
    search = Search(SearchConfig.model_validate(asked), "benchmark")
    search.open()
    return search


def measure(search: Search, rounds: int) -> dict[str, Any]:
    """Seconds of a step of the first cohort and of each solo run, in turns, and what they come to for all trials."""
    started = time.perf_counter()
    plans = next(search.to_train())
    proposed = time.perf_counter() - started
    cohort, alone = cohort_of(plans, "cohort"), [cohort_of([plan], "alone") for plan in plans[:ALONE]]
    turns = [
        {"cohort": [timed(cohort, step)], "solo": [timed(one, step) for one in alone]} for step in range(rounds + 1)
    ]
    difference = largest_difference(plans[:ALONE])
    assert plans[0].precision != "fp32" or difference <= TOLERANCE, f"losses differ by {difference}"
    taken = {
        clock: {who: [pair[place] for turn in turns[1:] for pair in turn[who]] for who in ("cohort", "solo")}
        for place, clock in enumerate(CLOCKS)
    }
    return {
        "machine": machine(), "sampler": search.config.sampler, "precision": plans[0].precision, "cohort": len(plans),
        "seconds_to_propose": proposed, "largest_difference_of_losses": difference, "taken": taken,
        "ratios": {clock: ratio(found, len(plans)) for clock, found in taken.items()}
        | {"FLOPs": cohort_flops(plans) / sum(cohort_flops([plan]) for plan in plans)},
    }  # fmt: skip


def largest_difference(plans: list[Plan]) -> float:
    """Of any loss between a cohort and solo runs."""
    read = [
        [[each["loss"] for each in Run(plan.config.name, plan.runs / folder).read_log().records] for plan in plans]
        for folder in ("cohort", "alone")
    ]
    pairs = [pair for both in zip(*read, strict=True) for pair in zip(*both, strict=True)]
    return max(abs(one - other) for one, other in pairs)


def ratio(found: dict[str, list[float]], size: int) -> float:
    """Of a cohort to as many solo runs, by medians."""
    return statistics.median(found["cohort"]) / (size * statistics.median(found["solo"]))


def table(figures: dict[str, Any]) -> str:
    machine, size = figures["machine"], figures["cohort"]
    lines = [
        f"{machine['device']}, {machine['threads']} threads, load {machine['load'][0]:.1f}; {figures['precision']}",
        f"  {figures['sampler']}: {TRIALS} trials, {size} at once, proposed in {figures['seconds_to_propose']:.2f} s; "
        f"losses differ by at most {figures['largest_difference_of_losses']:.1e} from those of solo runs",
    ]
    for clock, found in figures["taken"].items():
        medians = {who: f"{statistics.median(of):.2f} ({min(of):.2f} to {max(of):.2f})" for who, of in found.items()}
        lines.append(f"  {clock} of a step: cohort of {size} {medians['cohort']}, solo {medians['solo']}")
    for what, value in figures["ratios"].items():
        met = "met" if value <= GOAL else "missed"
        lines.append(f"  {what}: {value:.3f} of {TRIALS} solo runs; at most {GOAL} is {met}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
