"""What an unfinished training leaves beside where its result will be: `seed-<n>.checkpoint-<epoch>/`.

It is written now and then after an epoch, and gone with the result.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from palenka.runs.checkpoints import find_damage, read_state, write_state
from palenka.training.state import read_tensors, write_tensors
from palenka.util.files import make_folder, removed_on_error, replace, sync_tree

SECONDS = 60.0
"""Between two of them, at least: an epoch may take less time than writing down what it left."""


class Checkpoints:
    """Those of one training.

    Args:
        result: path of its result.
        identity: of the training; checkpoints of another are dropped.
    """

    def __init__(self, result: Path, identity: dict[str, Any]) -> None:
        self.result, self.identity = result, identity
        self.last = time.monotonic()

    def resume(self, module: nn.Module, states: Mapping[str, Any]) -> dict[str, Any] | None:
        """Put the newest whole checkpoint into a module and the states beside it; what was saved with it."""
        for epoch, folder in sorted(self._folders().items(), reverse=True):
            if find_damage(folder, epoch) is None and (state := read_state(folder))["identity"] == self.identity:
                read_tensors(folder, module, states)
                return dict(state["course"])
        return None

    def save(self, epoch: int, module: nn.Module, states: Mapping[str, Any], course: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, unless the last is not old yet; former ones are dropped."""
        if time.monotonic() - self.last < SECONDS:
            return
        former = self._folders().values()
        folder = self.result.with_name(f"{self._prefix}{epoch}")
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        make_folder(folder.parent)
        with removed_on_error(temporary):
            temporary.mkdir()
            write_tensors(temporary, module, states)
            write_state(temporary, {"progress": {"step": epoch}, "identity": self.identity, "course": course})
            sync_tree(temporary)
            for other in former:
                if other == folder:
                    shutil.rmtree(other)
            replace(temporary, folder)
        for other in former:
            shutil.rmtree(other, ignore_errors=True)
        self.last = time.monotonic()

    def drop(self) -> None:
        """Remove them all."""
        for folder in (*self._folders().values(), *self.result.parent.glob(f".{self._prefix}*.tmp")):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _prefix(self) -> str:
        return f"{self.result.stem}.checkpoint-"

    def _folders(self) -> dict[int, Path]:
        paths = {path.name.removeprefix(self._prefix): path for path in self.result.parent.glob(f"{self._prefix}*")}
        return {int(epoch): path for epoch, path in paths.items() if epoch.isdecimal()}
