"""Files and folders that are either whole or not there, also after a power loss.

A file system keeps for certain only what it was told to flush: what is in a file, and, apart from that, which names its
folder holds. So a file is flushed before it is renamed to its place, and its folder after that.
"""

import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from palenka.util.errors import UserError
from palenka.util.locks import held


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either whole or not there."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or not there."""
    remove_leftovers(path.parent, f".{glob.escape(path.name)}.*.tmp")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with named(path), removed_on_error(temporary), held(temporary), temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        replace(temporary, path)


def remove_leftovers(folder: Path, pattern: str = ".*.tmp") -> None:
    """Remove what killed writers left behind; a live writer holds the lock of its file."""
    for leftover in folder.glob(pattern):
        with suppress(OSError), FileLock(leftover, blocking=False, fallback_to_soft=False):
            leftover.unlink()


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Make an OSError name the file that users know: for a failed write the system names none."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def require_writable(folder: Path, advice: str = "") -> None:
    """Check that files can be written to a folder, which need not exist yet, by writing an unnamed one.

    Raises:
        OSError: they cannot; `advice` is added to it.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with named(folder.absolute()), tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(4096))
    except OSError as error:
        if advice:
            error.add_note(advice)
        raise


@contextmanager
def removed_on_error(temporary: Path) -> Iterator[None]:
    """Remove a file or folder that was left half written, above all on a full disk."""
    try:
        yield
    except Exception:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is either whole or not there."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file of ours.

    Raises:
        UserError: the file is damaged.
    """
    require_file(path)
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {_damage(content) or f'not JSON ({error})'}") from None


def _damage(content: bytes) -> str | None:
    """What power losses and full disks leave in a file."""
    if not content:
        return "the file is empty"
    if b"\0" in content:
        return "holds NUL bytes"
    return None


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file of ours that holds names and values.

    Raises:
        UserError: the file is damaged.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged: expected a JSON object")
    return content


def sha256(path: Path) -> str:
    """Hash of a file's content. Raises UserError unless it is a regular file."""
    require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace(source: Path, target: Path) -> None:
    """Rename what is flushed already, replacing any file of that name, durably."""
    source.replace(target)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, if missing."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_tree(folder: Path) -> None:
    """Flush a folder and all that is below it to the disk. Its own name belongs to its parent."""
    for path, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(path, name))
        sync_folder(Path(path))


def sync_folder(folder: Path) -> None:
    """Flush the names that a folder holds to the disk."""
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL):  # some network file systems cannot flush a folder
            raise


def sync_file(path: Path) -> None:
    """Flush the content of a file to the disk. Its name belongs to its folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_file(path: Path) -> None:
    """See that what is there is a regular file: others may never end, or never begin. Raises UserError."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a regular file (a pipe, a socket or a device); write it to a file first")
