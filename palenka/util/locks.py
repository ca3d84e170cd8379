"""Locks: a folder that one process at a time may fill."""

import fcntl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def lock(file: IO[str]) -> bool:
    """Take the lock of an open file without waiting; False where another process has it.

    The system releases a lock when its process ends, however it ends. Where the file system has none, all get it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # Lustre mounted without flock, NFS without its daemon
        print(
            f"{file.name}: no locks on this file system ({error.strerror}): make sure that no second process "
            "works in this folder", file=sys.stderr, flush=True,
        )  # fmt: skip
    return True


@contextmanager
def held(path: Path, tell: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`; `tell` is called before waiting for another process that holds it."""
    with path.open("w") as file:
        if not lock(file):
            tell()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
