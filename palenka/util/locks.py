"""Locks: what one process at a time may do.

The system lets go of a lock when its process ends, however it ends; the lock file stays. Processes forked from the
holder do not keep it.
"""

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Of NFS without its daemon, of Lustre mounted without flock, of FUSE."""


def lock(path: Path, wait: bool = False, holder: str = "") -> FileLock:
    """Take the lock of a file, in which `holder` is written. Where the file system has no locks, all get it.

    Raises:
        Timeout: another process has it, and it is not to be waited for.
    """

    def sign(descriptor: int) -> None:
        os.truncate(descriptor, 0)
        os.write(descriptor, holder.encode())

    path.parent.stat()  # filelock would make a folder that is gone
    taken = FileLock(path, fallback_to_soft=False, on_acquired=sign)
    try:
        taken.acquire(blocking=wait)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        _tell_of_no_locks(path.parent, error.strerror)
    return taken


@contextmanager
def held(path: Path, tell: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path`; `tell` is called before waiting for another process that holds it."""
    try:
        taken = lock(path)
    except Timeout:
        tell()
        taken = lock(path, wait=True)
    try:
        yield
    finally:
        taken.release()


@functools.cache
def _tell_of_no_locks(folder: Path, reason: str) -> None:
    print(
        f"{folder}: no locks on this file system ({reason}): make sure that no second process works in this folder",
        file=sys.stderr, flush=True,
    )  # fmt: skip
