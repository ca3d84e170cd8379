"""A study's steps and their jobs, with stand-ins for sbatch and squeue; test_slurm.py submits one to a real SLURM."""

import contextlib
import json
import os
import platform
import pty
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import yaml
from made_items import PAIRS, write_pairs
from run_files import outcome
from shared_fixtures import Call, WriteConfig
from study_table import rows

from palenka import cli
from palenka.cluster.study import Study
from palenka.evaluation.models import EvaluatedModel
from palenka.runs.directory import Run
from palenka.search.grid import load_grid
from palenka.training.plan import make_plan
from palenka.training.recipes import Recipe
from palenka.training.schema import TrainConfig
from palenka.util.files import read_json, write_json
from palenka.util.paths import ROOT

Submit = Callable[..., tuple[int, str, str]]


class Queue:
    """Programs in place of SLURM's: what sbatch was told, and what squeue is to print."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.write("sbatch", 'printf "%s " "${@@Q}" >> "$0.calls"; echo >> "$0.calls"; wc -l < "$0.calls"')
        self.write("squeue", 'cat "$0.jobs"')
        self.write("scancel", 'echo "$@" >> "$0.calls"')
        self.holds()

    def write(self, name: str, command: str) -> None:
        (self.folder / name).write_text(f"#!/bin/bash\n{command}\n")
        (self.folder / name).chmod(0o755)

    def holds(self, *jobs: tuple[str, str], state: str = "PENDING") -> None:
        """Jobs of one state, as (id, name)."""
        lines = [f"{job}|{job.partition('_')[0]}|{state}|Priority|{name}\n" for job, name in jobs]
        (self.folder / "squeue.jobs").write_text("".join(lines))

    def submitted(self) -> dict[str, tuple[dict[str, str], list[str]]]:
        """By the job's name its options and its script with arguments, since the last call."""
        calls = self.folder / "sbatch.calls"
        lines = [shlex.split(line) for line in calls.read_text().splitlines()] if calls.exists() else []
        found = {}
        for words in lines:
            options = dict(word.removeprefix("--").split("=", 1) for word in words if re.match(r"--[a-z-]+=", word))
            script = next(index for index, word in enumerate(words) if word.endswith(".slurm"))
            found[options.pop("job-name")] = (options, [Path(words[script]).name, *words[script + 1 :]])
        return found


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: None) -> Queue:
    queue = Queue(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{queue.folder}:{os.environ['PATH']}")
    for name in ("PALENKA_SBATCH", "PALENKA_SBATCH_CPU", "PALENKA_SBATCH_EVAL"):
        monkeypatch.delenv(name, raising=False)
    return queue


@pytest.fixture
def study(prepared: Path, runs_folder: Path, write_config: WriteConfig, tmp_path: Path, monkeypatch: Any) -> Path:
    """A study of two baselines and a student of the run `teacher`, on the data `tiny`, which is prepared."""
    monkeypatch.setenv("PALENKA_EVAL", str(tmp_path / "items"))
    runs = [write_config(tiny.train_values(name=name), f"runs/{name}.yaml") for name in ("one", "two")]
    runs.append(write_config(tiny.distill_values(), "runs/student.yaml"))
    values = {"data": {"name": "tiny", "train": "a"}, "runs": [str(runs[0].parent)]}
    return write_config(values, "small.yaml")


@pytest.fixture
def submit(study: Path, queue: Queue, call: Call) -> Submit:
    """submit(*options) calls `palenka study`; returns exit code, output and errors."""
    return lambda *options: call(cli.main, ["study", str(study), *options])


@pytest.mark.slow
def test_the_shipped_studies_name_what_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATA", "RUNS", "EVAL"):
        monkeypatch.setenv(f"PALENKA_{name}", str(tmp_path / name))
    for file in (ROOT / "config" / "study").glob("*.yaml"):
        steps = Study(file.stem).steps()
        before: set[str] = set()
        for step in steps:
            assert set(step.needs) <= before, "after all that it needs"
            assert (ROOT / "scripts" / step.script).exists()
            assert not step.done
            before.add(step.name)
        assert steps[-1].name == f"report-{file.stem}" and set(steps[-1].needs) == before - {steps[-1].name}
        for step in steps:
            if step.script in ("train.slurm", "distill.slurm"):
                assert Recipe(ROOT / step.arguments[0], step.arguments[1:]).name == step.name
    needs = {step.name: step.needs for step in Study("strict-small").steps()}
    teachers = ("BabyLlama1-Teacher-GPT2-705M", "BabyLlama1-Teacher-Llama-360M")
    assert needs["PalenkaLlama1-58M"] == ("data-strict-small", *teachers)
    assert needs["GPT2-705M"] == ("data-strict-small",)


def test_what_is_missing_is_submitted_in_order(
    study: Path, submit: Submit, queue: Queue, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALENKA_SBATCH", "--comment='a b'")
    monkeypatch.setenv("PALENKA_SBATCH_CPU", "--gres=none")
    monkeypatch.setenv("PALENKA_SBATCH_EVAL", "--time=9")
    code, output, _ = submit()
    assert code == 0
    calls = queue.submitted()
    assert list(calls) == ["small-train", "student", "evaluate-one", "evaluate-two", "evaluate-student", "report-small"]
    assert all(options["comment"] == "a b" for options, _ in calls.values())
    options, words = calls["small-train"]
    assert options["array"] == "0-1" and "dependency" not in options and "gres" not in options
    assert [Path(word).name for word in words] == ["train.slurm", "one.yaml", "two.yaml"]
    assert calls["evaluate-two"][0]["dependency"] == "afterok:1_1"
    assert calls["evaluate-two"][1] == ["slurm-eval.slurm", "two"]
    assert calls["evaluate-student"][0]["dependency"] == "afterok:2" and "time" not in calls["student"][0]
    assert {calls[f"evaluate-{run}"][0]["time"] for run in ("one", "two", "student")} == {"9"}
    options, words = calls["report-small"]
    assert options["dependency"] == "afterany:1_0:1_1:2:3:4:5" and options["gres"] == "none"
    assert words == ["study.slurm", str(study), "report"]
    assert rows(output)["data-tiny"] == ["done"]
    assert rows(output)["evaluate-two"] == ["submitted", "4", "1_1"]
    assert output.splitlines()[-1] == "small: 8 steps, 7 submitted"


def test_a_damaged_run_is_shown_and_the_others_are_submitted(
    submit: Submit, queue: Queue, teacher: Path, runs_folder: Path
) -> None:
    (runs_folder / "two").mkdir()
    damaged = runs_folder / "two" / "identity.json"
    damaged.write_bytes(b"")
    code, output, _ = submit()
    assert code == 0
    assert f"\ntwo: {damaged}: damaged: the file is empty\n" in output
    states = {step: row[0] for step, row in rows(output).items()}
    assert states["two"] == "damaged" and states["evaluate-two"] == "not submitted"
    assert {states[step] for step in ("one", "student", "evaluate-one", "evaluate-student", "report-small")} == {
        "submitted"
    }
    assert not {"two", "evaluate-two"} & queue.submitted().keys()


def test_what_is_in_the_queue_is_not_submitted_again(submit: Submit, queue: Queue, teacher: Path) -> None:
    submit()
    names = list(queue.submitted())
    queue.holds(("1_0", names[0]), ("1_1", names[0]), *((str(i), name) for i, name in enumerate(names[1:], start=2)))
    code, output, _ = submit()
    assert output.splitlines()[-1] == "small: 8 steps, nothing to submit"
    assert rows(output)["evaluate-two"] == ["queued", "4", "1_1"]
    (queue.folder / "sbatch.calls").unlink()

    queue.holds(("1_0", names[0]), ("1_1", "somebody's other job with an old id"))
    _, output, _ = submit()
    assert "two" in queue.submitted() and "one" not in rows(output)["two"]
    assert queue.submitted()["evaluate-one"][0]["dependency"] == "afterok:1_0", "the job that runs already"


def test_a_waiting_report_is_made_to_wait_for_what_is_submitted_anew(
    submit: Submit, queue: Queue, teacher: Path
) -> None:
    submit()
    names = list(queue.submitted())
    queue.holds(("1_0", names[0]), ("2", "student"), ("4", "evaluate-two"), ("6", "report-small"))
    (queue.folder / "sbatch.calls").unlink()
    before, after = rows(submit("--dry-run")[1]), rows(submit()[1])
    assert before["report-small"][0] == "to submit" and before["student"][0] == "queued"
    assert list(queue.submitted()) == ["two", "evaluate-one", "evaluate-student", "report-small"]
    assert (queue.folder / "scancel.calls").read_text() == "--state=PENDING 6\n"
    jobs = "1_0:1:2:2:4:3"  # of one, two, student, and their evaluation
    assert queue.submitted()["report-small"][0]["dependency"] == f"afterany:{jobs}"
    assert after["report-small"][:2] == ["submitted", "4"] and after["evaluate-two"][:2] == ["queued", "4"]


def test_what_a_refusal_leaves_out_is_told(submit: Submit, queue: Queue, teacher: Path) -> None:
    """A site may let each user have few jobs."""
    queue.write("sbatch", '[ "$(ls "$0".* | wc -l)" -lt 2 ] || { echo too many >&2; exit 1; }; touch "$0.$$"; echo 77')
    code, output, errors = submit()
    assert code == 2 and "too many" in errors and "submit the rest by the same command later" in errors
    states = [rows(output)[step][0] for step in ("one", "student", "evaluate-one")]
    assert states == ["submitted", "submitted", "not submitted"]
    assert output.splitlines()[-1] == "small: 8 steps, 3 submitted"


def test_a_report_that_is_refused_anew_is_not_said_to_be_submitted(submit: Submit, queue: Queue, teacher: Path) -> None:
    submit()
    queue.holds(("6", "report-small"))
    queue.write("sbatch", "echo too many >&2; exit 1")
    code, output, _ = submit()
    assert code == 2 and rows(output)["report-small"][0] == "not submitted"
    assert output.splitlines()[-1] == "small: 8 steps, 0 submitted"


def test_words_of_a_site_are_no_job(submit: Submit, queue: Queue, teacher: Path) -> None:
    queue.write("sbatch", "echo; echo Welcome to the cluster; echo '12;name'")
    assert rows(submit()[1])["student"][1] == "12"
    queue.write("sbatch", "echo Welcome to the cluster")
    code, _, errors = submit("--only", "one")
    assert code == 2 and "expected the id of a job, got 'Welcome to the cluster'" in errors


def test_items_that_are_not_there_are_told(submit: Submit, queue: Queue, teacher: Path, tmp_path: Path) -> None:
    for task in ("blimp_filtered", "supplement_filtered"):
        (tmp_path / "items" / task).mkdir(parents=True)
    assert submit("--dry-run")[1].startswith("evaluation will do without ewok_filtered: no such items")


def test_only_a_run_with_what_it_needs(submit: Submit, queue: Queue, teacher: Path) -> None:
    submit("--only", "student")
    assert list(queue.submitted()) == ["student", "evaluate-student"]
    code, _, errors = submit("--only", "studemt")
    assert code == 2 and "did you mean 'student'" in errors


def test_a_dry_run_changes_nothing(submit: Submit, queue: Queue, teacher: Path, runs_folder: Path) -> None:
    before = sorted(path.name for path in runs_folder.iterdir())
    code, output, _ = submit("--dry-run")
    assert code == 0 and not queue.submitted()
    assert sorted(path.name for path in runs_folder.iterdir()) == before
    assert rows(output)["evaluate-student"] == ["to submit", "student"]


def test_text_that_is_not_there_is_told_before_a_job_looks_for_it(
    submit: Submit, queue: Queue, teacher: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "nothing"))
    code, _, errors = submit()
    assert code == 2 and "no such text" in errors and "palenka download a" in errors
    assert not queue.submitted()
    code, output, _ = submit("--dry-run")
    assert code == 0 and rows(output)["data-tiny"][0] == "to submit" and "but first" in output.splitlines()[-1]


def test_a_student_without_teachers_is_an_error(submit: Submit) -> None:
    code, _, errors = submit("--dry-run")
    assert code == 2 and "no run 'teacher' to learn from" in errors


def test_sbatchs_refusal_is_shown(submit: Submit, queue: Queue, teacher: Path) -> None:
    queue.write("sbatch", "echo invalid partition >&2; exit 1")
    code, _, errors = submit()
    assert code == 2 and "invalid partition" in errors


def test_done_is_what_belongs_to_the_study(
    study: Path, teacher: Path, runs_folder: Path, submit: Submit, queue: Queue, write_config: WriteConfig
) -> None:
    """A finished run, its evaluation by these very weights, and a report that is younger."""

    def done() -> list[str]:
        return [step.name for step in Study(str(study)).steps() if step.done]

    values = tiny.train_values(name="one")
    tiny.train(make_plan(TrainConfig.model_validate(values), "test"))
    assert done() == ["data-tiny", "one"]
    result = runs_folder / "one" / "evaluation" / "cross_entropy.json"
    write_evaluation("one", runs_folder)
    assert done() == ["data-tiny", "one", "evaluate-one"]
    write_json(result, {"identity": {"model": "other weights"}})
    assert done() == ["data-tiny", "one"]
    before = outcome(runs_folder / "one")
    write_config(tiny.train_values(name="one", seed=8), "runs/one.yaml")
    code, _, errors = submit()
    assert code == 2 and "this name is another run's" in errors and "config.seed" in errors
    assert outcome(runs_folder / "one") == before and not queue.submitted()


def test_a_run_is_evaluated_when_it_was_asked_in_each_way_that_it_learned(
    study: Path, teacher: Path, prepared: Path, runs_folder: Path, tmp_path: Path
) -> None:
    """By pairs in all three; text has a cross-entropy under each paradigm, and readers are predicted by each."""
    items = tmp_path / "items"
    write_pairs(items / "blimp_filtered", {"agreement": PAIRS["agreement"]})
    config = yaml.safe_load(study.read_text()) | {"tasks": ["blimp_filtered", "cross_entropy", "reading"]}
    study.write_text(yaml.safe_dump(config))
    (items / "reading").mkdir()
    folder = tiny.write_finished_run(runs_folder / "one", tiny.LLAMA, prepared / "tokenizer")
    (folder / "identity.json").unlink()
    (folder / "config.yaml").write_text("paradigm: {name: mix, rows: {mntp: 1, causal: 1}}\n")
    identity = {"identity": {"model": EvaluatedModel.find("one").fingerprint}}
    owed = ("blimp_filtered", "cross_entropy", "reading")
    for name in [*owed, *(f"causal/{name}" for name in owed), "fused/blimp_filtered"]:
        assert "evaluate-one" not in [step.name for step in Study(str(study)).steps() if step.done], f"without {name}"
        result = folder / "evaluation" / f"{name}.json"
        result.parent.mkdir(parents=True, exist_ok=True)
        write_json(result, identity)
    assert "evaluate-one" in [step.name for step in Study(str(study)).steps() if step.done]


@pytest.mark.slow
def test_a_report_is_done_while_nothing_that_it_shows_is_younger(study: Path, teacher: Path, runs_folder: Path) -> None:
    for name in ("one", "two", "student"):
        shutil.copytree(teacher, runs_folder / name)
        (runs_folder / name / "identity.json").unlink()
        write_evaluation(name, runs_folder)
    report = runs_folder / "small" / "report.html"
    report.parent.mkdir()
    report.touch()
    assert all(step.done for step in Study(str(study)).steps())
    os.utime(report, (0, 0))
    assert [step.name for step in Study(str(study)).steps() if not step.done] == ["report-small"]
    os.utime(report, (past := time.time() - 5, past))
    for result in runs_folder.rglob("evaluation/*.json"):
        os.utime(result, (0, 0))
    assert all(step.done for step in Study(str(study)).steps())
    (runs_folder / "one" / "evaluation" / "fused").mkdir()
    write_json(runs_folder / "one" / "evaluation" / "fused" / "blimp_filtered.json", {})
    assert [step.name for step in Study(str(study)).steps() if not step.done] == ["report-small"], "of another way"


def write_evaluation(run: str, runs: Path) -> None:
    (runs / run / "evaluation").mkdir()
    fingerprint = EvaluatedModel.find(run).fingerprint
    for name in ("cross_entropy", "samples"):
        write_json(runs / run / "evaluation" / f"{name}.json", {"identity": {"model": fingerprint}})


def test_a_grid_comes_with_its_finalists(
    study: Path, teacher: Path, runs_folder: Path, write_config: WriteConfig, submit: Submit, queue: Queue
) -> None:
    axes = {"objective.logit.weight": [0.1, 0.5], "objective.hidden_state.weight": [0.1, 0.5]}
    section = {"axes": axes, "finalists": {"count": 2}}
    file = write_config(tiny.distill_values(name="many") | {"grid": section}, "grid.yaml")
    values = yaml.safe_load(study.read_text()) | {"grid": {"config": str(file), "jobs": 3}}
    study.write_text(yaml.safe_dump(values))
    submit()
    calls = queue.submitted()
    grid = next(job for job, name in enumerate(calls, start=1) if name == "many")
    assert calls["many"] == ({"array": "0-2"}, ["grid.slurm", str(file)])
    for number in (1, 2):
        options, words = calls[f"many/finalist-{number}"]
        assert (options["array"], options["dependency"]) == (str(number), f"afterany:{grid}")
        assert words == ["train_gridsearch_finalist.slurm", str(file)]
    assert calls["evaluate-many/finalists"][0]["dependency"] == f"afterany:{grid + 1}:{grid + 2}"
    queue.holds((f"{grid}_0", "many"), (f"{grid}_2", "many"))
    assert rows(submit("--dry-run")[1])["many"] == ["queued", f"{grid}_0"]

    folder = runs_folder / "many"
    ranks = {"L0.5-H0.1": 1, "L0.1-H0.1": 2, "L0.5-H0.5": 3, "L0.1-H0.5": None}
    folder.mkdir()
    write_json(folder / "grid.json", {"cells": [{"cell": label, "rank": rank} for label, rank in ranks.items()]})
    (folder / "finalists" / "L0.1-H0.1").mkdir(parents=True)
    (folder / "finalists" / "L0.1-H0.1" / "result.json").touch()
    done = {step.name: step.done for step in Study(str(study)).steps()}
    assert (done["many"], done["many/finalist-1"], done["many/finalist-2"]) == (True, False, True)

    axes["objective.logit.weight"].append(0.9)
    write_config(tiny.distill_values(name="many") | {"grid": section}, "grid.yaml")
    assert not any(step.done for step in Study(str(study)).steps() if step.name.startswith("many")), "another grid"
    shutil.rmtree(folder / "finalists")
    grown = load_grid(file, [])
    trial = grown.plans["L0.5-H0.1"]
    Run(trial.config.name, runs_folder).open(trial.identity(), trial.resolved)
    changed = tiny.distill_values(name="many", seed=5) | {"grid": section}
    write_config(changed, "grid.yaml")
    code, _, errors = submit("--dry-run")
    assert code == 2 and "this name is another run's" in errors and "config.seed" in errors


def finished_trial(number: int) -> dict[str, Any]:
    """The best one in a search.json."""
    return {"number": number, "state": "finished", "rank": 1, "dev": {"cross_entropy": 3.25}}


def test_a_search_is_a_step_of_its_own(
    study: Path, teacher: Path, runs_folder: Path, write_config: WriteConfig, submit: Submit, queue: Queue
) -> None:
    """Its workers come after the teachers of the run that it varies, and it is done when each trial has an outcome."""
    run = write_config(tiny.distill_values(name="varied", teachers=[{"run": "teacher"}]), "varied.yaml")
    search = {"name": "sought", "run": str(run), "axes": {"seed": [1, 2]}, "sampler": "grid"}
    file = write_config(search, "search.yaml")
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | {"search": {"config": str(file), "jobs": 2}}))
    submit()
    assert queue.submitted()["sought"] == ({"array": "0-1"}, ["search.slurm", str(file)])

    def is_done() -> bool:
        return next(step.done for step in Study(str(study)).steps() if step.name == "sought")

    assert not is_done()
    trials = [finished_trial(0), {"number": 1, "state": "running"}]
    for state, done in (("running", False), ("diverged", True)):
        (runs_folder / "sought").mkdir(exist_ok=True)
        trials[1]["state"] = state
        write_json(runs_folder / "sought" / "search.json", {"name": "sought", "asked": 2, "trials": trials})
        assert is_done() == done


def test_the_data_step_prepares_the_demos_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Call) -> None:
    made = []
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PALENKA_EVAL", str(tmp_path / "items"))
    monkeypatch.setattr("palenka.commands.study.write_demo", lambda *folders: made.append(folders))
    monkeypatch.setattr("palenka.commands.study.prepare", lambda *arguments, **_: made.append(arguments))
    assert call(cli.main, ["study", "demo", "--step", "data"])[0] == 0
    text = tmp_path / "data" / "demo-text"
    assert made == [
        (text, tmp_path / "items" / "demo_pairs"),
        (text / "train", text / "dev", text / "test", "demo", 2000),
    ]


def test_the_data_step_holds_out_what_the_study_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Call, write_config: WriteConfig
) -> None:
    lines = [f"The cat number {number} sat on the mat." for number in range(100)]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "cats.txt").write_text("\n".join(lines))
    monkeypatch.setenv("PALENKA_CORPORA", str(tmp_path))
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    data = {"name": "cats", "train": "text", "dev_fraction": 0.1, "dev_from": "end", "vocab_size": 300}
    values = tiny.train_values()
    run = write_config(values | {"data": values["data"] | {"name": "cats"}}, "run.yaml")
    study = write_config({"data": data, "runs": [str(run)]}, "cats.yaml")
    code, _, errors = call(cli.main, ["study", str(study), "--step", "data"])
    assert code == 0, errors
    splits = read_json(tmp_path / "data" / "cats" / "prepared.json")["splits"]
    assert {name: split["words"] for name, split in splits.items()} == {"train": 90 * 8, "dev": 10 * 8}
    both = write_config({"data": data | {"dev": "text"}, "runs": [str(run)]}, "both.yaml")
    code, _, errors = call(cli.main, ["study", str(both)])
    assert code == 2 and "give either dev or dev_fraction" in errors


def test_an_unknown_study_is_named(call: Call) -> None:
    code, _, errors = call(cli.main, ["study", "strict-smal"])
    assert code == 2 and "did you mean 'strict-small'" in errors


def test_status_tells_where_runs_stand(
    prepared: Path, runs_folder: Path, queue: Queue, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PALENKA_LOG", "/logs/train-7.out")
    finished = tiny.train(make_plan(TrainConfig.model_validate(tiny.train_values(name="demo/finished")), "test"))
    half = shutil.copytree(finished, runs_folder / "half")
    (half / "result.json").unlink()
    lines = (half / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["step"] <= 2]
    (half / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    environment = read_json(half / "environment.json") | {"slurm_job_id": "9", "log": "/logs/train-9.out"}
    write_json(half / "environment.json", environment)
    (half / ".lock").write_text("process 0 on another machine")
    write_json(runs_folder / ".jobs.json", {"later": {"id": "11", "name": "later"}, "gone": {"id": "3", "name": "x"}})
    queue.holds(("9", "train"), ("11", "later"))

    code, output, _ = call(cli.main, ["status"])
    assert code == 0
    head, *table = [re.split(r"  +", line) for line in output.splitlines()]
    assert head == ["run", "state", "done", "loss", "dev", "tok/s", "left", "job", "log"]
    last = json.loads(kept[-1])
    by_name = {row[0]: row for row in table}
    assert by_name["demo/finished"][1:3] == ["finished", "100%"]
    assert by_name["demo/finished"][-2:] == ["7", "/logs/train-7.out"]
    assert by_name["half"][1:4] == ["pending (Priority)", "25%", f"{last['loss']:.4f}"]
    assert by_name["half"][-2:] == ["9", "/logs/train-9.out"]
    assert by_name["later"] == ["later", "pending (Priority)", "11", str(ROOT / "logs" / "later-11.out")]
    queue.holds()
    rows_now = {line.split()[0]: line.split()[1] for line in call(cli.main, ["status"])[1].splitlines()[2:]}
    assert rows_now == {"demo/finished": "finished", "half": "stopped"}
    assert "half" not in call(cli.main, ["status", "demo"])[1]
    code, _, errors = call(cli.main, ["status", "elsewhere"])
    assert code == 2 and "no run 'elsewhere'" in errors
    trials = [finished_trial(4), {"number": 5, "state": "running"}]
    write_json(runs_folder / "demo" / "search.json", {"name": "demo", "asked": 9, "trials": trials})
    line = "demo: 1 of 9 trials are done, 1 running; best 3.2500 nats per token, trial 004"
    for names in ([], ["demo"]):
        assert call(cli.main, ["status", *names])[1].splitlines()[-1] == line
    assert line not in call(cli.main, ["status", "half"])[1]


def test_one_damaged_run_does_not_hide_the_others(prepared: Path, runs_folder: Path, queue: Queue, call: Call) -> None:
    whole = tiny.train(make_plan(TrainConfig.model_validate(tiny.train_values(name="whole")), "test"))
    for name in ("identity.json", "result.json", "environment.json", "config.yaml", "metrics.jsonl"):
        folder = shutil.copytree(whole, runs_folder / f"without-{name}")
        (folder / name).write_bytes(b"\0" * 40)
    code, output, _ = call(cli.main, ["status"])
    assert code == 0
    states = {line.split()[0]: line.split()[1] for line in output.splitlines()[2:8]}
    records = ("identity.json", "result.json", "environment.json")
    assert {name for name, state in states.items() if state == "finished"} == {"whole", "without-metrics.jsonl"}
    damaged = {name for name, state in states.items() if state == "damaged"}
    assert damaged == {f"without-{name}" for name in (*records, "config.yaml")}
    for name in records:
        assert f"{runs_folder / f'without-{name}' / name}: damaged: holds NUL bytes\n" in output
    assert f"{runs_folder / 'without-config.yaml' / 'config.yaml'}: not valid YAML" in output
    assert f"{runs_folder / 'without-metrics.jsonl' / 'metrics.jsonl'}: line 1 is damaged" in output


def a_run_that_stopped(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Half of a run, as a job on another machine left it."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    half = tiny.train(make_plan(TrainConfig.model_validate(tiny.train_values(name="half")), "test"))
    (half / "result.json").unlink()
    (half / ".lock").write_text("process 0 on another machine")
    return half


def test_watching_tells_what_changes_until_nothing_goes_on(
    prepared: Path, runs_folder: Path, queue: Queue, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job waits, runs, and leaves the queue; nothing is said of a look that finds nothing new."""
    a_run_that_stopped(runs_folder, monkeypatch)
    states, slept = iter(("PENDING", "RUNNING", "GONE")), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        state = next(states)
        queue.holds(*([] if state == "GONE" else [("7", "train")]), state=state)

    queue.holds(("7", "train"))
    monkeypatch.setattr("palenka.cluster.watch.time", SimpleNamespace(sleep=sleep))
    code, output, _ = call(cli.main, ["watch", "half", "--every", "0.5"])
    assert code == 0 and slept == [0.5] * 3
    told = [re.fullmatch(r"half: (.+), 100%, dev \d\.\d{4}(, 0:00 left)?", line) for line in output.splitlines()]
    assert [found and found[1] for found in told] == ["pending (Priority)", "running", "stopped"]
    code, _, errors = call(cli.main, ["watch", "elsewhere"])
    assert code == 2 and "no run 'elsewhere'" in errors


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf"])
def test_between_two_looks_there_is_time(runs_folder: Path, call: Call, seconds: str) -> None:
    code, _, errors = call(cli.main, ["watch", f"--every={seconds}"])
    assert code == 2 and f"--every {seconds}: expected the seconds between two looks" in errors


def test_a_watched_report_is_loaded_again_until_nothing_goes_on(
    prepared: Path, runs_folder: Path, queue: Queue, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run_that_stopped(runs_folder, monkeypatch)
    page, pages = tmp_path / "report.html", []

    def sleep(seconds: float) -> None:
        pages.append(page.read_text(encoding="utf-8"))
        queue.holds()

    queue.holds(("7", "train"), state="RUNNING")
    monkeypatch.setattr("palenka.commands.report.time", SimpleNamespace(sleep=sleep))
    code, output, _ = call(cli.main, ["report", "half", "--out", str(page), "--watch"])
    assert code == 0 and "Report:" in output
    reload = '<meta http-equiv="refresh" content="10">'
    assert [reload in each for each in [*pages, page.read_text(encoding="utf-8")]] == [True, False]


@pytest.mark.slow
def test_on_a_terminal_a_table_is_watched(prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    half = a_run_that_stopped(runs_folder, monkeypatch)
    with subprocess.Popen(["sleep", "600"]) as holder:
        (half / ".lock").write_text(f"process {holder.pid} on {platform.node()}")
        shown, end = pty.openpty()
        watching = subprocess.Popen([sys.executable, "-m", "palenka", "watch", "--every", "0.2"], stdout=end, cwd=ROOT)
        os.close(end)
        text = b""
        while b"running here" not in text:
            text += os.read(shown, 65536)
        holder.kill()
    with contextlib.suppress(OSError):  # as a terminal ends whose programs have
        while part := os.read(shown, 65536):
            text += part
    assert watching.wait() == 0 and b"stopped" in text.rpartition(b"running here")[2]


def test_status_of_a_cohort_counts_the_time_of_all_its_students(
    prepared: Path, runs_folder: Path, queue: Queue, call: Call
) -> None:
    """Each one's speed is that in its own share of the time."""
    finished = tiny.train(make_plan(TrainConfig.model_validate(tiny.train_values(name="alone")), "test"))
    left = []
    for name in ("alone", "second", "third"):
        half = runs_folder / name
        if not half.exists():
            shutil.copytree(finished, half)
        (half / "result.json").unlink(missing_ok=True)
        record = {"split": "train", "step": 2, "tokens": 10_000, "loss": 1.0, "tokens_per_second": 100}
        (half / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        (half / ".lock").write_text("process 0 on another machine")
        shown = {line.split()[0]: line.split() for line in call(cli.main, ["status"])[1].splitlines()[2:]}
        left.append(shown["alone"][-1])
    assert left == ["5:00", "10:00", "15:00"]


def test_status_without_an_answer_of_slurm_shows_the_runs(runs_folder: Path, queue: Queue, call: Call) -> None:
    queue.write("squeue", "echo no controller >&2; echo try again >&2; exit 1")
    code, output, errors = call(cli.main, ["status"])
    assert (code, output) == (0, f"no runs in {runs_folder}, and none in the queue\n")
    [line] = errors.splitlines()
    assert line.startswith("the queue is not known: squeue ") and line.endswith(": no controller; try again")
