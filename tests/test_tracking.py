"""wandb, trackio, TensorBoard: what they are told, offline, over kills and resumes; that nothing depends on them."""

import gc
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import tiny
from commands import TORCHRUN, finish, start, succeed, wait_until
from made_runs import write_run
from run_files import outcome, records
from shared_fixtures import Call, WriteConfig

from palenka.report.results import read_runs
from palenka.training import trackers
from palenka.training.plan import make_plan
from palenka.training.schema import DistillConfig
from palenka.training.student import Student
from palenka.training.trackers import TrackedRun, Trackers, TrackingConfig, WandbConfig, scalars, tracking_problems
from palenka.util.errors import UserError
from palenka.util.files import read_json
from palenka.util.paths import ROOT

trains = pytest.mark.usefixtures("processes", "fresh_accelerator")  # wandb has a process of its own
OFFLINE: dict[str, Any] = {"wandb": {"mode": "offline", "tags": ["small"]}, "tensorboard": True}
KEY = "0123456789" * 4
BEST = ("best_step", "best_dev_loss", "best_dev_bits_per_byte")


@pytest.fixture(autouse=True)
def _nobody_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of whoever runs the tests, no file outside the test's folder, and a wandb service of its own."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for kind in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / "wandb-home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    if "wandb" in sys.modules and sys.modules["wandb"] is not None:
        sys.modules["wandb"].teardown()


def student(name: str = "study/student", tracking: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    values = tiny.distill_values(name=name)
    values["training"] |= training
    return values | ({} if tracking is None else {"tracking": tracking})


def train_student(values: dict[str, Any]) -> Path:
    return tiny.train(make_plan(DistillConfig.model_validate(values), "test"))


def wandb_records(path: Path) -> list[Any]:
    """The records of a .wandb file: protocol buffers in LevelDB's log format, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, message, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        message += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(message))
            message = b""
    return found


def sessions(run: Path) -> list[list[Any]]:
    """The records of each offline file of a run, oldest first."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # the service of this process may still be writing
    return [wandb_records(path) for path in sorted(run.glob("wandb/offline-run-*/run-*.wandb"))]


def history(session: list[Any]) -> list[dict[str, Any]]:
    """What was logged, without wandb's own keys."""
    rows = [record.history.item for record in session if record.HasField("history")]
    named = [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in named]


def expected_history(run: Path) -> list[dict[str, Any]]:
    position = ("step", "epoch", "tokens", "words")
    return [{key: record[key] for key in position} | scalars(record) for record in records(run)]


def final_summary(session: list[Any]) -> dict[str, Any]:
    updates = [item for record in session if record.HasField("summary") for item in record.summary.update]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


def event_scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each tag, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_events_equal_records(run: Path) -> None:
    expected: dict[str, list[tuple[int, float]]] = {}
    for record in records(run):
        for tag, value in scalars(record).items():
            expected.setdefault(tag, []).append((record["step"], pytest.approx(value, rel=1e-6)))
    assert event_scalars(run) == expected


# What is told


def test_names_of_a_records_figures() -> None:
    position = {"step": 4, "epoch": 0.5, "tokens": 64, "words": 40}
    term = position | {"split": "train", "loss": 3.0, "logit": 2.0, "lr": 0.1, "grad_norm": 1.0, "tokens_per_second": 9}
    assert scalars(term) == {
        "train/loss": 3.0, "train/logit": 2.0, "train/lr": 0.1, "train/grad_norm": 1.0, "train/tokens_per_second": 9,
    }  # fmt: skip
    domains = {"childes": {"cross_entropy": 2.5, "bits_per_byte": 1.5, "tokens": 10}}
    dev = position | {"split": "dev", "loss": 4.0, "bits_per_byte": 2.0, "domains": domains}
    assert scalars(dev) == {"dev/loss": 4.0, "dev/bits_per_byte": 2.0, "dev/childes": 2.5}


@trains
def test_offline_run_holds_names_config_every_record_and_the_best_step(teacher: Path) -> None:
    plain = train_student(student("plain"))
    run = train_student(student(tracking=OFFLINE))
    assert not (plain / "wandb").exists()
    assert not (plain / "tensorboard").exists()
    assert read_json(run / "identity.json") == read_json(plain / "identity.json")
    assert outcome(run)["weights"] == outcome(plain)["weights"]

    (session,) = sessions(run)
    (told, *_) = [record.run for record in session if record.HasField("run")]
    assert (told.display_name, told.run_group, told.job_type) == ("study/student", "study", "distill")
    assert (told.project, list(told.tags)) == ("palenka", ["small"])
    assert told.run_id == read_json(run / "tracking.json")["wandb_id"]
    config = {item.key: json.loads(item.value_json) for item in told.config.update}
    assert config["training"]["lr"] == 1e-3
    assert config["parameters"] == read_json(run / "result.json")["parameters"]

    axes = {record.metric.glob_name: record.metric.step_metric for record in session if record.HasField("metric")}
    assert axes == {"": "", "train/*": "step", "dev/*": "step", "evaluation/*": "step"}
    assert history(session) == expected_history(run)
    assert {"train/hard_target", "train/logit", "train/hidden_state"} <= history(session)[0].keys()
    result, summary = read_json(run / "result.json"), final_summary(session)
    assert [summary[key] for key in BEST] == [
        result["best_step"], result["dev"]["cross_entropy"], result["dev"]["bits_per_byte"],
    ]  # fmt: skip
    assert [record.exit.exit_code for record in session if record.HasField("exit")] == [0]
    assert_events_equal_records(run)


def test_trackers_files_are_no_runs_to_a_report(runs_folder: Path) -> None:
    run = write_run(runs_folder, "study/kd")
    files = run / "wandb" / "run-20260101_000000-1" / "files"
    files.mkdir(parents=True)
    (files / "config.yaml").write_text("_wandb: {value: {}}\n", encoding="utf-8")
    assert [found.folder for found in read_runs(["study"])] == [run]


# Over a resume


def break_off_at_step_7(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Train a student until its clipping fails."""
    clip = Student._clip

    def fail_at_step_7(self: Student) -> Any:
        if self.step == 7:
            raise RuntimeError("out of memory")
        return clip(self)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(Student, "_clip", fail_at_step_7)
        train_student(values)
    gc.collect()  # what held the lock


@trains
def test_steps_after_the_checkpoint_are_told_again(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off at step 7 with a checkpoint of step 5: readers find steps 6 and 7 once."""
    values = student(tracking=OFFLINE, checkpoint_steps=5, eval_steps=100)
    break_off_at_step_7(values, monkeypatch)
    time.sleep(1.1)  # wandb and TensorBoard name their files by the second
    run = train_student(values)
    broken, resumed = sessions(run)
    assert [row["step"] for row in history(broken)] == [1, 2, 3, 4, 5, 6, 7]
    assert [record.exit.exit_code for record in broken if record.HasField("exit")] == [1]
    assert history(resumed) == expected_history(run)
    assert len(list((run / "tensorboard").iterdir())) == 2
    assert_events_equal_records(run)


@trains
def test_killed_run_goes_on_under_its_id_and_misses_no_step(
    teacher: Path, write_config: WriteConfig, runs_folder: Path
) -> None:
    """Killed with wandb's own process, as by a cluster: what was not yet written is in the next file."""
    config = write_config(student(tracking=OFFLINE, max_steps=20, checkpoint_steps=2, eval_steps=10))
    command, run = (ROOT / "distill.py", "--config", config), runs_folder / "study" / "student"
    process = start(*command)
    wait_until(lambda: list(run.glob("checkpoint-[6-9]")), process)
    for victim in (*psutil.Process(process.pid).children(recursive=True), process):
        victim.kill()
    assert finish(process)[0] == -signal.SIGKILL
    identifier = read_json(run / "tracking.json")["wandb_id"]
    assert "resuming from step" in succeed(*command)
    names = [path.name for path in sorted(run.glob("wandb/offline-run-*/*.wandb"))]
    assert names == [f"run-{identifier}.wandb"] * 2
    assert history(sessions(run)[-1]) == expected_history(run)
    assert {row["step"] for row in history(sessions(run)[-1])} == set(range(1, 21))
    assert_events_equal_records(run)


class StoredRun:
    """trackio.Run as far as it is used; its rows are the database's."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name, self.options, self.id, self.rows = name, options, str(id(self)), []

    def log(self, metrics: dict[str, Any], step: int) -> None:
        self.rows.append({"step": step} | metrics)

    def finish(self) -> None:
        print("* Run finished.")


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[StoredRun]:
    """The runs in the database of a stand-in for trackio."""
    runs: list[StoredRun] = []

    def init(**options: Any) -> StoredRun:
        runs.append(StoredRun(**options))
        return runs[-1]

    def find(project: str) -> list[StoredRun]:
        if not runs:
            raise ValueError(f"Project {project!r} does not exist")
        return runs

    monkeypatch.setattr(StoredRun, "delete", lambda run: runs.remove(run), raising=False)
    stand_in = SimpleNamespace(init=init, Api=lambda: SimpleNamespace(runs=find))
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    return runs


@trains
def test_trackio_holds_each_record_once_over_a_resume(
    teacher: Path, stored: list[StoredRun], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of the same name from elsewhere stays."""
    other = StoredRun("study/student")
    stored.append(other)
    values = student(tracking={"trackio": True}, checkpoint_steps=5, eval_steps=4)
    break_off_at_step_7(values, monkeypatch)
    assert {row["step"] for row in stored[1].rows} == {1, 2, 3, 4, 5, 6, 7}
    run = train_student(values)
    assert stored[0] is other and len(stored) == 2
    assert stored[1].rows == expected_history(run)
    assert read_json(run / "tracking.json") == {"trackio_id": stored[1].id}
    told = stored[1].options
    assert (told["project"], told["group"], stored[1].name) == ("palenka", "study", "study/student")
    assert told["config"]["parameters"] == read_json(run / "result.json")["parameters"]
    assert "* Run" not in capsys.readouterr().out


def test_trackio_itself_takes_runs_side_by_side_and_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end the first when the second is begun, and hold a repeated step twice."""
    trackio = pytest.importorskip("trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    kept = [{"step": step, "epoch": 0, "tokens": 0, "words": 0, "split": "train", "loss": 1.0} for step in range(1, 4)]
    for _ in range(2):
        both = {name: Trackers() for name in ("a", "b")}
        for name, each in both.items():
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            run = TrackedRun(f"study/{name}", folder, "train", {"seed": 1})
            each.start(TrackingConfig(trackio=True), run, kept[:2])
        for each in both.values():
            each.log(kept[2])
        for each in both.values():
            each.finish(None)
    runs = list(trackio.Api().runs("palenka"))
    assert sorted(run.name for run in runs) == ["study/a", "study/b"]
    for run in runs:
        rows = trackio.SQLiteStorage.get_logs("palenka", run.name, run_id=run.id)
        assert [(row["step"], row["train/loss"]) for row in rows] == [(1, 1.0), (2, 1.0), (3, 1.0)]


class ServedRun:
    """wandb.Run, as far as it is used, of a server that may know the run already."""

    def __init__(self, summary: dict[str, Any]) -> None:
        self.summary, self.rows, self.exit_code = summary, [], None

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


def start_online(monkeypatch: pytest.MonkeyPatch, folder: Path, served: ServedRun) -> Trackers:
    """Trackers of a run whose steps 1 to 5 were kept."""
    import wandb

    monkeypatch.setattr(wandb, "init", lambda **options: served)
    kept = [{"step": step, "epoch": 0, "tokens": 0, "words": 0, "split": "train", "loss": 1.0} for step in range(1, 6)]
    trackers = Trackers()
    trackers.start(TrackingConfig(wandb=WandbConfig(mode="online")), TrackedRun("a", folder, "train", {}), kept)
    return trackers


@pytest.mark.parametrize(("known", "told"), [({}, [1, 2, 3, 4, 5]), ({"step": 4}, [4, 5]), ({"step": 9}, [])])
def test_a_server_is_told_what_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[str, Any], told: list[int]
) -> None:
    """Of the last step that it knows, one record of two may be missing."""
    served = ServedRun(known)
    start_online(monkeypatch, tmp_path, served)
    assert [row["step"] for row in served.rows] == told


# Nothing depends on it


def test_a_tracker_that_fails_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served = ServedRun({})
    trackers = start_online(monkeypatch, tmp_path, served)
    monkeypatch.setattr(ServedRun, "log", lambda self, row: (_ for _ in ()).throw(ConnectionError("lost")))
    for step in (6, 7):
        trackers.log({"step": step, "epoch": 0, "tokens": 0, "words": 0, "split": "train", "loss": 1.0})
    trackers.finish(None)
    assert capsys.readouterr().err.count("wandb failed and is switched off") == 1
    assert [row["step"] for row in served.rows] == [1, 2, 3, 4, 5]


@trains
def test_an_unreachable_server_means_offline(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(trackers, "CONNECT_SECONDS", 1.0)
    run = train_student(student(tracking={"wandb": {"mode": "online"}}))
    assert capsys.readouterr().err.count("wandb cannot be reached, logging study/student offline") == 1
    (session,) = sessions(run)
    assert history(session) == expected_history(run)
    assert [path for path in run.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("package", ["wandb", "trackio", "tensorboard"])
def test_a_package_that_is_missing_ends_with_code_2_before_any_model(
    teacher: Path, runs_folder: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch, call: Call,
    package: str,
) -> None:  # fmt: skip
    import distill

    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    config = write_config(student(tracking={package: True}))
    monkeypatch.setattr("sys.argv", ["distill.py", "--config", str(config)])
    code, _, message = call(distill.main)
    assert code == 2 and f"tracking.{package}: " in message and f"pip install {package}" in message
    assert not (runs_folder / "study").exists()


@trains
def test_untracked_training_imports_neither(prepared: Path, runs_folder: Path, write_config: WriteConfig) -> None:
    config = write_config(tiny.train_values())
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['train.py', '--config', {str(config)!r}]\n"
        "import train; train.main()\n"
        "assert not {'wandb', 'trackio', 'tensorboard'} & {name.split('.')[0] for name in sys.modules}"
    )
    succeed("-c", program)
    assert (runs_folder / "baseline" / "result.json").exists()


@trains
def test_two_processes_log_once(teacher: Path, write_config: WriteConfig, runs_folder: Path) -> None:
    config = write_config(student(tracking=OFFLINE))
    succeed(*TORCHRUN, ROOT / "distill.py", "--config", config)
    run = runs_folder / "study" / "student"
    (session,) = sessions(run)
    assert history(session) == expected_history(run)
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert_events_equal_records(run)


# The config


def test_forms_of_the_section() -> None:
    assert TrackingConfig.model_validate({"wandb": True}) == TrackingConfig(wandb=WandbConfig())
    assert TrackingConfig.model_validate({"wandb": False}) == TrackingConfig.model_validate({"wandb": None})
    assert WandbConfig().project == "palenka"


def test_an_unknown_key_is_named(teacher: Path, write_config: WriteConfig) -> None:
    from palenka.training.plan import load_plan

    with pytest.raises(UserError, match=r"tracking.wandb.projekt .*unknown key; did you mean 'project'\?"):
        load_plan(write_config(student(tracking={"wandb": {"projekt": "mine"}})), [], DistillConfig)


@pytest.mark.parametrize(
    ("environment", "mode", "expected"),
    [
        ({}, None, "online"),
        ({"WANDB_MODE": "offline"}, None, "offline"),
        ({"WANDB_MODE": "offline"}, "online", "online"),
        ({"WANDB_MODE": "disabled"}, "online", "disabled"),
        ({"WANDB_DISABLED": "true"}, "offline", "disabled"),
        ({"WANDB_DISABLED": "false"}, "offline", "offline"),
    ],
)
def test_mode(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], mode: Any, expected: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = TrackingConfig(wandb=WandbConfig(mode=mode))
    assert (config.active_wandb.resolved_mode if config.active_wandb else "disabled") == expected


def problems(mode: str | None = None) -> str:
    return "\n".join(tracking_problems(TrackingConfig(wandb=WandbConfig(mode=mode))))


def test_online_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "set WANDB_API_KEY" in problems()
    assert "tracking.wandb.mode=offline" in problems("online")
    assert problems("offline") == ""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert problems() == ""
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    assert "WANDB_MODE is 'sometimes'; expected online, offline or disabled" in problems()


def test_a_key_in_netrc_counts_for_its_server_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine wandb.example.org login user password {KEY}\n", encoding="utf-8")
    assert "no API key" in problems()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert problems() == ""
