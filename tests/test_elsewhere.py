"""docs/elsewhere.md: its PBS script, run by a shell that is stopped as PBS stops a job."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from commands import wait_until

from palenka.util.paths import ROOT

PAGE = ROOT / "docs" / "elsewhere.md"


@pytest.mark.parametrize(("code", "submitted"), [(75, True), (0, False), (1, False)])
def test_a_job_that_is_stopped_submits_the_next_one(tmp_path: Path, code: int, submitted: bool) -> None:
    """The signal goes to all processes of the job, its shell among them."""
    [script] = re.findall(r"^```\n(#!/bin/bash\n.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    work, programs = tmp_path / "the work", tmp_path / "bin"
    (work / ".venv" / "bin").mkdir(parents=True)
    (work / ".venv" / "bin" / "activate").write_text(f"export PATH={programs}:$PATH\n")
    programs.mkdir()
    trains = f"trap 'exit {code}' TERM; touch begun; while :; do sleep 0.05; done"
    for name, text in {"python": trains, "qsub": f'echo "$@" > {tmp_path}/submitted'}.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    copy = tmp_path / "copy.SC"  # what PBS runs
    copy.write_text(script)
    job = subprocess.Popen(["bash", copy], env=os.environ | {"PBS_O_WORKDIR": str(work)}, start_new_session=True)
    try:
        wait_until((work / "begun").exists, job)
        os.killpg(job.pid, signal.SIGTERM)
        job.wait(60)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    said = tmp_path / "submitted"
    assert (said.read_text() if said.exists() else None) == (f"{work}/student.pbs\n" if submitted else None)
