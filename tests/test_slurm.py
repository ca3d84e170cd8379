"""The shipped job scripts on a real SLURM, with tiny models: to their end, interrupted in every way, on two nodes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import slurm_cluster
import tiny
import yaml
from run_files import outcome, records
from slurm_cluster import Cluster, until
from slurm_site import SECONDS, Place, is_back, long_config, write_checkout
from study_table import rows, submitted

from palenka.util.files import read_json
from palenka.util.paths import ROOT

NOBODY = "nobody"

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that other users may enter; pytest's are its own."""
    with tempfile.TemporaryDirectory(prefix="palenka-slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def cluster(public: Path) -> Iterator[Cluster]:
    """A SLURM of two nodes."""
    if reason := slurm_cluster.missing():
        pytest.skip(f"no SLURM here: {reason}")
    (public / "slurm").mkdir()
    with slurm_cluster.running(public / "slurm") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def place(public: Path, cluster: Cluster, prepared_once: Path) -> Place:
    return Place(public, cluster, prepared_once)


@pytest.fixture(scope="module")
def unbroken(place: Place) -> dict[str, Any]:
    """What becomes of the interrupted runs if nothing interrupts them."""
    command = (sys.executable, place.checkout / "train.py", "--config", long_config(place, "unbroken"))
    place.cluster.run(*command, **place.settings, PYTHONPATH=str(place.checkout), OMP_NUM_THREADS="1")
    return outcome(place.runs / "unbroken")


@pytest.fixture(scope="module", autouse=True)
def out_of_time(place: Place) -> str:
    """A job that SLURM signals after at most a minute, and that needs longer; submitted first, as it takes longest."""
    config = long_config(place, "out-of-time")
    arguments = (place.script("train.slurm"), config, "tracking.wandb.mode=offline")
    own = {f"WANDB_{kind}_DIR": str(place.folder / "wandb") for kind in ("CONFIG", "CACHE", "DATA")}
    return place.submit_slow("--time=3", "--job-name=slow", *arguments, seconds=0.12, **own)


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "scripts").glob("*.slurm")))
def test_slurm_accepts_it(place: Place, file: str) -> None:
    place.cluster.run("sbatch", "--test-only", place.script(file), "argument", cwd=place.folder)


def test_jobs_submitted_from_anywhere_train_their_runs(place: Place) -> None:
    """From the root, from scripts/, and from a folder that knows nothing of the repository, there with two GPUs."""
    elsewhere = place.folder / "else where"
    theirs = ("../a checkout/scripts/train.slurm", "run.yaml", "seed=3")
    for name in ("from-root", "from-scripts"):
        place.config(name)
    place.config("from-elsewhere", "else where/run.yaml")
    (place.checkout / "run.yaml").symlink_to(place.folder / "from-root.yaml")
    jobs = [
        place.submit("scripts/train.slurm", "run.yaml", cwd=place.checkout),
        place.submit("train.slurm", "../../from-scripts.yaml", cwd=place.checkout / "scripts"),
        place.submit("--gres=gpu:2", "--job-name=two/gpus", *theirs, cwd=elsewhere),
    ]
    for job, name in zip(jobs, ("train", "train", "two-gpus"), strict=True):
        place.ends(job, name)
    for run, job in zip(("from-root", "from-scripts", "from-elsewhere"), jobs, strict=True):
        assert read_json(place.runs / run / "result.json")["steps"] == 8
        assert read_json(place.runs / run / "environment.json")["slurm_job_id"] == job
    text = place.log(jobs[2], "two-gpus")
    header = dict(line.split(maxsplit=1) for line in text.splitlines()[:6])
    assert list(header) == ["job", "commit", "config", "node", "devices", "command"]
    assert header["job"].startswith(f"{jobs[2]}, start 1")
    assert header["config"] == f"two/gpus run.yaml seed=3, from {elsewhere}"
    assert header["devices"] == "2 GPUs, 1 CPUs a node"
    assert header["command"] == "train.py --config run.yaml seed=3"
    assert text.count("from-elsewhere: finished") == 1
    assert [path.name for path in elsewhere.iterdir()] == ["run.yaml"]
    assert not [job for job in jobs if (place.checkout / "logs" / f".starts-{job}").exists()]


def test_a_job_without_a_config_says_what_is_missing(place: Place) -> None:
    job = place.submit(place.script("train.slurm"))
    place.ends(job, state="FAILED", code="2:0")
    assert "no CONFIG was given" in place.log(job)


def test_a_failing_task_is_named_the_others_go_on_and_what_depends_on_it_is_cancelled(place: Place) -> None:
    baselines = place.checkout / "config" / "baseline"
    shutil.rmtree(baselines)
    for name in ("alpha", "gamma"):
        place.config(name, f"a checkout/config/baseline/{name}.yaml")
    place.config("beta", "a checkout/config/baseline/beta.yaml", lr=-1)
    items = place.folder / "evaluation" / "blimp_filtered" / "agreement.jsonl"
    items.parent.mkdir(parents=True)
    pair = {"sentence_good": "the cat sees a dog", "sentence_bad": "the cat see a dog", "UID": "agreement"}
    items.write_text(json.dumps(pair | {"linguistics_term": "agreement", "field": "syntax"}) + "\n")

    trained = place.submit("--array=0-2", "train_baselines.slurm", cwd=place.checkout / "scripts")
    after = ("--array=0-2", f"--dependency=aftercorr:{trained}")
    evaluated = place.submit(*after, place.script("eval-all_baselines.slurm"))
    for task, (run, code) in enumerate((("alpha", "0:0"), ("beta", "2:0"), ("gamma", "0:0"))):
        place.ends(f"{trained}_{task}", "train_baselines", "FAILED" if code == "2:0" else "COMPLETED", code)
        assert f"config/baseline/{run}.yaml" in place.log(f"{trained}_{task}", "train_baselines")
        if code == "0:0":
            place.ends(f"{evaluated}_{task}", "eval-all_baselines")
            assert read_json(place.runs / run / "evaluation" / "blimp_filtered.json")["n"] == 1
    assert "training.lr" in place.log(f"{trained}_1", "train_baselines")
    assert place.cluster.wait(f"{evaluated}_1", SECONDS)["JobState"] == "CANCELLED"


def test_a_grid_is_shared_by_an_array_and_its_best_trial_trained_anew(place: Place) -> None:
    place.ends(place.submit(place.script("train.slurm"), place.config("master")))
    student = tiny.distill_values(name="trials", teachers=[{"run": "master"}])
    finalists = {"count": 1, "overrides": {"training.max_steps": 10}}
    section = {"axes": {"objective.logit.weight": [0.1, 0.5, 1.0]}, "finalists": finalists, "tasks": []}
    (place.folder / "trials.yaml").write_text(yaml.safe_dump(student | {"grid": section}))

    trials = place.submit("--array=0-1", place.script("grid.slurm"), "trials.yaml")
    after = ("--array=1", f"--dependency=afterany:{trials}")
    finalist = place.submit(*after, place.script("train_gridsearch_finalist.slurm"), "trials.yaml")
    for task in ("0", "1"):
        place.ends(f"{trials}_{task}", "grid")
    place.ends(f"{finalist}_1", "finalist")
    found = [place.runs / "trials" / f"L{weight}" for weight in ("0.1", "0.5", "1")]
    assert [read_json(trial / "result.json")["steps"] for trial in found] == [8, 8, 8]
    losses = [read_json(trial / "result.json")["dev"]["cross_entropy"] for trial in found]
    best = found[losses.index(min(losses))].name
    assert [path.name for path in (place.runs / "trials" / "finalists").iterdir()] == [best]
    assert read_json(place.runs / "trials" / "finalists" / best / "result.json")["steps"] == 10
    assert "nats/token" in place.log(f"{finalist}_1", "finalist")


def test_the_workers_of_a_search_are_killed_preempted_and_lost_with_their_node(place: Place) -> None:
    """24 trials are asked for, and 24 there are, each trained once to its end."""
    run = place.config("searched", max_steps=40, eval_steps=20, checkpoint_steps=10)
    axes = {"training.lr": {"log_uniform": [1e-4, 1e-2]}}
    search = {"name": "search", "run": str(run), "axes": axes, "trials": 24}
    (place.folder / "search.yaml").write_text(yaml.safe_dump(search))
    script = place.script("search.slurm"), "search.yaml"
    array = place.submit_slow("--array=0-1", "--nodelist=n1", *script, seconds=0.05)
    other = place.submit_slow("--array=0-0", "--nodelist=n2", *script, seconds=0.05)
    jobs = [f"{array}_0", f"{array}_1", f"{other}_0"]
    until(lambda: all(trials_of(place, job) for job in jobs), SECONDS)
    killed = trials_of(place, jobs[0])[-1]
    os.kill(int((killed / ".lock").read_text().split()[1]), signal.SIGKILL)
    place.cluster.run("scancel", "--batch", "--signal=USR1", jobs[1])
    place.cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    until(lambda: place.cluster.job(jobs[2])["Restarts"] == "1", SECONDS)
    until(lambda: is_back(place.cluster, "n2"), SECONDS)
    ended = [place.cluster.wait(job, SECONDS) for job in jobs]
    found = [(record["JobState"], record["Restarts"]) for record in ended]
    assert found == [("FAILED", "0"), ("COMPLETED", "1"), ("COMPLETED", "1")]
    trials = [place.runs / "search" / f"trial-{number:03d}" for number in range(24)]
    assert sorted((place.runs / "search").glob("trial-*")) == trials
    record = read_json(place.runs / "search" / "search.json")
    assert [trial["state"] for trial in record["trials"]] == ["finished"] * 24
    for trial in trials:
        assert [record["step"] for record in records(trial, "dev")] == [20, 40]


def trials_of(place: Place, job: str) -> list[Path]:
    """The trials of a search that a job has begun, and left a checkpoint of."""
    number = place.cluster.job(job)["JobId"]  # a task has its own when it has started
    begun = sorted({path.parent for path in (place.runs / "search").glob("trial-*/checkpoint-*")})
    return [trial for trial in begun if read_json(trial / "environment.json")["slurm_job_id"] == number]


def test_each_task_of_an_array_is_interrupted_and_requeued_by_itself(place: Place, unbroken: dict[str, Any]) -> None:
    """The last one has the array's own id, which would requeue them all."""
    configs = [long_config(place, f"task-{task}") for task in range(2)]
    array = place.submit_slow("--array=0-1", place.script("train.slurm"), *configs)
    for task in range(2):
        place.checkpoint(f"task-{task}")
    last = next(task for task in range(2) if place.cluster.job(f"{array}_{task}")["JobId"] == array)
    place.cluster.run("scancel", "--batch", "--signal=USR1", f"{array}_{last}")
    for task in range(2):
        record = place.ends(f"{array}_{task}")
        assert record["Restarts"] == str(int(task == last))
        assert outcome(place.runs / f"task-{task}") == unbroken
    before, after = place.log(f"{array}_{last}").split("interrupted: back to the queue")
    interrupted, resumed = (re.search(r"(interrupted at|resuming from) step (\d+)", text) for text in (before, after))
    assert interrupted and resumed and interrupted[2] == resumed[2]


def test_a_killed_or_cancelled_job_submitted_again_goes_on(place: Place, unbroken: dict[str, Any]) -> None:
    jobs = {
        run: place.submit_slow(place.script("train.slurm"), long_config(place, run)) for run in ("killed", "cancelled")
    }
    for run in jobs:
        place.checkpoint(run)
    holder = (place.runs / "killed" / ".lock").read_text()
    os.kill(int(holder.split()[1]), signal.SIGKILL)
    place.cluster.run("scancel", jobs["cancelled"])
    place.ends(jobs["killed"], state="FAILED", code="137:0")
    assert place.cluster.wait(jobs["cancelled"], SECONDS)["JobState"] == "CANCELLED"
    assert "interrupted at step" in place.log(jobs["cancelled"])

    again = {run: place.submit(place.script("train.slurm"), f"{run}.yaml") for run in jobs}
    for run, job in again.items():
        place.ends(job)
        assert f"{run}: resuming from step" in place.log(job)
        assert outcome(place.runs / run) == unbroken


def test_two_nodes_train_one_run_and_are_interrupted_together(place: Place) -> None:
    config = place.config("two-nodes", max_steps=150, eval_steps=50, checkpoint_steps=10)
    job = place.submit_slow("--nodes=2", place.script("train.slurm"), config)
    place.checkpoint("two-nodes")
    nodes = {(variables["GROUP_RANK"], variables["WORLD_SIZE"]) for variables in processes_of(job)}
    assert nodes == {("0", "2"), ("1", "2")}
    place.cluster.run("scancel", "--batch", "--signal=USR1", job)
    assert place.ends(job)["Restarts"] == "1"
    text = place.log(job)
    assert "node     n[1-2]" in text
    assert "interrupted at step" in text.split("interrupted: back to the queue")[0]
    assert read_json(place.runs / "two-nodes" / "result.json")["steps"] == 150


def processes_of(job: str) -> Iterator[dict[str, str]]:
    """The environment of each process of a job that trains together with others."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            pairs = [pair.partition("=") for pair in path.read_text(errors="replace").split("\0")]
        except OSError:  # it has ended
            continue
        variables = {name: value for name, _, value in pairs}
        if variables.get("SLURM_JOB_ID") == job and "GROUP_RANK" in variables:
            yield variables


def test_a_preempted_job_comes_back_and_survives_its_node(place: Place, unbroken: dict[str, Any]) -> None:
    config = long_config(place, "preempted")
    job = place.submit_slow("--nodelist=n2", "--gres=gpu:1", place.script("train.slurm"), config, seconds=0.03)
    place.checkpoint("preempted")
    urgent = ("--partition=urgent", "--nodelist=n2", "--gres=gpu:2", "--output=/dev/null", "--wrap=true")
    place.cluster.wait(place.submit(*urgent), SECONDS)
    until(lambda: place.log(job).count("preempted: resuming from step") == 1, SECONDS)
    place.cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    until(lambda: place.cluster.job(job)["Restarts"] == "2", SECONDS)
    until(lambda: is_back(place.cluster, "n2"), SECONDS)
    assert place.ends(job)["Restarts"] == "2"
    assert "interrupted at step" in place.log(job)
    assert outcome(place.runs / "preempted") == unbroken


def test_another_user_trains_and_finds_the_log(place: Place) -> None:
    """One who may not write to the repository: the log is in the folder of submission."""
    home = place.folder / "home"
    home.mkdir()
    shutil.chown(home, NOBODY)
    packages = sysconfig.get_paths()["purelib"]
    python = python_for(NOBODY, packages)
    if python is None:
        pytest.skip(f"the user {NOBODY} may start no Python {sys.version_info.minor} with our packages")
    write_checkout(place.folder / "theirs", f'env PYTHONPATH="$PYTHONPATH:{packages}" {python}')
    place.config("theirs")
    settings = {"PALENKA_RUNS": str(home / "runs"), "HOME": str(home)}
    script = place.folder / "theirs" / "scripts" / "train.slurm"
    job = place.submit(script, place.folder / "theirs.yaml", cwd=home, user=NOBODY, **settings)
    record = place.cluster.wait(job, SECONDS)
    assert record["UserId"].startswith(NOBODY)
    assert record["JobState"] == "COMPLETED", (home / f"train-{job}.out").read_text()
    assert (home / "runs" / "theirs" / "result.json").exists()


def python_for(user: str, packages: str) -> str | None:
    """A Python that another user may start with these packages: ours may lie in a home folder."""
    for python in (sys.executable, "/usr/bin/python3"):
        imports = f"import sys, torch, accelerate; assert sys.version_info[:2] == {sys.version_info[:2]}"
        command = (python, "-c", imports)
        try:
            done = subprocess.run(command, user=user, cwd="/", env={"PYTHONPATH": packages}, capture_output=True)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


STUDY = """
data: {name: demo, demo_text: true, vocab_size: 2000}
runs: [config/demo/control.yaml, config/demo/student-kd.yaml]
grid: {config: config/demo/tiny-grid.yaml, jobs: 2}
tasks: [cross_entropy]
"""
GRID = """
base: [student-dskd.yaml]
name: demo/grid
evaluation: null
grid: {axes: {objective.logit.weight: [0.1, 0.5]}, finalists: {count: 1}, tasks: []}
"""


def test_a_study_is_submitted_to_its_report_and_again_only_what_is_missing(place: Place) -> None:
    shorten_demo(place.checkout / "config")
    site = 'export SBATCH_PARTITION=main\nPALENKA_SBATCH="--comment=ours"\nexport PALENKA_SBATCH\n'
    (place.checkout / "scripts" / "cluster.env").write_text(site)
    folders = {name: str(place.folder / "study") for name in ("PALENKA_DATA", "PALENKA_RUNS", "PALENKA_EVAL")}

    def submit(*options: str) -> str:
        script = place.checkout / "scripts" / "submit-study.sh"
        return place.cluster.run(script, "tiny", *options, cwd=Path("/"), **place.settings | folders)

    first = submit()
    assert "tiny: 13 steps, 13 submitted" in first
    jobs = submitted(first)
    needs = " ".join(jobs[step] for step in ("data-demo", "demo/teacher-gpt2", "demo/teacher-llama"))
    assert rows(first)["demo/student-kd"][2] == needs
    assert jobs["demo/teacher-gpt2"].partition("_")[0] == jobs["demo/control"].partition("_")[0], "one array"
    assert rows(first)["evaluate-demo/student-kd"][2] == jobs["demo/student-kd"]
    assert place.cluster.job(jobs["report-tiny"])["Comment"] == "ours"

    assert "tiny: 13 steps, nothing to submit" in submit()
    place.ends(jobs["report-tiny"], "report-tiny")
    report = place.folder / "study" / "tiny" / "report.html"
    shown = ("student-kd", "control", "teacher-llama", "grid/L0.1", "grid/L0.5", "grid/finalists/L0.")
    assert all(name in report.read_text(encoding="utf-8") for name in shown)
    assert {row[0] for row in rows(submit()).values()} == {"done"}

    student = place.folder / "study" / "demo" / "student-kd"
    shutil.rmtree(student)
    student.mkdir()
    (student / "notes.txt").write_text("not a run: its training will fail")
    jobs = submitted(submit())
    assert list(jobs) == ["demo/student-kd", "evaluate-demo/student-kd", "report-tiny"]
    place.ends(jobs["demo/student-kd"], "demo-student-kd", state="FAILED", code="2:0")
    assert place.cluster.wait(jobs["evaluate-demo/student-kd"], SECONDS)["JobState"] == "CANCELLED"
    place.ends(jobs["report-tiny"], "report-tiny", state="FAILED", code="1:0")
    assert "student-kd" not in report.read_text(encoding="utf-8")
    log = place.checkout / "logs" / f"demo-student-kd-{jobs['demo/student-kd']}.out"
    assert f"missing:\n  demo/student-kd, see {log}\n" in place.log(jobs["report-tiny"], "report-tiny")


def shorten_demo(config: Path) -> None:
    """The demo's data and models, and a few steps of training."""
    for path in (config / "demo").glob("*.yaml"):
        text = re.sub(r"max_steps: \d+", "max_steps: 12", path.read_text(encoding="utf-8"))
        path.write_text(re.sub(r"eval_steps: \d+", "eval_steps: 6", text), encoding="utf-8")
    (config / "study" / "tiny.yaml").write_text(STUDY)
    (config / "demo" / "tiny-grid.yaml").write_text(GRID)


def test_a_job_without_progress_stops(place: Place) -> None:
    """It is interrupted before it has left anything to go on from, again and again."""
    folder = place.folder / "stuck"
    write_checkout(folder, "sleep 600 #")
    job = place.submit(folder / "scripts" / "train.slurm", "some.yaml")
    log = folder / "logs" / f"train-{job}.out"
    for start in range(1, 4):
        until(partial(has_started, log, start), SECONDS)
        place.cluster.run("scancel", "--batch", "--signal=USR1", job)
    record, text = place.cluster.wait(job, SECONDS), log.read_text()
    assert (record["JobState"], record["Restarts"]) == ("FAILED", "3"), text
    assert text.count("interrupted: back to the queue") == 3
    assert "3 starts of this job have left no checkpoint" in text


def has_started(log: Path, times: int) -> bool:
    return log.exists() and log.read_text(encoding="utf-8").count("command  train.py") == times


def test_a_job_at_its_time_limit_goes_back_to_the_queue_and_on_bit_by_bit(
    place: Place, out_of_time: str, unbroken: dict[str, Any]
) -> None:
    record = place.ends(out_of_time, "slow")
    text = place.log(out_of_time, "slow")
    assert int(record["Restarts"]) >= 1
    assert text.count("interrupted: back to the queue") == int(record["Restarts"])
    assert f"{out_of_time}, start 2" in text
    run = place.runs / "out-of-time"
    names = [path.name for path in run.glob("wandb/offline-run-*/*.wandb")]
    assert {*names} == {f"run-{read_json(run / 'tracking.json')['wandb_id']}.wandb"}
    # A start that its limit reaches while it still sets up leaves no file of the tracker.
    assert 2 <= len(names) <= 1 + int(record["Restarts"])
    found = outcome(run)
    assert found | {"files": sorted({*found["files"]} - {"tracking.json", "wandb"})} == unbroken
