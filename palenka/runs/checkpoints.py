"""Checkpoint folders: `state.json` is written last, and has the checksums by which damage is found.

    checkpoint-<step>/   distiller.safetensors  optimizer.pt  scaler.pt (fp16 only)  state.json
"""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from palenka.util.errors import UserError
from palenka.util.files import read_json, sha256

STATE = "state.json"
# What is trained: student and objectives. Named after the class's former name, so that half-finished runs resume.
WEIGHTS = "distiller.safetensors"


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` with the checksums of all files that are in the folder, and one of its own."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())}
    content = state | {"files": files}
    text = json.dumps(content | {"sha256": _own_checksum(content)}, indent=2)
    (folder / STATE).write_text(text + "\n", encoding="utf-8")


def read_state(folder: Path) -> dict[str, Any]:
    """The state of a checkpoint.

    Raises:
        UserError: it is damaged.
    """
    path = folder / STATE
    state = read_json(path)
    if "sha256" in state and state["sha256"] != _own_checksum(state):
        raise UserError(f"{path}: damaged: its checksum does not match")
    return dict(state)


def _own_checksum(state: dict[str, Any]) -> str:
    content = {key: value for key, value in state.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find_damage(folder: Path, step: int) -> str | None:
    """What is damaged in the checkpoint of a step; None if it is whole.

    One pass over its bytes. In a checkpoint from before there were checksums, only the state is checked.
    """
    path = folder / STATE
    try:
        if not path.is_file():
            return f"{path}: missing"
        state = read_state(folder)
        if (found := state["progress"]["step"]) != step:
            return f"{path}: damaged: of step {found}"
        for name, known in state.get("files", {}).items():
            path = folder / name
            if problem := _difference(path, known):
                return f"{path}: {problem}"
    except UserError as error:
        return str(error)
    except (KeyError, TypeError, AttributeError):
        return f"{path}: damaged: not the state of a training"
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return f"{path}: cannot be read ({error.strerror})"
    return None


def _difference(path: Path, known: dict[str, Any]) -> str | None:
    if not path.is_file():
        return "missing"
    if (size := path.stat().st_size) != known["bytes"]:
        return f"damaged: {size:,} bytes instead of {known['bytes']:,}"
    _forget(path)
    return "damaged: its checksum does not match" if sha256(path) != known["sha256"] else None


def _forget(path: Path) -> None:
    """Make the next read come from the disk, although the file is still in memory."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
