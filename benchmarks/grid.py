"""What a grid's 25 students cost as one cohort, against 25 runs of their own: seconds, peak memory, and equal losses.

    python benchmarks/grid.py --precision auto fp32 --rounds 5 --out grid.json

The shapes are those of PalenkaLlama1-58M and its teachers of 705M and 360M, with half of each width, of the vocabulary
and of the window, at full depth: so student, teachers' bodies and teachers' heads have their published shares of the
FLOPs of a token (17, 80 and 3 % in a solo run). Text and teachers' weights are random; nothing is fetched.

First, at an eighth, three trials of the cohort have to lose what they lose alone, in float32, step by step. Then a step
of the cohort and one of each of these solo runs take turns, the first round left out: solo runs are alike in cost, and
25 of them are taken to cost 25 times the median of these steps. CPU seconds are those of all threads, and depend less
on what else the machine does. Peaks are of processes of their own, above what is there before.
"""

import argparse
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from palenka.cli import command
from palenka.data.integrity import read_prepared
from palenka.data.prepare import prepare
from palenka.data.tokenizer import load_tokenizer, save_tokenizer
from palenka.models.config import ModelConfig
from palenka.models.huggingface import build_model, quiet_transformers
from palenka.runs.directory import Run
from palenka.search.grid import Grid
from palenka.search.schema import GridConfig
from palenka.training.cohort import side_by_side
from palenka.training.loop import Loop
from palenka.training.plan import Plan
from palenka.training.session import Session

VOCABULARY, CONTEXT = 16_000, 128
STUDENT = {
    "architecture": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 16,
    "num_attention_heads": 8,
}  # fmt: skip
TEACHERS = {
    "gpt2": {
        "architecture": "gpt2", "hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 24,
        "num_attention_heads": 16, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    },
    "llama": {
        "architecture": "llama", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 24,
        "num_attention_heads": 8,
    },
}  # fmt: skip
DIVIDED = ("hidden_size", "intermediate_size", "num_attention_heads")
WEIGHTS = [0.1, 0.3, 0.5, 0.7, 0.9]
TRIALS = len(WEIGHTS) ** 2
COMPARED = ("L0.1-H0.1", "L0.5-H0.5", "L0.9-H0.3")
TIMED_DIVISOR, TIMED_SEQUENCES = 2, 8
COMPARED_DIVISOR, COMPARED_SEQUENCES, COMPARED_STEPS, TOLERANCE = 8, 16, 50, 1e-5
CLOCKS = ("seconds", "CPU seconds")
GOAL = 0.3


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--precision", nargs="+", default=["auto"], choices=("auto", "bf16", "fp16", "fp32"), help="of the timings"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--stage", choices=("losses", "seconds", "peak"), help=argparse.SUPPRESS)
    parser.add_argument("--students", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        stages: dict[str, Callable[[], Any]] = {
            "losses": compare_losses,
            "seconds": lambda: time_steps(arguments.precision[0], arguments.rounds),
            "peak": lambda: peak_memory(arguments.precision[0], arguments.students),
        }
        print(json.dumps(stages[arguments.stage]()))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {f"PALENKA_{name}": str(Path(folder) / name.lower()) for name in ("DATA", "RUNS", "EVAL")}
        for divisor in (COMPARED_DIVISOR, TIMED_DIVISOR):
            make_inputs(Path(folder), divisor)
        figures = measure(arguments.precision, arguments.rounds)
    print(table(figures))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def divided(shape: dict[str, Any], divisor: int) -> dict[str, Any]:
    """A model that is narrower by so much, at full depth."""
    return {key: value // divisor if key in DIVIDED else value for key, value in shape.items()}


def make_inputs(folder: Path, divisor: int) -> None:
    """Text of random words that are as unequal as those of a language, and two untrained teachers."""
    chance = random.Random(0)
    words = ["".join(chance.choices("aeioubcdfghklmnprstvw", k=chance.randint(2, 9))) for _ in range(12_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    text = folder / f"text-{divisor}"
    for split, lines in (("train", 30_000), ("dev", 500)):
        (text / split).mkdir(parents=True)
        made = "\n".join(" ".join(chance.choices(words, weights, k=12)) for _ in range(lines))
        (text / split / f"made_up.{split}").write_text(made, encoding="utf-8")
    data = prepare(text / "train", text / "dev", None, f"made-up-{divisor}", VOCABULARY // divisor)
    tokenizer = load_tokenizer(data / "tokenizer")
    ids = {
        "vocab_size": read_prepared(data)["vocab_size"], "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    assert ids["vocab_size"] == VOCABULARY // divisor
    for name, shape in TEACHERS.items():
        teacher = Path(os.environ["PALENKA_RUNS"]) / f"{name}-{divisor}"
        with quiet_transformers():
            model = build_model(ModelConfig(**divided(shape, divisor)).hugging_face(ids), 0, torch.device("cpu"))
            model.save_pretrained(teacher)
        save_tokenizer(tokenizer, teacher)


def run_values(divisor: int, sequences: int, precision: str) -> dict[str, Any]:
    """A student of both teachers; only the first steps of its long training are taken."""
    return {
        "student": divided(STUDENT, divisor), "teachers": [{"run": f"{name}-{divisor}"} for name in TEACHERS],
        "data": {"name": f"made-up-{divisor}", "seq_length": CONTEXT // divisor, "dev_samples": 8},
        "training": {
            "lr": 2.5e-4, "batch_size": sequences, "max_steps": 10_000, "warmup_steps": 200, "weight_decay": 0.1,
            "logging_steps": 1, "precision": precision,
        },
        "objective": {"hard_target": {"weight": 1.0}},
    }  # fmt: skip


def make_grid(divisor: int, sequences: int, precision: str) -> Grid:
    """The study's grid in small."""
    axes = {"objective.logit.weight": WEIGHTS, "objective.hidden_state.weight": WEIGHTS}
    values = run_values(divisor, sequences, precision) | {"name": f"grid-{divisor}-{precision}", "grid": {"axes": axes}}
    return Grid(GridConfig.model_validate(values), "benchmark")


def cohort_of(plans: Sequence[Plan], folder: str) -> Loop:
    """Students side by side, with run directories in a folder of their own."""
    runs = plans[0].runs / folder
    return side_by_side([Session(plan, Run(plan.config.name, runs)) for plan in plans])


def compare_losses() -> dict[str, Any]:
    """The largest difference of any loss of the compared trials between cohort and solo runs, in float32."""
    grid = make_grid(COMPARED_DIVISOR, COMPARED_SEQUENCES, "fp32")
    cohorts = [cohort_of(list(grid.plans.values()), "cohort")]
    cohorts += [cohort_of([grid.plans[label]], "alone") for label in COMPARED]
    for cohort in cohorts:
        for step in range(COMPARED_STEPS):
            cohort.step(step)
    runs = {label: grid.plans[label].config.name for label in COMPARED}
    losses = {
        (folder, label): [record["loss"] for record in Run(name, grid.folder.parent / folder).read_log().records]
        for folder in ("cohort", "alone")
        for label, name in runs.items()
    }
    assert all(len(found) == COMPARED_STEPS for found in losses.values())
    largest = max(
        abs(one - other)
        for label in COMPARED
        for one, other in zip(losses["cohort", label], losses["alone", label], strict=True)
    )
    assert largest <= TOLERANCE, f"losses differ by {largest}"
    ends = {label: [round(losses["alone", label][place], 4) for place in (0, -1)] for label in COMPARED}
    return {"largest_difference": largest, "steps": COMPARED_STEPS, "first_and_last_loss": ends}


def time_steps(precision: str, rounds: int) -> dict[str, Any]:
    """Seconds of a step of the cohort, and of each solo run, in turns."""
    grid = make_grid(TIMED_DIVISOR, TIMED_SEQUENCES, precision)
    cohort = cohort_of(list(grid.plans.values()), "cohort")
    solo = [cohort_of([grid.plans[label]], "alone") for label in COMPARED]
    together, alone = [], []
    for step in range(rounds + 1):
        together.append([timed(cohort, step)])
        alone.append([timed(one, step) for one in solo])
    taken = {"cohort": together[1:], "solo": alone[1:]}
    found = {
        clock: {who: [pair[place] for turn in turns for pair in turn] for who, turns in taken.items()}
        for place, clock in enumerate(CLOCKS)
    }
    return {"precision": next(iter(grid.plans.values())).precision, **found}


def timed(cohort: Loop, step: int) -> tuple[float, float]:
    """Seconds that pass, and CPU seconds of this process."""
    started = time.perf_counter(), time.process_time()
    cohort.step(step)  # its record reads a figure, and so waits for the device
    return time.perf_counter() - started[0], time.process_time() - started[1]


def peak_memory(precision: str, students: int) -> dict[str, float]:
    """Bytes that so many students take at the peak of their second step, above what the process had before."""
    grid = make_grid(TIMED_DIVISOR, TIMED_SEQUENCES, precision)
    before = resident("VmRSS")
    cohort = cohort_of(list(grid.plans.values())[:students], f"peak-{students}")
    for step in range(2):
        cohort.step(step)
    return {"bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident("VmHWM") - before}


def resident(name: str) -> int:
    """Memory of this process, in bytes; VmHWM is its highest."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def measure(precisions: Sequence[str], rounds: int) -> dict[str, Any]:
    """All stages, each in a process of its own: accelerate keeps the first precision that it is given."""
    return {
        "machine": machine(),
        "losses": stage("losses"),
        "costs": [measure_cost(precision, rounds) for precision in precisions],
    }


def measure_cost(precision: str, rounds: int) -> dict[str, Any]:
    seconds = stage("seconds", "--precision", precision, "--rounds", str(rounds))
    peaks = {n: stage("peak", "--precision", precision, "--students", str(n))["bytes"] for n in (1, TRIALS)}
    for clock in CLOCKS:
        for name, choose in (("medians", statistics.median), ("minima", min)):
            cohort, solo = (choose(seconds[clock][who]) for who in ("cohort", "solo"))
            seconds[clock][f"ratio_of_{name}"] = cohort / (TRIALS * solo)
    return seconds | {"peak_bytes": peaks}


def stage(name: str, *options: str) -> Any:
    command_line = [sys.executable, __file__, "--stage", name, *options]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else (cpu[1] if cpu else "CPU"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "platform": platform.platform(),
        "torch": torch.__version__,
    }


def table(figures: dict[str, Any]) -> str:
    machine, losses = figures["machine"], figures["losses"]
    return "\n".join([
        f"{machine['device']}, {machine['threads']} threads, load {machine['load'][0]:.1f}",
        f"  losses of {', '.join(COMPARED)} over {losses['steps']} steps in float32: "
        f"cohort and solo runs differ by at most {losses['largest_difference']:.1e}",
        *(line for cost in figures["costs"] for line in rows(cost)),
    ])  # fmt: skip


def rows(cost: dict[str, Any]) -> Iterator[str]:
    def row(name: str, taken: list[float], times: int) -> str:
        median, low, high = (times * find(taken) for find in (statistics.median, min, max))
        return f"  {name:28}{median:>10.2f}{f'{low:.2f} to {high:.2f}':>20}"

    for clock in CLOCKS:
        found = cost[clock]
        yield f"  {f'{clock} of a step, ' + cost['precision']:28}{'median':>10}{'range':>20}"
        yield row(f"cohort of {TRIALS}", found["cohort"], 1)
        yield row("solo", found["solo"], 1)
        yield row(f"{TRIALS} solo", found["solo"], TRIALS)
        met = "met" if found["ratio_of_medians"] <= GOAL else "missed"
        medians, minima = found["ratio_of_medians"], found["ratio_of_minima"]
        yield f"  ratio {medians:.3f} of medians, {minima:.3f} of minima; at most {GOAL} is {met}"
    yield "  peak memory " + ", ".join(f"{size / 2**20:,.0f} MiB for {n}" for n, size in cost["peak_bytes"].items())


if __name__ == "__main__":
    main()
