"""What happens to files: cut, emptied, overwritten, gone, edited, or no longer files."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], Any]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def missing(path: Path) -> None:
    path.unlink()


def nul_bytes(path: Path) -> None:
    """The size that it had, but nothing behind the middle: a file system after a power loss."""
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(path.name).randbytes(max(path.stat().st_size, 64)))


def bit_flip(path: Path) -> None:
    """One bit in the middle of the file; in an array, which is read here and there, one in each block."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    for place in range(middle % 512, len(content), 512) if path.suffix == ".bin" else [middle]:
        content[place] ^= 1
    path.write_bytes(content)


def longer(path: Path) -> None:
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


SHORTER_OR_LONGER: tuple[Damage, ...] = (cut, empty, missing, longer)
"""What the size tells."""
OF_CONTENT: tuple[Damage, ...] = (*SHORTER_OR_LONGER, nul_bytes, bit_flip)
ALL: tuple[Damage, ...] = (*OF_CONTENT, garbage, a_folder, a_pipe, dangling_link)


def name_of(damage: Damage) -> str:
    return damage.__name__.replace("_", " ")


def edited(change: Callable[[Any], Any]) -> Damage:
    """A JSON file's content, changed in place."""

    def damage(path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    return damage
