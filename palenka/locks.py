"""A folder that one process at a time may fill."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path, tell: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`, after `tell` has said so where another process does, and it has to be waited for.

    The system lets go of a lock when its process ends, however it ends.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
