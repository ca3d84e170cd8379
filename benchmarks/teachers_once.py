"""What six epochs cost a lone student whose teachers run once for each window, against teachers that run each time.

    python benchmarks/teachers_once.py --precision fp32 --states bf16 fp8 --out teachers_once.json

Shapes, text and teachers are those of grid.py, at half of the published widths, with BabyLlama's objectives. Steps of
the student whose teachers run, of one that keeps their states, and, the epoch over, reads them, are taken in turns; the
first of each kind is left out. Six epochs are one step that keeps and five that read, of six that run. The first step's
loss has to be the same but for the rounding of states. FLOPs are the cost model's.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from grid import CLOCKS, TIMED_DIVISOR, TIMED_SEQUENCES, cohort_of, machine, make_inputs, run_values, timed

from palenka.cli import command
from palenka.cost.estimate import flops_per_token
from palenka.runs.directory import Run
from palenka.training.plan import Plan, make_plan
from palenka.training.schema import DistillConfig

EPOCHS, GOAL = 6, 0.4
OBJECTIVE = {"hard_target": {"weight": 0.5}, "logit": {"weight": 0.5, "temperature": 2.0}}
TOLERANCE = {"bf16": 0.005, "fp8": 0.02}  # nats, of a loss of about 10


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp16", "fp32"))
    parser.add_argument("--states", nargs="+", default=["bf16"], choices=("bf16", "fp8"), help="of what is kept")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each kind that are timed")
    parser.add_argument("--divisor", type=int, default=TIMED_DIVISOR, help="of the published widths")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = ("DATA", "RUNS", "EVAL", "SIGNALS")
        os.environ |= {f"PALENKA_{name}": str(Path(folder) / name.lower()) for name in names}
        make_inputs(Path(folder), arguments.divisor)
        figures = [measure(arguments.divisor, arguments.precision, of, arguments.rounds) for of in arguments.states]
    print("\n\n".join(map(table, figures)))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def plan_of(divisor: int, precision: str, states: str | None, rounds: int) -> Plan:
    """On as much of the text as makes an epoch of one round more than are timed."""
    values = run_values(divisor, TIMED_SEQUENCES, precision) | {"name": f"kept-{states}", "objective": OBJECTIVE}
    values["data"] |= {"crop": "fixed", "fraction": 1.0}
    whole = make_plan(DistillConfig.model_validate(values), "benchmark").windows().epoch_size(0)
    values["data"]["fraction"] = round(TIMED_SEQUENCES * (rounds + 1) / whole, 6)
    cache = {} if states is None else {"teacher_cache": {"precision": states}}
    return make_plan(DistillConfig.model_validate(values | cache), "benchmark")


def measure(divisor: int, precision: str, states: str, rounds: int) -> dict[str, Any]:
    """Seconds of a step in turns, and what six epochs come to."""
    live, kept = (plan_of(divisor, precision, of, rounds) for of in (None, states))
    loops = {"live": cohort_of([live], f"live-{states}"), "kept": cohort_of([kept], "kept")}
    assert kept.kept_states is not None
    first, steps = kept.kept_states.windows, 0
    taken: dict[str, list[tuple[float, float]]] = {"live": [], "first": [], "later": []}
    while len(taken["later"]) < rounds + 1:
        positions = kept.course.positions(steps)
        kind = "first" if positions.stop <= first else "later" if positions.start >= first else ""
        for who, loop in loops.items():
            found = timed(loop, steps)
            if kind:
                taken[who if who == "live" else kind].append(found)
        steps += 1
    losses = [Run(plan.config.name, plan.runs / folder).read_log().records[0]["loss"]
              for plan, folder in ((live, f"live-{states}"), (kept, "kept"))]  # fmt: skip
    assert abs(losses[0] - losses[1]) <= TOLERANCE[states], f"first losses are {losses}"
    clocks = {
        clock: {kind: [each[place] for each in found[1:]] for kind, found in taken.items()}
        for place, clock in enumerate(CLOCKS)
    }
    return {
        "machine": machine(), "precision": live.precision, "states": states, "first_losses": losses,
        "bytes_a_token": kept.kept_states.token_bytes, "seconds": clocks,
        "ratios": {clock: six_epochs(found) for clock, found in clocks.items()} | {"FLOPs": flops(live, kept)},
    }  # fmt: skip


def six_epochs(found: dict[str, list[float]]) -> float:
    """Of a student whose teachers run once, to one whose teachers run each time, by medians."""
    live, first, later = (statistics.median(found[kind]) for kind in ("live", "first", "later"))
    return (first + (EPOCHS - 1) * later) / (EPOCHS * live)


def flops(live: Plan, kept: Plan) -> float:
    """The same of matrix products, by the cost model."""
    epochs = {"training": live.config.training.model_copy(update={"num_epochs": EPOCHS, "max_steps": None})}
    of_kept, of_live = (
        flops_per_token(make_plan(plan.config.model_copy(update=epochs), "benchmark")).of() for plan in (kept, live)
    )
    return of_kept / of_live


def table(figures: dict[str, Any]) -> str:
    machine = figures["machine"]
    lines = [
        f"{machine['device']}, {machine['threads']} threads, load {machine['load'][0]:.1f}; {figures['precision']}",
        f"  states in {figures['states']}: {figures['bytes_a_token']:,} bytes a token; losses of the first step "
        f"{figures['first_losses'][0]:.5f} and {figures['first_losses'][1]:.5f}",
    ]
    for clock, found in figures["seconds"].items():
        medians = [f"{kind} {statistics.median(of):.2f} ({min(of):.2f} to {max(of):.2f})" for kind, of in found.items()]
        lines.append(f"  {clock} of a step: {', '.join(medians)}")
    for what, value in figures["ratios"].items():
        met = "met" if value <= GOAL else "missed"
        lines.append(f"  {what}: six epochs cost {value:.3f} of those whose teachers run; at most {GOAL} is {met}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
