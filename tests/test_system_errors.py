"""What the system refuses becomes one sentence with a path, what is kept, and an exit code; nothing of ours does."""

import errno
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from run_files import outcome, snapshot
from safetensors.torch import save_file
from shared_fixtures import Call, WriteConfig

from palenka import cli
from palenka.data import prepare, tokens
from palenka.runs import directory
from palenka.training import export, state
from palenka.training.plan import Plan, load_plan, make_plan
from palenka.training.schema import TrainConfig
from palenka.util import files
from palenka.util.errors import UserError
from palenka.util.locks import held
from palenka.util.paths import ROOT
from palenka.util.processes import check_processes, process_count
from palenka.util.system_errors import refusal


def ended(call: Call, action: Callable[..., Any], *arguments: Any) -> tuple[int, str]:
    """Exit code and message of a command that fails."""
    code, _, errors = call(cli.command(action), *arguments)
    assert "Traceback" not in errors
    return code, errors


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 73), (errno.EDQUOT, 73), (errno.EROFS, 73), (errno.EFBIG, 73), (errno.EACCES, 77),
        (errno.EPERM, 77), (errno.EIO, 74), (errno.ENOENT, 74), (errno.ESTALE, 74), (errno.EMFILE, 71),
        (errno.ENAMETOOLONG, 2),
    ],
)  # fmt: skip
def test_an_error_of_the_system_is_a_sentence_with_its_path(call: Call, number: int, code: int) -> None:
    def refused() -> None:
        raise OSError(number, os.strerror(number), "/runs/x")

    found, message = ended(call, refused)
    assert found == code
    words = os.strerror(number)
    assert message.startswith(f"error: /runs/x: {words[0].lower()}{words[1:]}")
    assert message.count("\n") == 1


@pytest.fixture
def small_disk(tmp_path: Path, processes: None) -> Iterator[Path]:
    """A file system of a megabyte, where root allows."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode == 0
    if not mounted:
        pytest.skip("mounting needs root")
    yield folder
    gc.collect()
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_known_whichever_library_meets_it(small_disk: Path, call: Call) -> None:
    large = torch.zeros(1000, 1000)

    def torch_writes() -> None:
        with files.named(small_disk / "x.pt"), (small_disk / "x.pt").open("wb") as file:
            torch.save(large, file)

    for write in (
        lambda: save_file({"a": large}, small_disk / "a.safetensors"),
        torch_writes,
        lambda: files.write_bytes(small_disk / "b", bytes(4_000_000)),
        lambda: tiny.model({**tiny.LLAMA, "hidden_size": 1024}).save_pretrained(small_disk / "model"),
    ):
        code, message = ended(call, write)
        assert code == 73
        assert "no space left on device" in message.lower()
        shutil.rmtree(small_disk / "model", ignore_errors=True)
        for path in small_disk.iterdir():
            assert not path.name.endswith(".tmp")
            path.unlink()


def test_too_little_memory_says_what_to_change(call: Call) -> None:
    class OutOfMemoryError(RuntimeError):
        """What torch raises of a GPU."""

    def on_gpu() -> None:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")

    for allocate in (lambda: torch.zeros(10**13), lambda: bytearray(10**15), on_gpu):
        code, message = ended(call, allocate)
        assert code == 71
        assert "out of memory" in message and "training.micro_batch_size" in message
    assert "2.00 GiB" in message


def test_another_process_that_is_gone(call: Call) -> None:
    def alone() -> None:
        raise RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")

    assert ended(call, alone)[0] == 69


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("shapes do not fit"), OSError("no such model on the hub"), ValueError("1")]
)
def test_what_is_our_own_fault_keeps_its_traceback_and_says_so(error: Exception) -> None:
    @cli.command
    def broken() -> None:
        raise error

    with pytest.raises(type(error)) as found:
        broken()
    assert "bug in Palenka" in found.value.__notes__[-1]


def test_an_unrelated_error_before_it_does_not_make_a_bug_a_refusal() -> None:
    try:
        try:
            raise FileNotFoundError(errno.ENOENT, "gone", "/x")
        except FileNotFoundError:
            raise KeyError("a bug in the handler")  # noqa: B904
    except KeyError as error:
        assert refusal(error) is None


# A law over all that a training and a preparation write: nothing half written, and the same command goes on


def plan_for(name: str) -> Plan:
    values = tiny.train_values(name=name)
    values["training"] |= {"max_steps": 4, "eval_steps": 2, "checkpoint_steps": 1}
    return make_plan(TrainConfig.model_validate(values), "test")


def refuse_at(patch: pytest.MonkeyPatch, owner: Any, name: str, call: int, number: int = errno.ENOSPC) -> list[int]:
    """Let the system refuse the `call`-th call of owner.name and all after it, in the middle of what it writes."""
    original, calls = getattr(owner, name), [0]

    def refused(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] < call:
            return original(*args, **kwargs)
        target = next((Path(value) for value in args if isinstance(value, str | Path)), None)
        if target and target.parent.is_dir() and not target.exists() and "replace" not in name:
            target.write_bytes(b"half of it")
        raise OSError(number, os.strerror(number))

    patch.setattr(owner, name, refused)
    return calls


WRITES = [
    (files, "replace", (1, 2, 3, 4, 6)), (state, "save_model", (1, 2)), (torch, "save", (1, 3)),
    (directory.Run, "log", (1, 4)), (Path, "mkdir", (2,)), (export, "save_tokenizer", (1,)),
    (directory.Run, "place", (1,)), (directory.Run, "drop_records_after", (1,)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "name", "number"), [(owner, name, number) for owner, name, numbers in WRITES for number in numbers]
)
def test_a_training_that_a_full_disk_stops_goes_on_to_the_same_result(
    prepared: Path, runs_folder: Path, call: Call, fresh_accelerator: None, unbroken: dict[str, Any],
    owner: Any, name: str, number: int,
) -> None:  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        refuse_at(patch, owner, name, number)
        code, message = ended(call, lambda: tiny.train(plan_for("run")))
    gc.collect()
    assert code == 73
    assert "no space left on device" in message.lower()
    run = runs_folder / "run"
    if (run / "metrics.jsonl").exists():
        assert "the same command" in message and str(run) in message
    assert not (run / "result.json").exists()
    assert not [path.name for path in run.glob(".*.tmp") if "doomed" not in path.name]
    assert outcome(tiny.train(plan_for("run"))) == unbroken


@pytest.fixture(scope="module")
def unbroken(prepared_once: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_DATA", str(prepared_once.parent))
        patch.setenv("PALENKA_RUNS", str(tmp_path_factory.mktemp("unbroken")))
        return outcome(tiny.train(plan_for("run")))


@pytest.mark.parametrize(
    ("owner", "name"), [(prepare, "_write_lines"), (prepare, "_write_json"), (tokens.SplitWriter, "close")]
)
def test_a_preparation_that_a_full_disk_stops_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, owner: Any, name: str
) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    tiny.write_raw_text(tmp_path)
    arguments = ("prepare", "--train", f"{tmp_path}/train", "--dev", f"{tmp_path}/dev", "--name", "a/b")
    arguments += ("--vocab-size", str(tiny.VOCABULARY))
    with monkeypatch.context() as patch:
        refuse_at(patch, owner, name, 1)
        code, _, errors = call(cli.main, arguments)
    assert code == 73 and "data/a/b was not written; the same command starts over" in errors
    assert [path.name for path in (tmp_path / "data" / "a").iterdir()] == [".b.lock"]
    assert call(cli.main, arguments)[0] == 0


# What a kill left goes at the next start


@pytest.mark.usefixtures("fresh_accelerator")
def test_what_was_left_behind_a_finished_run_goes_and_nothing_else(prepared: Path, runs_folder: Path) -> None:
    run = tiny.train(plan_for("run"))
    before = snapshot(run)
    for name in ("checkpoint-2", ".checkpoint-4.doomed.tmp", ".export.tmp"):
        (run / name).mkdir()
        (run / name / "file").write_text("left")
    (run / ".result.json.killed.tmp").write_text("left")
    (run / "checkpoint-of-mine").mkdir()
    (run / ".notes").write_text("mine")
    with held(run / ".lock"):
        tiny.train(plan_for("run"))
        assert (run / "checkpoint-2").exists(), "another process is at it"
    tiny.train(plan_for("run"))
    names = {path.name for path in run.iterdir()}
    assert names == {*(Path(name).parts[0] for name in before), ".lock", "checkpoint-of-mine", ".notes"}
    assert before.items() <= snapshot(run).items()


def test_what_was_left_beside_prepared_data_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    tiny.write_raw_text(tmp_path)
    arguments = ["prepare", "--train", f"{tmp_path}/train", "--dev", f"{tmp_path}/dev", "--name", "a"]
    arguments += ["--vocab-size", str(tiny.VOCABULARY)]
    assert call(cli.main, arguments)[0] == 0
    (tmp_path / "data" / ".a.partial" / "text").mkdir(parents=True)
    assert call(cli.main, arguments)[0] == 0
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"a", ".a.lock"}
    nested = [*arguments[:-3], "a/more", *arguments[-2:]]
    code, _, errors = call(cli.main, nested)
    assert code == 2 and "is prepared data itself" in errors


# Where output goes


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=variables, capture_output=True, text=True, check=False, encoding="latin-1"
    )


SAY = "'from palenka import cli; cli.command(lambda: print(\"café ± 0.1 … ≤ \\udc80\"))()'"


@pytest.mark.usefixtures("processes")
def test_a_terminal_without_our_signs_shows_others() -> None:
    done = shell(f"{sys.executable} -c {SAY}", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, "cafe +- 0.1 ... <= \\udc80\n", "")


@pytest.mark.usefixtures("processes")
def test_closed_streams_and_a_full_output_are_no_tracebacks() -> None:
    done = shell(f"{sys.executable} -c {SAY} >&- 2>&-")
    assert done.returncode == 0
    done = shell(f"{sys.executable} -c {SAY} > /dev/full")
    assert (done.returncode, done.stderr) == (73, "error: No space left on device\n")


# What launchers leave in the environment


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "1"}, "RANK=1, without WORLD_SIZE"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK=0, without WORLD_SIZE"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE has to be a number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE has to be a number from 1 on"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "unset OMPI_COMM_WORLD_SIZE"),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            "do not fit each other",
        ),
    ],
)
def test_what_a_launcher_left_behind_is_refused(
    prepared: Path, runs_folder: Path, call: Call, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str], expected: str,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    file = write_config(tiny.train_values())
    with pytest.raises(UserError, match="torchrun --nproc_per_node=N in place of python") as refused:
        tiny.train(load_plan(file, [], TrainConfig))
    assert expected in str(refused.value)
    assert not list(runs_folder.iterdir())


def test_variables_that_mean_one_process_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "node1"}.items():
        monkeypatch.setenv(name, value)
    check_processes()
    assert process_count() == 1
