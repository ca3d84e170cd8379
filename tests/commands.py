"""Python programs as processes of their own, one thread each. Tests that start some ask for the fixture `processes`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from palenka.util.paths import ROOT

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
SECONDS = 1200  # of patience with a busy machine
Process = subprocess.Popen[str]


def start(*arguments: str | Path) -> Process:
    """Python on `arguments`."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: Process) -> tuple[int, str]:
    """Exit code and standard error."""
    try:
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, errors


def succeed(*arguments: str | Path) -> str:
    """Standard error of a program that must end well."""
    code, errors = finish(start(*arguments))
    assert code == 0, errors
    return errors


def wait_until(condition: Callable[[], Any], process: Process) -> None:
    while not condition():
        assert process.poll() is None, f"ended before it was killed: {process.communicate()[1]}"
        time.sleep(0.0005)
