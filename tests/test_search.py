"""Searches: each trial is an ordinary run, exactly as many as were asked for, whatever befalls the workers."""

import gc
import json
import math
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
from commands import Process, finish, start, wait_until
from killing import Killed, kill_at
from optuna.trial import TrialState
from run_files import outcome, records, snapshot
from shared_fixtures import Call, WriteConfig

import palenka.search.search
import palenka.training.cohort
from palenka import cli
from palenka.runs.directory import Run
from palenka.search.budget import flops_in_hours
from palenka.search.grid import cohort_flops
from palenka.search.record import is_done, search_table
from palenka.search.search import STARTS, Search, load_search
from palenka.search.space import SearchConfig
from palenka.search.storage import Trials
from palenka.training.loop import Judge, Loop
from palenka.training.plan import load_plan
from palenka.training.preemption import EXIT_INTERRUPTED, Interruption
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.training.session import Session
from palenka.training.student import Student
from palenka.util.config import load, read_yaml
from palenka.util.errors import UserError
from palenka.util.files import read_json
from palenka.util.paths import ROOT

Called = Callable[..., tuple[int, str, str]]
AXES: dict[str, Any] = {
    "training.lr": {"log_uniform": [1e-4, 1e-2]},
    "training.weight_decay": [0.0, 0.1],
}

pytestmark = pytest.mark.usefixtures("prepared")


def short(values: dict[str, Any]) -> dict[str, Any]:
    """Two steps, each evaluated."""
    return values | {"training": values["training"] | {"max_steps": 2, "eval_steps": 1}}


@pytest.fixture
def make(write_config: WriteConfig, runs_folder: Path) -> Callable[..., Path]:
    """make(run values, **keys of the search) writes both configs; the path of the search's."""

    def written(values: dict[str, Any] | None = None, **keys: Any) -> Path:
        run = write_config(values or short(tiny.train_values()), "the run.yaml")
        return write_config({"name": "study/search", "run": str(run), "axes": AXES, "trials": 3} | keys, "search.yaml")

    return written


@pytest.fixture
def run(call: Call, make: Callable[..., Path]) -> Called:
    """run(*arguments, **as make) calls `palenka search`."""

    def called(*arguments: str, **keys: Any) -> tuple[int, str, str]:
        return call(cli.main, ["search", "--config", str(make(**keys)), *arguments])

    return called


def search_record(runs: Path) -> dict[str, Any]:
    return read_json(runs / "study" / "search" / "search.json")  # type: ignore[no-any-return]


def states(runs: Path) -> list[str]:
    return [trial["state"] for trial in search_record(runs)["trials"]]


# What is refused before anything starts


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"axes": {"training.learning_rate": [1e-3]}}, "axes.training.learning_rate: 0.001 is not possible"),
        ({"axes": {"training.learning_rate": [1e-3]}}, "training.learning_rate: unknown key"),
        ({"axes": {"training.lr": {"uniform": [0, 1]}}}, "axes.training.lr: 0.0 is not possible"),
        ({"axes": {"training.optimizer.name": ["adamw", "mon"]}}, "unknown optimizer 'mon'; did you mean 'muon'?"),
        ({"axes": {"training.optimizer.adam_lr": [0.1]}}, "expected the name of a file in palenka/optimizers/"),
        ({"axes": {"teachers.0.weight": [1]}}, "teachers"),
        ({"overrides": {"training.lr": -1}}, "training.lr (command line)"),
        ({"run": "config/nowhere.yaml"}, "config/nowhere.yaml: no such file"),
        ({"sampler": "tpee"}, "sampler"),
        ({"axis": {}}, "axis (search.yaml): unknown key; did you mean 'axes'?"),
    ],
)
def test_wrong_searches_are_refused(run: Called, runs_folder: Path, keys: dict[str, Any], expected: str) -> None:
    code, _, errors = run(**keys)
    assert code == 2
    assert expected in re.sub(r"\([^ ]*/search\.yaml\)", "(search.yaml)", errors)
    assert list(runs_folder.iterdir()) == []


def test_a_conditional_axis_is_tried_where_it_applies(make: Callable[..., Path]) -> None:
    axes = {
        "training.optimizer.name": ["adamw", "muon"],
        "training.optimizer.adam_lr": {"log_uniform": [1e-4, 1e-2], "when": {"training.optimizer.name": "muon"}},
    }
    path = make(axes=axes)
    search = Search(SearchConfig(name="search", run=str(path.parent / "the run.yaml"), axes=axes, trials=9), "test")
    search._check_axes()


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_folder_is_one_searchs(run: Called, runs_folder: Path) -> None:
    code, _, _ = run("trials=1")
    assert code == 0
    before = snapshot(runs_folder)
    code, _, errors = run("seed=1", "axes={training.lr: [0.1]}")
    assert code == 2
    assert "study/search: this name is another search's; nothing was changed. It differs in" in errors
    assert "search.seed: not set there, 1 here" in errors
    changed = short(tiny.train_values(seed=8))
    code, _, errors = run(values=changed)
    assert (code, "config.seed: 7 there, 8 here" in errors) == (2, True)
    assert snapshot(runs_folder) == before
    code, output, _ = run("trials=2")
    assert (code, "2 of 2 trials are done" in output) == (0, True), "more trials may be asked for"


@pytest.mark.usefixtures("fresh_accelerator")
def test_the_best_value_may_be_written_into_the_run_before_the_search_is_over(run: Called) -> None:
    assert run("trials=1")[0] == 0
    tuned = short(tiny.train_values())
    tuned["training"] = {**tuned["training"], "lr": 0.0123}
    code, output, errors = run("trials=2", values=tuned)
    assert (code, "2 of 2 trials are done" in output) == (0, True), errors
    finalists = {"count": 1, "seeds": [1]}
    code, _, errors = run("trials=2", values=tuned, finalists=finalists)
    assert code == 2, "the run's own values are what its finalists are compared with"
    assert "config.training.lr" in errors


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a", {"b": [1, {"c": 2, "d": 3}]}),
        ("b.1.c", {"a": 0, "b": [1, {"d": 3}]}),
        ("b.7.c", {"a": 0, "b": [1, {"c": 2, "d": 3}]}),
        ("e.f", {"a": 0, "b": [1, {"c": 2, "d": 3}]}),
        ("a.b", {"a": 0, "b": [1, {"c": 2, "d": 3}]}),
    ],
)
def test_an_axis_is_taken_out_of_a_config(key: str, expected: dict[str, Any]) -> None:
    assert palenka.search.search._without({"a": 0, "b": [1, {"c": 2, "d": 3}]}, key) == expected


def test_what_is_no_search_is_left_alone(run: Called, runs_folder: Path) -> None:
    (runs_folder / "study" / "search").mkdir(parents=True)
    (runs_folder / "study" / "search" / "grid.json").write_text("{}")
    code, _, errors = run()
    assert (code, "no search, but holds grid.json" in errors) == (2, True)


# One worker


@pytest.mark.usefixtures("fresh_accelerator")
def test_the_whole_way(run: Called, runs_folder: Path, write_config: WriteConfig) -> None:
    """As many runs as were asked for, ranked; nothing is done twice; each is the run that its config describes."""
    code, output, _ = run()
    assert code == 0
    record, folder = search_record(runs_folder), runs_folder / "study" / "search"
    losses = {n: read_json(folder / f"trial-00{n}" / "result.json")["dev"]["cross_entropy"] for n in range(3)}
    order = sorted(losses, key=losses.__getitem__)
    assert [trial["number"] for trial in record["trials"]] == order
    assert [trial["dev"]["cross_entropy"] for trial in record["trials"]] == sorted(losses.values())
    rows = [line.split()[:2] for line in output.splitlines()[3:6]]
    assert rows == [[str(rank), f"00{number}"] for rank, number in enumerate(order, start=1)]
    best = f"{losses[order[0]]:.4f} nats per token, trial 00{order[0]}"
    assert f"study/search: 3 of 3 trials are done; best {best}\n" in output
    for trial in record["trials"]:
        config = read_json(folder / f"trial-00{trial['number']}" / "identity.json")["config"]["training"]
        assert config["lr"] == trial["values"]["training.lr"]
        assert config.get("weight_decay", 0.0) == trial["values"]["training.weight_decay"]
    alone = load_plan(folder / "trial-001" / "config.yaml", ["name=alone"], TrainConfig)
    mine, other = outcome(tiny.train(alone)), outcome(folder / "trial-001")
    assert {**mine, "files": other["files"]} == other  # but for the model card
    before = {path: content for path, (content, _) in snapshot(folder).items()}
    code, again, _ = run()
    assert (code, again) == (0, output)
    after = {path: content for path, (content, _) in snapshot(folder).items()}
    assert {path for path in before if before[path] != after[path]} <= {"trials.journal"}


@pytest.mark.usefixtures("fresh_accelerator")
def test_to_diverge_is_an_outcome(run: Called, runs_folder: Path) -> None:
    code, output, errors = run(axes={"training.lr": [1e-3, 1e30]}, sampler="grid", trials=2)
    assert code == 0, errors
    assert states(runs_folder) == ["finished", "diverged"]
    assert "diverged" in output and "trial-001: the loss is nan at step 1." in errors


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_combination_that_no_run_can_have_is_told(run: Called, runs_folder: Path) -> None:
    axes = {"training.batch_size": [8, 12], "training.micro_batch_size": [4, 8]}
    code, output, errors = run(axes=axes, sampler="grid", trials=4)
    assert code == 0, errors
    assert states(runs_folder) == ["finished"] * 3 + ["refused"]
    assert re.search(r"trial 003: .*batch_size: 12 sequences cannot be divided evenly", output, re.DOTALL)


# Trials on one teacher pass


TAUGHT = {
    "training.lr": {"log_uniform": [1e-4, 1e-2]},
    "training.weight_decay": {"uniform": [0.0, 1.0]},
    "objective.logit.temperature": {"uniform": [0.5, 4.0]},
    "objective.hidden_state.weight": [0.0, 0.5],
}


@pytest.fixture
def cohorts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the cohorts that are trained."""
    sizes: list[int] = []
    train = palenka.training.cohort.side_by_side

    def noted(sessions: Sequence[Session], interruption: Interruption, judge: Judge | None) -> Loop:
        sizes.append(len(sessions))
        return train(sessions, interruption, judge)

    monkeypatch.setattr(palenka.training.cohort, "side_by_side", noted)
    return sizes


@pytest.mark.usefixtures("fresh_accelerator", "teacher")
def test_trials_share_their_teachers_and_equal_their_solo_runs(
    run: Called, runs_folder: Path, cohorts: list[int]
) -> None:
    code, _, errors = run(values=short(tiny.distill_values()), axes=TAUGHT, trials=8)
    assert code == 0, errors
    assert cohorts == [2, 2, 2, 2], "tpe is given no more than a quarter at once"
    folder = runs_folder / "study" / "search"
    for number in (0, 1):
        plan = load_plan(folder / f"trial-00{number}" / "config.yaml", [f"name=alone-{number}"], DistillConfig)
        mine, other = outcome(folder / f"trial-00{number}"), outcome(tiny.train(plan))
        assert {**other, "files": mine["files"]} == mine


@pytest.mark.usefixtures("fresh_accelerator", "teacher")
@pytest.mark.parametrize(
    ("axes", "keys", "expected"),
    [
        ({"objective.logit.weight": [0.0, 0.1, 0.5], "seed": [1, 2]}, {"sampler": "grid", "trials": None}, [6]),
        ({"objective.logit.weight": [0.0, 0.1, 0.5], "seed": [1, 2]}, {"sampler": "random", "cohort_size": 4}, [4, 2]),
        ({"training.batch_size": [4, 8], "training.lr": [1e-3, 1e-4]}, {"sampler": "grid", "trials": None}, [2, 2]),
        ({"student.hidden_size": [16, 32]}, {"sampler": "grid", "trials": None}, [1, 1]),
    ],
)
def test_what_shares_a_teacher_pass(
    run: Called, cohorts: list[int], axes: dict[str, Any], keys: dict[str, Any], expected: list[int]
) -> None:
    """As many as fit, by default, of those that have text, student, teachers and batches in common."""
    code, _, errors = run(values=short(tiny.distill_values()), **({"axes": axes, "trials": 6} | keys))
    assert code == 0, errors
    assert cohorts == expected


@pytest.mark.usefixtures("fresh_accelerator", "teacher")
def test_one_of_a_cohort_that_diverges_leaves_the_others(run: Called, runs_folder: Path) -> None:
    axes = {"training.lr": [1e-3, 1e30, 1e-4]}
    code, _, errors = run(values=short(tiny.distill_values()), axes=axes, sampler="grid", trials=3)
    assert code == 0, errors
    assert states(runs_folder) == ["finished", "finished", "diverged"]


# Budgets


@pytest.mark.usefixtures("fresh_accelerator")
def test_no_trial_is_begun_that_would_exceed_the_budget(
    run: Called, runs_folder: Path, make: Callable[..., Path]
) -> None:
    """Trials of 2, 4 and 8 steps; the first two cost 6 of 7, and the third would come to 14."""
    each = cohort_flops([load_search(make(), []).base]) / 2  # of a step
    axes, keys = {"training.max_steps": [2, 4, 8]}, {"sampler": "grid", "trials": None}
    code, output, _ = run(axes=axes, budget={"flops": 7 * each}, **keys)
    assert code == 0
    record = search_record(runs_folder)
    assert {trial["values"]["training.max_steps"] for trial in record["trials"]} == {2, 4}
    assert record["flops"] == sum(trial["flops"] for trial in record["trials"]) == pytest.approx(6 * each)
    assert "2 of 2 trials are done, " in output
    code, _, errors = run(f"budget.flops={each}", "name=poor", axes=axes, **keys)
    assert (code, "are too few for a trial" in errors) == (2, True)
    code, _, _ = run("budget=null", axes=axes, **keys)
    assert (code, states(runs_folder)) == (0, ["finished"] * 3)


def test_hours_are_flops_at_the_rate_of_finished_trials() -> None:
    assert flops_in_hours(2, []) == math.inf, "the first trial tells"
    assert flops_in_hours(2, [(3e12, 50.0), (1e12, 30.0)]) == 2 * 3600 * 4e12 / 80


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_budget_in_hours_ends_a_search(
    run: Called, runs_folder: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path]
) -> None:
    """Trials of 2, 4 and 8 steps of an hour each: 6 of 7 hours, and the third would come to 14. More hours go on."""
    steps = lambda run: read_json(run.path / "result.json")["steps"]  # noqa: E731
    monkeypatch.setattr(palenka.search.search, "_seconds", lambda run: 3600.0 * steps(run))
    axes, keys = {"training.max_steps": [2, 4, 8]}, {"sampler": "grid", "trials": None}
    code, output, _ = run(axes=axes, budget={"hours": 7}, **keys)
    record = search_record(runs_folder)
    assert (code, [trial["values"]["training.max_steps"] for trial in record["trials"]].count(8)) == (0, 0)
    each = cohort_flops([load_search(make(), []).base]) / 2  # of a step
    assert (record["flops"], record["budget"]) == (pytest.approx(6 * each), pytest.approx(7 * each))
    assert f"{6 * each:.3g} of {7 * each:.3g} FLOPs" in output
    code, _, _ = run("budget.hours=14", axes=axes, **keys)
    assert (code, states(runs_folder)) == (0, ["finished"] * 3)


@pytest.mark.parametrize("budget", [{}, {"hours": 1, "flops": 1e9}, {"hours": 0}])
def test_a_budget_is_one_thing(make: Callable[..., Path], budget: dict[str, float]) -> None:
    with pytest.raises(UserError, match="give one of flops, like and hours|hours .*greater than 0"):
        load_search(make(budget=budget), [])


@pytest.mark.slow
def test_a_budget_like_a_runs_has_its_teachers_trainings_in_it(
    make: Callable[..., Path], runs_folder: Path, prepared: Path, write_config: WriteConfig
) -> None:
    """Each once, and theirs, too."""
    for name, values in (
        ("first", tiny.train_values()), ("second", tiny.train_values(seed=3)),
        ("student", tiny.distill_values(teachers=[{"run": "first"}, {"run": "second"}])),
        ("last", tiny.distill_values(teachers=[{"run": "student"}, {"run": "first"}])),
    ):  # fmt: skip
        tiny.write_finished_run(runs_folder / name, tiny.LLAMA, prepared / "tokenizer")
        write_config(values | {"name": name}, str(runs_folder / name / "config.yaml"))
    schemas = {"first": TrainConfig, "second": TrainConfig, "student": DistillConfig, "last": DistillConfig}
    plans = [load_plan(runs_folder / name / "config.yaml", [], schema) for name, schema in schemas.items()]
    expected = sum(cohort_flops([plan]) for plan in plans)
    assert load_search(make(budget={"like": "last"}), []).budget == pytest.approx(expected)
    (runs_folder / "second" / "config.yaml").unlink()
    with pytest.raises(UserError, match="what the training of second cost is not known"):
        load_search(make(budget={"like": "last"}), [])


# Finalists


@pytest.mark.usefixtures("fresh_accelerator")
def test_the_best_are_trained_anew_beside_the_runs_own_values(run: Called, runs_folder: Path, monkeypatch: Any) -> None:
    finalists = {"count": 1, "seeds": [5, 6], "overrides": {"training.max_steps": 4}}
    with monkeypatch.context() as patch:
        kill_at(patch, Run, "finish", 6)  # the second finalist but one
        with pytest.raises(Killed):
            run(finalists=finalists)
    gc.collect()
    code, output, _ = run(finalists=finalists)
    assert code == 0
    folder, record = runs_folder / "study" / "search", search_record(runs_folder)
    best = record["trials"][0]
    names = [f"{of}-s{seed}" for seed in (5, 6) for of in ("default", f"trial-00{best['number']}")]
    assert sorted(path.name for path in (folder / "finalists").iterdir()) == sorted(names)
    assert [each["run"] for each in record["finalists"]] == [f"study/search/finalists/{name}" for name in names]
    for each in record["finalists"]:
        config = read_yaml(runs_folder / each["run"] / "config.yaml")
        assert (config["seed"], config["training"]["max_steps"]) == (each["seed"], 4)
        assert "seed" not in config["data"], "the order of the text is drawn anew, too"
        expected = 1e-3 if each["of"] == "default" else best["values"]["training.lr"]
        assert config["training"]["lr"] == expected
    rows = [line.split() for line in output.splitlines()]
    dev = [each["dev"] for each in record["finalists"] if each["of"] != "default"]
    mean, error = sum(dev) / 2, abs(dev[0] - dev[1]) / 2  # s / √2 of two values is half their distance
    found = f"{best['dev']['cross_entropy']:.4f}"
    assert [f"trial-00{best['number']}", found, f"{mean:.4f}", "±", f"{error:.4f}", "–", "2"] in rows


def test_test_loss_stands_beside_the_dev_loss_that_chose() -> None:
    best = {"number": 3, "rank": 1, "run": "s/trial-003", "state": "finished", "values": {}}
    trials = [best | {"dev": {"cross_entropy": 3.0}}]
    finalists: list[dict[str, Any]] = [
        {"of": of, "seed": seed, "run": "", "state": "finished", "dev": dev, "test": dev + 0.5}
        for of, losses in (("default", (4.0, 4.2)), ("trial-003", (3.1, 3.5)))
        for seed, dev in enumerate(losses)
    ]
    record = {"name": "s", "asked": 1, "axes": {}, "trials": trials, "finalists": finalists}
    rows = [line.split() for line in search_table(record).splitlines()]
    assert ["default", "–", "4.1000", "±", "0.1000", "4.6000", "±", "0.1000", "2"] in rows
    assert ["trial-003", "3.0000", "3.3000", "±", "0.2000", "3.8000", "±", "0.2000", "2"] in rows
    assert is_done(record)
    finalists[0] = {"of": "default", "seed": 0, "run": "", "state": "waiting"}
    assert not is_done(record)
    assert "1 finalist still to be trained" in search_table(record)


# Workers that are killed


def killed(run: Called, *arguments: str) -> None:
    """A call that is killed: its locks go with it."""
    with pytest.raises(Killed):
        run(*arguments)
    gc.collect()


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (Student, "apply_gradients", 1), (Student, "apply_gradients", 4), (Run, "finish", 1), (Trials, "complete", 2),
        (Trials, "add", 2),
    ],
)  # fmt: skip
def test_a_killed_worker_leaves_nothing_undone(
    run: Called, runs_folder: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int
) -> None:
    """Wherever it was: the next one goes on, and the search is what it would have been."""
    run(name="whole")
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, number)
        killed(run)
    code, _, _ = run()
    assert code == 0
    whole, record = read_json(runs_folder / "whole" / "search.json"), search_record(runs_folder)
    assert len(record["trials"]) == 3
    for mine, other in zip(record["trials"], whole["trials"], strict=True):
        assert (mine["values"], mine["dev"]) == (other["values"], other["dev"])


@pytest.mark.usefixtures("fresh_accelerator")
def test_what_kills_its_workers_is_given_up(run: Called, runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be handed from one worker to the next."""
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", lambda self, step: (_ for _ in ()).throw(Killed))
        for _ in range(STARTS + 1):
            killed(run, "trials=1")
    code, output, _ = run("trials=1")
    assert code == 0
    assert states(runs_folder) == ["refused"]
    assert f"trial 000: {STARTS} starts from step 0 have left no checkpoint" in output


@pytest.mark.usefixtures("processes")
def test_three_workers_of_which_one_is_killed_and_one_preempted(make: Callable[..., Path], runs_folder: Path) -> None:
    """Real processes and signals: eight trials were asked for, and eight there are, none running."""
    values = tiny.train_values()
    values["training"] |= {"max_steps": 60, "eval_steps": 20, "checkpoint_steps": 10}
    arguments = ("-m", "palenka", "search", "--config", make(values, trials=8))
    workers: list[Process] = [start(*arguments) for _ in range(3)]
    folder = runs_folder / "study" / "search"
    for number, told in enumerate((signal.SIGKILL, signal.SIGTERM)):
        holds = f"process {workers[number].pid} on"
        wait_until(lambda holds=holds: trained_by(folder, holds), workers[number])  # type: ignore[misc]
        workers[number].send_signal(told)
    assert [finish(worker)[0] for worker in workers] == [-signal.SIGKILL, EXIT_INTERRUPTED, 0]
    trials = Trials("study/search", folder).all()
    assert [trial.number for trial in trials] == list(range(8))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}, "the third took over what they left"
    assert sorted(path.name for path in folder.glob("trial-*")) == [f"trial-00{number}" for number in range(8)]
    for trial in trials:
        result = read_json(folder / f"trial-00{trial.number}" / "result.json")
        assert trial.value == result["dev"]["cross_entropy"]
        assert [record["step"] for record in records(folder / f"trial-00{trial.number}", "dev")] == [20, 40, 60]


def trained_by(folder: Path, holder: str) -> bool:
    """Whether a trial that a process holds has left a checkpoint."""
    held = [path.parent for path in folder.glob("trial-*/.lock") if holder in path.read_text()]
    return any(list(trial.glob("checkpoint-*")) for trial in held)


# Shipped


SEARCHES = [path for path in sorted((ROOT / "config" / "search").glob("*.yaml")) if "name" in read_yaml(path)]


@pytest.mark.usefixtures("runs_folder")
@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_a_shipped_search_says_how_it_is_run_and_has_a_plan(path: Path) -> None:
    """Its axes are checked against the run's config, by their outermost values."""
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert f"#   palenka search --config {path.relative_to(ROOT)}" in header
    changes = {"data.name": "tiny", "evaluation": None, "training.precision": "fp32"}
    described = load_search(path, [f"overrides={json.dumps(changes)}"], dry_run=True).describe()
    assert f"{read_yaml(path)['name']}: " in described


def test_babyllama2s_sweep_is_the_published_one() -> None:
    """Its medians and the values one deviation off, as computed from its code's distributions."""
    axes = load(ROOT / "config/search/BabyLlama2-control.yaml", [], SearchConfig).axes
    assert len(axes) == 11
    expected = {
        "training.batch_size": (32, 160, 672), "training.num_epochs": (3, 6, 12),
        "training.lr": (3.4e-4, 6.8e-4, 1.4e-3), "training.weight_decay": (0.6, 2.7, 12),
        "training.warmup_steps": (110, 299, 812),
        "training.adam_epsilon": (3.1e-8, 1e-6, 3.4e-5), "training.max_grad_norm": (0.37, 1, 2.7),
    }
    for key, values in expected.items():
        found = [axes[key].value(share) for share in (0.1587, 0.5, 0.8413)]
        assert found == pytest.approx(values, rel=0.04), key
    assert [axes["training.adam_beta1"].value(share) for share in (0, 0.5, 1)] == [0.99, 0.9, 0.0]
    assert [axes["training.adam_beta2"].value(share) for share in (0, 0.5, 1)] == [0.9999, 0.999, 0.99]
