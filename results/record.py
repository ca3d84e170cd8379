"""Writes what finished runs of the study came to, each into results/study/NAME.json: `python results/record.py`.

With names, of these runs under `runs/sample/` alone. A record has what tables are made of and what repeats the run:

    run, arm, seed          of `kd-s1`: kd-s1, kd, 1
    commit, command, host   as the run's environment.json has them; the program by its name
    config                  as resolved
    steps, tokens, words, parameters, seconds
    flops                   student, teachers, trainings (of the teachers), by the matrix products of cost.json
    dev                     cross_entropy (nats a token), bits_per_byte, domains: {NAME: bits a byte}
    train_loss              mean cross-entropy of the last logged steps, a hundred or more
    scores                  {task, and its way unless causal: {accuracy (0…1), stderr, n, ties, floors,
                            subtasks: {NAME: accuracy}}}
"""

import re
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from palenka.report.figures import train_term
from palenka.report.results import Run, read_runs
from palenka.util.files import write_json
from palenka.util.paths import runs_root

HERE = Path(__file__).parent
LAST_STEPS = 100


def main() -> None:
    names = [f"sample/{name}" for name in sys.argv[1:]] or ["sample"]
    folder = runs_root() / "sample"
    for run in read_runs(names, tell=print):
        if run.result and run.cost and run.evaluations and run.folder.parent == folder:
            write_json(HERE / "study" / f"{run.folder.name}.json", record(run))
            print(run.folder.name)


def record(run: Run) -> dict[str, Any]:
    """Of a finished and evaluated run."""
    result, cost = run.result, run.cost
    assert result and cost
    name = run.name.split("/")[-1]
    last = [line for line in run.metrics if line["split"] == "train" and line["step"] > result.steps - LAST_STEPS]
    return {
        "run": name,
        "arm": re.sub(r"-s\d+$", "", name),
        "seed": run.seed,
        "commit": run.environment["commit"],
        "command": re.sub(r"^\S*/", "", run.environment["command"]),
        "host": {key: run.environment[key] for key in ("platform", "python", "torch", "transformers")},
        "config": run.config,
        "steps": result.steps,
        "tokens": result.tokens,
        "words": result.words,
        "parameters": result.parameters.model_dump(),
        "seconds": result.seconds,
        "flops": {"student": cost.student, "teachers": cost.teachers, "trainings": cost.of_trainings},
        "dev": {
            "cross_entropy": result.dev.cross_entropy,
            "bits_per_byte": result.dev.bits_per_byte,
            "domains": {domain: of.bits_per_byte for domain, of in result.dev.domains.items()},
        },
        "train_loss": mean(line[train_term(run)] for line in last),
        "scores": {
            task: {
                "accuracy": found.accuracy,
                "stderr": found.stderr,
                "n": found.n,
                "ties": found.ties,
                "floors": found.baselines,
                "subtasks": {subtask: of.accuracy for subtask, of in found.subtasks.items()},
            }
            for task, found in run.evaluations.items()
        },
    }


if __name__ == "__main__":
    main()
