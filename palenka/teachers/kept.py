"""What teachers make of windows that come again: their final states, kept on disk from the first time on.

    signals/<data>/states-<key>/   identity.json    all that decides the states
                                   states.bin       of each window (time, bytes of a token), at its number
                                   checksums.bin    uint32 (windows,): of its states; 0 where there are none

A window's number is its position in the first epoch: with `data.crop: fixed` all epochs have the same windows. A token
takes the teachers' final states side by side, each followed by those of further layers where they are kept, in bf16 (2
bytes a number) or in fp8 (1, and 4 for the scale of each state: its largest number is 448, the largest of e4m3). Heads
are applied anew, at any temperature.

States are rounded the first time, too: what a student learns does not depend on what is there already, nor on how much
is kept. What a killed writer left, or a disk damaged, has another checksum, and is computed again.
"""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palenka.data.windows import Integers
from palenka.runs.identity import check_cache
from palenka.util.devices import GIB
from palenka.util.errors import UserError
from palenka.util.files import make_folder, named, write_json

VERSION = 1
"""To be raised with every change that makes the same teachers leave other bytes."""
NUMBER_BYTES = {"bf16": 2, "fp8": 1}
SCALE_BYTES = {"bf16": 0, "fp8": 4}
LARGEST_FP8 = torch.finfo(torch.float8_e4m3fn).max

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class KeptStates:
    """The place on disk of teachers' final states of one text's windows, as far as they are there.

    Args:
        root: the folder of all that is kept over the same data.
        identity: what decides the bytes: nested mappings of plain values.
        windows: how many an epoch has.
        seq_length: positions of a window.
        layers: of each teacher, kept beside its final states.
        sizes: width of each teacher's states.
        precision: `bf16` or `fp8`.
        max_gib: what the states may take; windows beyond it are not kept.
    """

    root: Path
    identity: dict[str, Any]
    windows: int
    seq_length: int
    layers: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    precision: str
    max_gib: float

    @property
    def folder(self) -> Path:
        key = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return self.root / f"states-{key[:12]}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the states that a token takes, one after the other."""
        parts = zip(self.sizes, self.layers, strict=True)
        return tuple(size for size, layers in parts for _ in range(1 + len(layers)))

    @property
    def token_bytes(self) -> int:
        return sum(NUMBER_BYTES[self.precision] * width + SCALE_BYTES[self.precision] for width in self.widths)

    @property
    def window_bytes(self) -> int:
        return self.seq_length * self.token_bytes

    @property
    def room(self) -> int:
        """The number of windows that are kept, the first of the first epoch."""
        return min(self.windows, int(self.max_gib * GIB) // self.window_bytes)

    @cached_property
    def _states(self) -> Path:
        return self.folder / "states.bin"

    @cached_property
    def _checksums(self) -> Path:
        return self.folder / "checksums.bin"

    def present(self) -> int:
        """How many windows are there."""
        return int(np.count_nonzero(self._known())) if self._checksums.exists() else 0

    def open(self) -> None:
        """Make the folder and its files, with holes where nothing is yet.

        Raises:
            UserError: the folder is another's, or the disk has not the room that is still to be filled.
        """
        make_folder(self.folder)
        check_cache(self.folder, self.identity)
        missing, free = self.room - self.present(), shutil.disk_usage(self.folder).free
        if missing * self.window_bytes > free:
            raise UserError(
                f"{self.folder}: {missing * self.window_bytes:,} bytes of states are to come, but only {free:,} are "
                "free on that disk; a smaller teacher_cache.max_gib needs less, and paths.signals or PALENKA_SIGNALS "
                "is another disk"
            )
        write_json(self.folder / "identity.json", self.identity)
        for file, size in ((self._states, self.room * self.window_bytes), (self._checksums, 4 * self.windows)):
            with named(file), file.open("ab") as opened:
                if file.stat().st_size < size:
                    opened.truncate(size)

    def read(self, numbers: Integers) -> tuple[NDArray[np.bool_], Bytes]:
        """Which windows are there, and of each (windows, time, bytes of a token), 0 where it is not."""
        found = np.zeros((len(numbers), self.seq_length, self.token_bytes), np.uint8)
        there, known = np.zeros(len(numbers), bool), self._known()
        if not self.room:  # a file of no bytes cannot be mapped
            return there, found
        stored = np.memmap(self._states, np.uint8, mode="r", shape=(self.room, self.seq_length, self.token_bytes))
        for place, number in enumerate(numbers.tolist()):
            if number < self.room and known[number]:
                found[place] = stored[number]
                there[place] = checksum(found[place]) == known[number]
        return there, found

    def _known(self) -> NDArray[np.uint32]:
        return np.fromfile(self._checksums, np.uint32)

    def write(self, numbers: Integers, windows: Bytes) -> None:
        """Keep windows, those that there is room for; a checksum follows its states."""
        with named(self._states), self._states.open("r+b") as states, self._checksums.open("r+b") as checksums:
            for number, window in zip(numbers.tolist(), windows, strict=True):
                if number < self.room:
                    os.pwrite(states.fileno(), window.tobytes(), number * self.window_bytes)
                    os.pwrite(checksums.fileno(), np.uint32(checksum(window)).tobytes(), 4 * number)

    def expect(self, numbers: Integers) -> None:
        """Have the system read windows while others are used."""
        with self._states.open("rb") as states:
            for number in numbers[numbers < self.room].tolist():
                start = number * self.window_bytes
                os.posix_fadvise(states.fileno(), start, self.window_bytes, os.POSIX_FADV_WILLNEED)


def checksum(window: Bytes) -> int:
    """Never 0, which means that there is none."""
    return zlib.crc32(window.tobytes()) or 1


def encode(states: Sequence[Tensor], precision: str) -> Tensor:
    """uint8 (windows, time, bytes of a token) of each teacher's states (windows, time, width)."""
    return torch.cat([part for each in states for part in _parts(each, precision)], dim=-1)


def _parts(states: Tensor, precision: str) -> list[Tensor]:
    if precision == "bf16":
        return [states.to(torch.bfloat16).contiguous().view(torch.uint8)]
    scale = (states.float().abs().amax(dim=-1, keepdim=True) / LARGEST_FP8).clamp_min(torch.finfo(torch.float32).tiny)
    numbers = (states.float() / scale).to(torch.float8_e4m3fn)
    return [scale.contiguous().view(torch.uint8), numbers.contiguous().view(torch.uint8)]


def decode(stored: Tensor, widths: Sequence[int], precision: str, dtype: torch.dtype) -> list[Tensor]:
    """Each teacher's states (windows, time, width) in `dtype`."""
    sizes = [NUMBER_BYTES[precision] * width + SCALE_BYTES[precision] for width in widths]
    return [_decoded(part, precision).to(dtype) for part in stored.split(sizes, dim=-1)]


def _decoded(part: Tensor, precision: str) -> Tensor:
    if precision == "bf16":
        return part.contiguous().view(torch.bfloat16)
    scale, numbers = part[..., : SCALE_BYTES["fp8"]], part[..., SCALE_BYTES["fp8"] :]
    return numbers.contiguous().view(torch.float8_e4m3fn).float() * scale.contiguous().view(torch.float32)
