"""Jobs of a real SLURM: killed, cancelled, requeued, their daemon or their node gone."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import slurm_cluster
from run_files import outcome
from slurm_cluster import until
from slurm_site import Place as Site
from slurm_site import is_back, long_config

from torture import programs
from torture.cases import LOSS, RIGHT, TRACEBACK, UNTRIED, WRONG, Case, Verdict
from torture.world import World

SECONDS = 300
RUN = "job"
COMMAND = "sbatch scripts/train.slurm job.yaml"
Fault = Callable[[Site, str], None]


def kill_program(site: Site, job: str) -> None:
    os.kill(int(process_of(site)), signal.SIGKILL)


def scancel(*options: str) -> Fault:
    return lambda site, job: site.cluster.run("scancel", *options, job) and None


def requeue(site: Site, job: str) -> None:
    site.cluster.run("scontrol", "requeue", job)


def kill_daemon_of_step(site: Site, job: str) -> None:
    """slurmstepd of the batch step: what it started goes with it, or is found by the node."""
    listed = subprocess.run(["pgrep", "--full", f"slurmstepd: \\[{job}"], capture_output=True, text=True).stdout
    for pid in listed.split():
        os.kill(int(pid), signal.SIGKILL)


def node_down(site: Site, job: str) -> None:
    site.cluster.run("scontrol", "update", "nodename=n1", "state=down", "reason=test")
    until(lambda: site.cluster.job(job)["JobState"] != "RUNNING", SECONDS)
    until(lambda: is_back(site.cluster, "n1"), SECONDS)


FAULTS: dict[str, Fault] = {
    "SIGKILL of the training": kill_program,
    "scancel --signal=KILL": scancel("--signal=KILL", "--full"),
    "scancel": scancel(),
    "scancel --signal=USR1": scancel("--batch", "--signal=USR1"),
    "scontrol requeue": requeue,
    "SIGKILL of slurmstepd": kill_daemon_of_step,
    "the node goes down": node_down,
}


def cases(world: World) -> Iterator[Case]:
    for name, fault in FAULTS.items():
        yield Case(f"SLURM: {name}", name, COMMAND, partial(judge_job, fault))


def judge_job(fault: Fault, world: World, folder: Path) -> Verdict:
    """A job meets a fault at its first checkpoint, and is submitted again where SLURM does not bring it back."""
    if reason := slurm_cluster.missing():
        return Verdict(UNTRIED, reason)
    with tempfile.TemporaryDirectory(prefix="palenka-slurm-") as name:
        public = Path(name)
        public.chmod(0o755)
        (public / "slurm").mkdir()
        with slurm_cluster.running(public / "slurm") as cluster:
            site = Site(public, cluster, world.behind("").data)
            return judge_at(site, fault, folder)


def judge_at(site: Site, fault: Fault, folder: Path) -> Verdict:
    config = long_config(site, "unbroken")
    command = [str(site.checkout / "train.py"), "--config", str(config)]
    settings = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1", **site.settings}
    ended = programs.start(command, settings, site.folder, folder / "unbroken.log").wait()
    if ended.code:
        return Verdict(LOSS, ended.brief())
    job = site.submit_slow("--nodelist=n1", site.script("train.slurm"), long_config(site, RUN))
    site.checkpoint(RUN)
    fault(site, job)
    state = state_at_end(site, job)
    if not is_finished(site):
        state = state_at_end(site, site.submit(site.script("train.slurm"), f"{RUN}.yaml"))
    logs = "".join(path.read_text(errors="replace") for path in (site.checkout / "logs").glob("*.out"))
    if "Traceback" in logs:
        return Verdict(TRACEBACK, logs[-600:])
    if not is_finished(site):
        return Verdict(LOSS, f"{state}: {logs[-600:]}")
    same = outcome(site.runs / RUN) == outcome(site.runs / "unbroken")
    return Verdict(RIGHT) if same else Verdict(WRONG, "another outcome than that of an uninterrupted run")


def is_finished(site: Site) -> bool:
    return (site.runs / RUN / "result.json").exists()


def state_at_end(site: Site, job: str) -> str:
    """What SLURM says of a job when its training has finished and gone, or SLURM has given the job up.

    SLURM alone is not asked: a controller that lost a job's slurmstepd calls the job running until it asks the node,
    half an hour later by default.
    """
    until(lambda: has_left(site) or site.cluster.job(job)["JobState"] not in slurm_cluster.UNFINISHED, SECONDS)
    return str(site.cluster.job(job)["JobState"])


def has_left(site: Site) -> bool:
    """Whether the program that finished the run is gone, with all that it does behind the result."""
    return is_finished(site) and not Path("/proc", process_of(site)).exists()


def process_of(site: Site) -> str:
    return (site.runs / RUN / ".lock").read_text().split()[1]
