"""Fine-tuning by us and by the challenge's pipeline of 2025: how long it takes, and what comes of it.

    python benchmarks/finetuning.py RUN --checkout DIR --python .venv-finetuning/bin/python --data DIR --seeds 0,1,2

Both train the same classifier of the same causal model on the same files, take the last token, choose the epoch by the
reported file, and read as many tokens (`config/finetuning/2025-pipeline.yaml`); the pipeline is told so by
`--take_final --padding_side left`, and saves no weights. They take turns, task by task and seed by seed, on as many
threads. A call loads the model, reads the files, trains, evaluates and predicts; imports count for nobody. Beside the
wall time stands the processor's, which other work on the machine disturbs less. `--train-items` shortens the training
files. Each call is a JSON line in --out as soon as it ends; a table follows. The pipeline needs an environment:

    python -m venv .venv-finetuning
    .venv-finetuning/bin/python -m pip install transformers==4.51.3 torch==2.13.0 scikit-learn tqdm wandb
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

from palenka.cli import command
from palenka.finetuning.schema import Recipe
from palenka.finetuning.tasks import TASKS
from palenka.finetuning.texts import FOLDER
from palenka.runs.directory import find_run
from palenka.util.config import load
from palenka.util.paths import ROOT, evaluation_root
from palenka.util.tables import text_table
from palenka.util.text import percent

RECIPE = ROOT / "config" / "finetuning" / "2025-pipeline.yaml"
TIMED = """
import json, sys, time
{imports}
start, busy = time.perf_counter(), time.process_time()
{work}
print(json.dumps({{"seconds": time.perf_counter() - start, "processor": time.process_time() - busy}}))
"""
PIPELINE = TIMED.format(
    imports="import runpy\nimport evaluation_pipeline.finetune.trainer",
    work='runpy.run_module("evaluation_pipeline.finetune.run", run_name="__main__", alter_sys=True)',
)
PALENKA = TIMED.format(
    imports="import palenka.commands.finetune\nfrom palenka.cli import main", work="main(sys.argv[1:])"
)


def call(python: str, program: str, arguments: list[str], folder: Path, path: Path, threads: int) -> dict[str, float]:
    """Seconds of a call, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])}
    environment |= {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [python, "-c", program, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(
    model: Path, task: str, seed: int, settings: list[str], data: Path, folder: Path, threads: int
) -> dict[str, Any]:
    arguments = ["finetune", str(model), *settings, "--recipe", str(RECIPE), "--tasks", task, "--seeds", str(seed)]
    found = call(
        sys.executable, PALENKA, [*arguments, "--data", str(data), "--out", str(folder)], folder, ROOT, threads
    )  # fmt: skip
    [result] = folder.rglob(f"{task}/seed-{seed}.json")
    content = json.loads(result.read_text(encoding="utf-8"))
    return found | {"value": content["value"], "epoch": content["epoch"]}


def pipeline(
    model: Path, task: str, seed: int, recipe: Recipe, data: Path, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    keys, files = recipe.hyperparameters(task), data / FOLDER
    valid = str(files / f"{task}.valid.jsonl")
    arguments = [
        "--model_name_or_path", str(model), "--train_data", str(files / f"{task}.train.jsonl"), "--valid_data", valid,
        "--predict_data", valid, "--task", task, "--num_labels", str(TASKS[task].labels), "--batch_size",
        str(keys.batch_size), "--learning_rate", str(keys.lr), "--num_epochs", str(keys.num_epochs),
        "--sequence_length", str(recipe.max_length), "--results_dir", str(folder), "--metrics", "accuracy", "f1", "mcc",
        "--metric_for_valid", TASKS[task].metric, "--seed", str(seed), "--take_final", "--padding_side", "left",
    ]  # fmt: skip
    python, checkout = str(options.python.absolute()), options.checkout.absolute()
    found = call(python, PIPELINE, arguments, folder, checkout, options.threads)
    [result] = folder.rglob(f"{task}/results.txt")
    lines = dict(line.split(": ") for line in result.read_text(encoding="utf-8").splitlines())
    return found | {"value": float(lines[TASKS[task].metric])}


def shortened(data: Path, tasks: list[str], items: int | None, folder: Path) -> Path:
    """The files of tasks, with so many items to train on."""
    made = folder / "data" / FOLDER
    made.mkdir(parents=True)
    for task in tasks:
        for split in ("train", "valid"):
            name = f"{task}.{split}.jsonl"
            with (data / FOLDER / name).open(encoding="utf-8") as file:
                lines = list(islice(file, items if split == "train" else None))
            (made / name).write_text("".join(lines), encoding="utf-8")
    return made.parent


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a causal run or model folder")
    parser.add_argument("settings", nargs="*", metavar="key.path=value", help="of the recipe, for both")
    parser.add_argument("--checkout", type=Path, required=True, help="of the pipeline")
    parser.add_argument("--python", type=Path, required=True, help="its interpreter")
    parser.add_argument("--data", type=Path, default=evaluation_root(), help="evaluation data")
    parser.add_argument("--tasks", default="rte,mrpc,wsc")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--train-items", type=int, help="of each training file, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("finetuning.jsonl"))
    options = parser.parse_args()
    settings = [*options.settings, "attention=causal", "token=last"]
    recipe, model = load(RECIPE, settings, Recipe), find_run(options.model).absolute()
    tasks, rows = options.tasks.split(","), []
    with tempfile.TemporaryDirectory() as scratch, options.out.open("a", encoding="utf-8") as out:
        data = shortened(options.data, tasks, options.train_items, Path(scratch))
        for number, (seed, task) in enumerate((int(seed), task) for seed in options.seeds.split(",") for task in tasks):
            for who in ("palenka", "pipeline")[:: 1 if number % 2 else -1]:
                folder = Path(tempfile.mkdtemp(dir=scratch))
                if who == "palenka":
                    found = ours(model, task, seed, settings, data, folder, options.threads)
                else:
                    found = pipeline(model, task, seed, recipe, data, folder, options)
                rows.append({"who": who, "task": task, "seed": seed, **found})
                out.write(json.dumps(rows[-1]) + "\n")
                out.flush()
    print(table(rows, tasks))


def table(rows: list[dict[str, Any]], tasks: list[str]) -> str:
    shown = [["", "task", "wall, s", "ratio", "processor, s", "ratio", "metric, % by seed"]]
    for task in [*tasks, *(["all"] if len(tasks) > 1 else [])]:
        of_task = [row for row in rows if task in (row["task"], "all")]
        by = {who: [row for row in of_task if row["who"] == who] for who in ("pipeline", "palenka")}
        means = {who: {key: mean(row[key] for row in of) for key in ("seconds", "processor")} for who, of in by.items()}
        for who, of in by.items():
            cells = [f"{means[who][key]:.1f}" for key in ("seconds", "processor")]
            ratios = [f"{means[who][key] / means['pipeline'][key]:.2f}" for key in ("seconds", "processor")]
            values = " ".join(percent(row["value"]) for row in of) if task != "all" else ""
            shown.append([who, task, cells[0], ratios[0], cells[1], ratios[1], values])
    return text_table(shown, left=2)


if __name__ == "__main__":
    main()
