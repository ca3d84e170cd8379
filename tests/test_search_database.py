"""A search whose trials are kept by PostgreSQL, where many machines reach one."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from commands import Process, finish, start, wait_until
from optuna.trial import TrialState
from shared_fixtures import WriteConfig

from palenka.search.storage import Trials
from palenka.util.errors import UserError
from palenka.util.files import read_json

psycopg = pytest.importorskip("psycopg")

PROGRAMS = os.pathsep.join([os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))])
SERVER = shutil.which("postgres", path=PROGRAMS)
pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(SERVER is None, reason="PostgreSQL is not installed (apt install postgresql)")
]  # fmt: skip


@pytest.fixture
def database() -> Iterator[str]:
    """URL of an empty database, whose server listens on a socket in a folder of its own: paths of sockets are short."""
    user = "nobody" if os.geteuid() == 0 else None  # the server refuses to be root
    with tempfile.TemporaryDirectory(prefix="palenka-") as folder:
        if user:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        initdb = shutil.which("initdb", path=PROGRAMS) or ""
        made = [initdb, "-D", data, "-U", "palenka", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(made, check=True, user=user, stdout=subprocess.DEVNULL, cwd=folder)
        listen = ["-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        server = subprocess.Popen(
            [SERVER or "", "-D", data, *listen], user=user, stderr=subprocess.DEVNULL, cwd=folder
        )  # fmt: skip
        try:
            wait_until_it_answers(folder, server)
            yield f"postgresql+psycopg://palenka@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # which ends connections, too
            server.wait()


def wait_until_it_answers(folder: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            psycopg.connect(f"host={folder} user=palenka dbname=postgres").close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    pytest.fail(f"PostgreSQL ended with {server.returncode}")


@pytest.mark.usefixtures("prepared", "processes")
def test_workers_share_a_database_and_one_is_killed(
    database: str, write_config: WriteConfig, runs_folder: Path
) -> None:
    values = tiny.train_values()
    values["training"] |= {"max_steps": 60, "eval_steps": 20, "checkpoint_steps": 10}
    run = write_config(values, "run.yaml")
    axes = {"training.lr": {"log_uniform": [1e-4, 1e-2]}}
    search = {"name": "search", "run": str(run), "axes": axes, "trials": 6, "sampler": "tpe", "storage": database}
    path = write_config(search, "search.yaml")
    workers: list[Process] = [start("-m", "palenka", "search", "--config", path) for _ in range(2)]
    folder = runs_folder / "search"
    wait_until(lambda: list(folder.glob("trial-*/checkpoint-*")), workers[0])
    workers[0].kill()
    assert [finish(worker)[0] for worker in workers] == [-signal.SIGKILL, 0]
    assert not (folder / "trials.journal").exists()
    trials = Trials("search", folder, database).all()
    assert [(trial.number, trial.state) for trial in trials] == [(number, TrialState.COMPLETE) for number in range(6)]
    for trial in trials:
        result = read_json(folder / f"trial-00{trial.number}" / "result.json")
        assert trial.value == result["dev"]["cross_entropy"]


def test_what_a_database_keeps_is_what_a_journal_keeps(database: str, tmp_path: Path) -> None:
    for url in (None, database):
        trials = Trials("search", tmp_path, url)
        number = trials.add({}, {}, {"training.lr": 1e-3}, 5.0)
        trials.complete(number, 4.25)
        trials.add({}, {}, {"training.lr": 1e-2})
    (kept, running), (there, other) = (Trials("search", tmp_path, url).all() for url in (None, database))
    assert (kept.value, kept.user_attrs, kept.state) == (there.value, there.user_attrs, there.state)
    assert running.state == other.state == TrialState.RUNNING


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://me:secret@/trials?host={tmp_path}"
    with pytest.raises(UserError, match="storage: postgresql\\+psycopg://…@/trials.*: ") as refused:
        Trials("search", tmp_path, url)
    assert "secret" not in str(refused.value)
