"""A real SLURM on this machine for tests: munge, slurmctld and two slurmds, in a folder of their own, on free ports.

Nothing of an installed cluster's configuration, key or state is read or written. The daemons are this process's
children, so that they are stopped by what started them.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
NODES = ("n1", "n2")
STARTING_SECONDS = 60
STOPPING_SECONDS = 20
Daemon = subprocess.Popen[bytes]
UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "REQUEUE_HOLD")

# cred_expire is also how long a requeued job waits; 5 s is the least that SLURM takes.
# Processes are tracked by /proc alone: no cgroups, no systemd, no accounting.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
GresTypes=gpu
SchedulerParameters=bf_interval=1,sched_interval=2,sched_min_interval=100000
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=86400
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_1} CPUs=8 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_2} CPUs=8 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 PriorityTier=1 GraceTime=20 State=UP
PartitionName=urgent Nodes=n1,n2 MaxTime=60 PriorityTier=2 PreemptMode=OFF State=UP
"""


def missing() -> str | None:
    """Why no cluster can be started here; None if one can."""
    if os.geteuid() != 0:
        return "starting a SLURM needs root"
    absent = [program for program in PROGRAMS if not shutil.which(program, path=_path())]
    return f"not installed: {', '.join(absent)} (Debian: slurm-wlm and munge)" if absent else None


class Cluster:
    """A running cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str | Path, cwd: Path | None = None, user: str | None = None, **environment: str) -> str:
        """Output of a command that speaks to this SLURM, run without the caller's own SLURM settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SBATCH_", "SLURM_"))}
        settings = kept | {"PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf")} | environment
        done = subprocess.run(
            list(map(str, command)), cwd=cwd, env=settings, user=user, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *arguments: str | Path, **options: Any) -> str:
        """A new job's id; `options` are those of `run`."""
        return self.run("sbatch", "--parsable", *arguments, **options).strip()

    def job(self, job_id: str) -> dict[str, str]:
        """The controller's record of a job."""
        record = self.run("scontrol", "--oneliner", "show", "job", job_id)
        return dict(re.findall(r"(\w+)=(\S*)", record.splitlines()[0]))

    def wait(self, job_id: str, seconds: float) -> dict[str, str]:
        """The record of a job once it has ended."""
        try:
            until(lambda: self.job(job_id)["JobState"] not in UNFINISHED, seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}: {self.job(job_id)}") from None
        return self.job(job_id)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster that lives in `folder` as long as the context."""
    host = socket.gethostname().split(".")[0]
    ports = dict(zip(("controller_port", "port_1", "port_2"), _free_ports(3), strict=True))
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, host=host, **ports))
    for number in range(2):  # files that are no devices: the GPUs are counted, and CUDA_VISIBLE_DEVICES stays as it is
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"NodeName=n1,n2 Name=gpu File={folder}/gpu[0-1]\n")
    (folder / "state").mkdir()
    for node in NODES:
        (folder / f"spool-{node}").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    cluster = Cluster(folder)
    daemons: list[Daemon] = []
    try:
        # munged complains of a /tmp that all may write to, and starts with --force.
        munged = ("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
        daemons.append(_start(folder, "munged", *munged))
        _came_up(lambda: (folder / "munge.socket").exists(), daemons, folder)
        daemons.append(_start(folder, "slurmctld", "slurmctld", "-D", "-i"))
        daemons += [_start(folder, f"slurmd-{node}", "slurmd", "-D", "-N", node) for node in NODES]
        _came_up(lambda: _is_idle(cluster), daemons, folder)
        try:
            yield cluster
        finally:
            _cancel_all(cluster)
    finally:
        for daemon in reversed(daemons):
            _stop(daemon)


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.1)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _start(folder: Path, name: str, *command: str) -> Daemon:
    environment = {"PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf"), "HOME": str(folder), "LANG": "C.UTF-8"}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def _came_up(ready: Callable[[], bool], daemons: list[Daemon], folder: Path) -> None:
    try:
        until(lambda: ready() or any(daemon.poll() is not None for daemon in daemons), STARTING_SECONDS)
        assert ready()
    except AssertionError:
        logs = {log.name: log.read_text(errors="replace")[-2000:] for log in folder.glob("*.log")}
        told = "\n".join(f"{name}: {text}" for name, text in logs.items())
        raise AssertionError(f"SLURM did not start\n{told}") from None


def _is_idle(cluster: Cluster) -> bool:
    try:
        return cluster.run("scontrol", "show", "node").count("State=IDLE") == len(NODES)
    except AssertionError:
        return False


def _cancel_all(cluster: Cluster) -> None:
    """Cancel what still runs: a job's own daemon would outlive the node's."""
    if jobs := cluster.run("squeue", "--noheader", "--format=%A").split():
        cluster.run("scancel", *jobs)
    until(lambda: not cluster.run("squeue", "--noheader").strip(), STOPPING_SECONDS)


def _stop(daemon: Daemon) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=STOPPING_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
