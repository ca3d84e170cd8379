"""A disk that can lose power: ext4 in a file, of which any instant can be kept as a power loss would leave it.

What the kernel has not written by then, since nobody flushed it, is not in the copy. A copy is mounted and its journal
replayed, as by a machine that starts again.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SIZE = 32 << 20
UNWILLING = "commit=300"  # seconds until the journal is written without being asked


@dataclass
class Loss:
    """The disk at one instant; `moment` says which."""

    moment: str
    image: Path


class Disk:
    """A file system in `folder`/image, mounted at `folder`/mounted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.image, self.losses = folder / "image", list[Loss]()
        with self.image.open("wb") as file:
            file.truncate(SIZE)
        _call("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", self.image)

    @contextmanager
    def watched(self) -> Iterator[Path]:
        """The mounted folder; power is lost before and after each flush, renaming and removal in it."""
        with mounted(self.image) as folder, pytest.MonkeyPatch.context() as patch:
            for owner, name in ((os, "fsync"), (Path, "replace"), (shutil, "rmtree")):
                patch.setattr(owner, name, self._losing(getattr(owner, name), name))
            yield folder

    def _losing(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def losing(what: Any, *others: Any, **options: Any) -> Any:
            path = Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else what
            self.lose(f"before {name} of {path.name}")
            done = call(what, *others, **options)
            self.lose(f"after {name} of {path.name}")
            return done

        return losing

    def lose(self, moment: str) -> None:
        image = self.image.with_name(f"{len(self.losses)}")
        _call("cp", "--sparse=always", self.image, image)
        self.losses.append(Loss(f"{len(self.losses)}, {moment}", image))


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """The folder of a file system in a file."""
    folder = image.with_name(f"{image.name}-mounted")
    folder.mkdir(exist_ok=True)
    _call("mount", "-o", f"loop,{UNWILLING}", image, folder)
    try:
        yield folder
    finally:
        _call("umount", "--lazy", folder)


def _call(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def is_possible(folder: Path) -> str | None:
    """Why no power can be lost here; None where it can."""
    if os.geteuid() != 0:
        return "to mount a file system needs root"
    try:
        with mounted(Disk(folder).image):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no file system can be mounted here ({error})"
