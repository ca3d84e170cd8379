"""What happens to files: cut, emptied, overwritten, gone, or no longer files."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def missing(path: Path) -> None:
    path.unlink()


def nul_tail(path: Path) -> None:
    """The size that it had, but nothing behind the middle: a file system after a power loss."""
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(path.name).randbytes(max(path.stat().st_size, 64)))


def bit_flip(path: Path) -> None:
    """One bit at three quarters of the file; in an array, which is read here and there, one in each block."""
    content = bytearray(path.read_bytes())
    places = range(100, len(content), 512) if path.suffix == ".bin" else [len(content) * 3 // 4]
    for place in places:
        content[place] ^= 0x40
    path.write_bytes(content)


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0" * 64)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


ALL: tuple[Damage, ...] = (
    cut, empty, missing, nul_tail, garbage, bit_flip, appended, a_folder, a_pipe, dangling_link,
)  # fmt: skip


def name_of(damage: Damage) -> str:
    return damage.__name__.replace("_", " ")


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Write what `change` makes of a JSON file's content (None: what it did to it in place)."""
    content = json.loads(path.read_text(encoding="utf-8"))
    changed = change(content)
    path.write_text(json.dumps(content if changed is None else changed), encoding="utf-8")


def change_tensors(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write what `change` makes of a safetensors file's arrays (None: what it did to them in place)."""
    from safetensors.numpy import load_file, save_file

    arrays = load_file(path)
    changed = change(arrays)
    save_file(arrays if changed is None else changed, path, metadata={"format": "pt"})


def remove_tree(path: Path) -> None:
    shutil.rmtree(path)
