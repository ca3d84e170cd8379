"""scripts/train.slurm on a real SLURM: a job submitted from anywhere becomes a finished run, interrupted or not."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
import tiny
from conftest import WriteConfig

from palenka.paths import ROOT

JOB_SECONDS = 600


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_cluster.Cluster]:
    """A SLURM of our own."""
    if reason := slurm_cluster.missing():
        pytest.skip(f"no SLURM here: {reason}")
    with slurm_cluster.running(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, with a space in its path and logs of its own."""
    folder = tmp_path_factory.mktemp("home") / "a checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("palenka", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "train.py", folder)
    # SLURM's job starts the checkout's own interpreter.
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / ".venv" / "bin" / "python").chmod(0o755)
    return folder


def test_a_job_with_two_gpus_trains_a_run_to_its_end_in_two_processes(
    cluster: slurm_cluster.Cluster,
    checkout: Path,
    prepared: Path,
    runs_folder: Path,
    write_config: WriteConfig,
    tmp_path: Path,
) -> None:
    write_config(tiny.train_values(name="queued"), "elsewhere/run.yaml")
    settings = {"PALENKA_DATA": str(prepared.parent), "PALENKA_RUNS": str(runs_folder), "CUDA_VISIBLE_DEVICES": ""}
    submit = ("sbatch", "--parsable", "--job-name=small", "--gres=gpu:2", str(checkout / "scripts" / "train.slurm"))
    job_id = cluster.run(*submit, "run.yaml", "seed=3", cwd=tmp_path / "elsewhere", **settings).strip()
    record = cluster.wait(job_id, JOB_SECONDS)

    log = checkout / "logs" / f"small-{job_id}.out"
    text = log.read_text(encoding="utf-8") if log.exists() else "no log"
    assert (record["JobState"], record["ExitCode"]) == ("COMPLETED", "0:0"), text
    header = dict(line.split(maxsplit=1) for line in text.splitlines()[:5])
    assert list(header) == ["job", "commit", "command", "node", "devices"]
    assert header["job"].startswith(f"{job_id}, start 1")
    assert header["command"] == "train.py --config run.yaml seed=3"
    assert header["devices"] == "2 GPUs, 1 CPUs"
    assert text.count("queued: finished") == 1
    assert json.loads((runs_folder / "queued" / "result.json").read_text())["steps"] == 8
    assert json.loads((runs_folder / "queued" / "environment.json").read_text())["slurm_job_id"] == job_id
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["run.yaml"]


def test_a_job_short_of_time_goes_back_to_the_queue_and_on_from_its_checkpoint(
    cluster: slurm_cluster.Cluster,
    checkout: Path,
    prepared: Path,
    runs_folder: Path,
    write_config: WriteConfig,
    tmp_path: Path,
) -> None:
    values = tiny.train_values(name="long")
    values["training"] |= {"max_steps": 2000, "eval_steps": 1000, "checkpoint_steps": 50, "logging_steps": 500}
    write_config(values)
    settings = {"PALENKA_DATA": str(prepared.parent), "PALENKA_RUNS": str(runs_folder), "CUDA_VISIBLE_DEVICES": ""}
    submit = ("sbatch", "--parsable", str(checkout / "scripts" / "train.slurm"), "run.yaml")
    job_id = cluster.run(*submit, cwd=tmp_path, **settings).strip()
    slurm_cluster.until(lambda: any((runs_folder / "long").glob("checkpoint-*")), JOB_SECONDS)
    cluster.run("scancel", "--batch", "--signal=USR1", job_id)  # what SLURM sends before the time limit
    record = cluster.wait(job_id, JOB_SECONDS)

    text = (checkout / "logs" / f"train-{job_id}.out").read_text(encoding="utf-8")
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "1"), text
    before, after = text.split("interrupted: back to the queue")
    assert f"{job_id}, start 1" in before and f"{job_id}, start 2" in after
    assert "long: goes on from step" in after
    assert json.loads((runs_folder / "long" / "result.json").read_text())["steps"] == 2000


def test_a_job_without_a_config_says_what_is_missing(
    cluster: slurm_cluster.Cluster, checkout: Path, tmp_path: Path
) -> None:
    job_id = cluster.run("sbatch", "--parsable", str(checkout / "scripts" / "train.slurm"), cwd=tmp_path).strip()
    record = cluster.wait(job_id, JOB_SECONDS)
    assert record["ExitCode"] == "2:0"
    assert "no CONFIG was given" in (checkout / "logs" / f"train-{job_id}.out").read_text(encoding="utf-8")
