"""Golden runs: the loss of every step and a checksum of the final weights, for each kind of run that there is.

    python tests/golden_runs.py                   # writes tests/golden/<processor>.json, from the code as it stands
    python tests/golden_runs.py --out FILE        # writes another file
    python tests/golden_runs.py --against FILE    # compares with a record made on the same kind of processor

Everything goes through the command lines that users call, on text and models made here, so that the same file records
any version of the code. Float32, one thread, fixed seeds. A processor's record is bit for bit that of all processors of
its kind; on another one only rounding differs.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
RECORDS = Path(__file__).parent / "golden"
Record = dict[str, Any]

GPT2 = {"architecture": "gpt2", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
LLAMA = {
    "architecture": "llama", "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2,
}  # fmt: skip
TEACHERS = [{"run": "gpt2-teacher"}, {"run": "llama-teacher", "weight": 0.5}]
KD = {"hard_target": {"weight": 1.0}, "logit": {"weight": 0.5}}
TRAINING = {
    "lr": 2e-3, "batch_size": 8, "micro_batch_size": 4, "max_steps": 6, "warmup_steps": 2, "weight_decay": 0.1,
    "eval_steps": 3, "logging_steps": 1, "precision": "fp32",
}  # fmt: skip
BASE = {"data": {"name": "golden", "seq_length": 24, "dev_samples": 24}, "training": TRAINING, "seed": 5}

BASELINES = {"gpt2-teacher": GPT2, "llama-teacher": LLAMA}
STUDENTS: dict[str, dict[str, Any]] = {
    "kd-llama": {"objective": KD},
    "kd-gpt2": {"student": GPT2, "objective": KD},
    "kd-sequence-sum": {"objective": KD | {"logit": {"weight": 0.1, "reduction": "sequence_sum"}}},
    "dskd": {"objective": KD | {"hidden_state": {"weight": 0.5}}},
    "contrastive": {"objective": KD | {"contrastive": {"weight": 0.1}}},
    "auxiliary": {"objective": KD | {"auxiliary": {"weight": 0.5}}},
    "relations": {"objective": KD | {"attention": {"weight": 1.0}, "value_relation": {"weight": 1.0}}},
}
GRID = {
    "name": "cohort",
    "objective": KD | {"hidden_state": {"weight": 0.5}},
    "grid": {"axes": {"objective.logit.weight": [0.1, 0.5]}, "finalists": {"count": 0}, "tasks": []},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the record (default: tests/golden/)")
    parser.add_argument("--against", type=Path, metavar="FILE", help="exit 1 unless every bit is that of this record")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        found = make_record(Path(folder))
    if parsed.against:
        differing = differing_runs(found, json.loads(parsed.against.read_text(encoding="utf-8")))
        print("\n".join(differing) or f"{len(found['runs'])} runs, bit for bit those of {parsed.against}")
        sys.exit(bool(differing))
    (parsed.out or record_path()).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def record_path() -> Path:
    """The record of processors like this one, whether or not it has been made."""
    return RECORDS / f"{processor()}.json"


def processor() -> str:
    """What decides which kernels run: vendor, family and model of the processor, and the vector unit in use."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [re.search(rf"^{key}\s*: (\S+)", cpuinfo, re.MULTILINE) for key in ("vendor_id", "cpu family", "model")]
    kind = "-".join(found[1] for found in names if found) or platform.machine()
    return f"{kind}-{torch.backends.cpu.get_cpu_capability()}"


def make_record(folder: Path) -> Record:
    """Train every run in an empty folder; {"torch", "runs": {name: {"losses", "dev", "weights"}}}."""
    os.environ |= {"PALENKA_DATA": str(folder / "data"), "PALENKA_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    _prepare(folder)
    for name, model in BASELINES.items():
        _call("train.py", _config(folder, BASE | {"name": name, "model": model}))
    for name, changes in STUDENTS.items():
        _call("distill.py", _config(folder, _student(name) | changes))
    _call("-m", "grid", _config(folder, _student("cohort") | GRID))
    _interrupted(folder)
    _two_processes(folder)
    names = sorted(str(path.parent.relative_to(folder / "runs")) for path in folder.rglob("result.json"))
    return {"torch": torch.__version__, "runs": {name: _of_run(folder / "runs" / name) for name in names}}


def differing_runs(found: Record, expected: Record) -> list[str]:
    """A line for each run that is not that of the record."""
    names = sorted({*found["runs"], *expected["runs"]})
    return [
        f"{name}: {key} differ"
        for name in names
        for key in ("losses", "dev", "weights")
        if found["runs"].get(name, {}).get(key) != expected["runs"].get(name, {}).get(key)
    ]


def _student(name: str) -> dict[str, Any]:
    return BASE | {"name": name, "student": LLAMA, "teachers": TEACHERS}


def _prepare(folder: Path) -> None:
    for split, size in (("train", 600), ("dev", 120)):
        (folder / split).mkdir()
        (folder / split / f"tales.{split}").write_text(_text(split, size), encoding="utf-8")
    _call("-m", "prepare", "--train", folder / "train", "--dev", folder / "dev", "--name", "golden",
          "--vocab-size", "320")  # fmt: skip


def _text(seed: str, sentences: int) -> str:
    chance = random.Random(seed)
    nouns = ("goat", "miller", "river", "well", "bell", "fox", "hen", "farmer", "lantern", "child")
    verbs = ("sees", "hears", "follows", "paints", "feeds", "greets")
    lines = [
        f"The {chance.choice(nouns)} {chance.choice(verbs)} a {chance.choice(nouns)}." if n % 20 else ""
        for n in range(sentences)
    ]
    return "\n".join(lines) + "\n"


def _config(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / f"{values['name'].replace('/', '-')}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def _call(*arguments: str | Path) -> None:
    """A program or a subcommand, in this process, which has everything imported already."""
    with _arguments(arguments):
        if arguments[0] == "-m":
            runpy.run_module("palenka", run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")


@contextlib.contextmanager
def _arguments(arguments: tuple[str | Path, ...]) -> Iterator[None]:
    former = sys.argv
    program, *rest = map(str, arguments)
    options = ["--config", *rest] if rest and rest[0].endswith(".yaml") else rest
    if program == "-m":
        command, *rest = rest
        options = [command, *(["--config", *rest] if command == "grid" else rest)]
    sys.argv = [str(ROOT / program), *options]
    try:
        yield
    finally:
        sys.argv = former


def _interrupted(folder: Path) -> None:
    """A run that a signal stops as soon as it has a checkpoint, and that goes on by the same command."""
    config = _config(folder, _student("resumed") | {"objective": KD | {"hidden_state": {"weight": 0.5}}})
    command = [sys.executable, str(ROOT / "distill.py"), "--config", str(config), "training.checkpoint_steps=1"]
    process = subprocess.Popen(command, env=_environment(), stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((folder / "runs" / "resumed").glob("checkpoint-*")):
        pass
    process.terminate()
    process.wait()
    subprocess.run(command, env=_environment(), check=True, stderr=subprocess.DEVNULL)


def _two_processes(folder: Path) -> None:
    config = _config(folder, _student("two-processes") | {"objective": KD | {"hidden_state": {"weight": 0.5}}})
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, str(ROOT / "distill.py"), "--config", str(config)]
    subprocess.run(command, env=_environment(), check=True, stderr=subprocess.DEVNULL)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _of_run(run: Path) -> dict[str, Any]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    losses = {split: [each["loss"] for each in records if each["split"] == split] for split in ("train", "dev")}
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(run / "model.safetensors").items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return {"losses": losses["train"], "dev": losses["dev"], "weights": digest.hexdigest()}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
