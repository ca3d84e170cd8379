"""What teachers predict, cached on disk: recorded once, and read by students trained one after the other.

    signals/<data>/top<k>-<key>/   identity.json   all that decides the bytes
                                   00000.bin …     1,024 windows each, in training order, a record a position
                                   checksums.json  sha256 of each shard, as it was written

A record holds the k likeliest next tokens (uint16) with their log-probabilities (float16), and the log of the mass
left to all others, the *tail* (float16): 4k + 2 bytes. It is the combined prediction of all teachers at the
temperature of `logit`. With `samples`, it also holds s tokens drawn of the tail (uint16), each of which stands for an
equal part of it: another 2s bytes.

They are drawn systematically: the tail's tokens lie side by side, each as long as it is likely, and s points a step
apart, the first at random, say which are taken. So a token is drawn s p times on average, as if each draw were one of
its own (Sparse Logit Sampling, arXiv 2503.16870, section 3), and never more than one time more or less than that.

Windows are a function of (data seed, epoch, position). So logits are stored by position, and serve every student of
the same text, whatever its shape, weights, seed, batch size or number of steps.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palenka.runs.identity import check_cache, differences, listed
from palenka.util.errors import UserError
from palenka.util.files import (
    make_folder,
    read_json,
    read_object,
    remove_leftovers,
    removed_on_error,
    replace,
    sha256,
    write_json,
)
from palenka.util.locks import held
from palenka.util.system_errors import noting

VERSION = 1
"""To be raised with every change that makes the same teachers leave other bytes."""
SHARD_WINDOWS = 1024
TINY = torch.finfo(torch.float32).tiny

Records = NDArray[np.void]


@dataclass(frozen=True)
class CachedLogits:
    """The place on disk of what teachers predict on one text, whether or not it has been recorded.

    Args:
        root: the folder of all caches over the same data.
        identity: what decides the bytes: nested mappings of plain values, with `top_k`, `temperature` and, unless it
            is 0, `samples`.
        seq_length: positions of a window.
    """

    root: Path
    identity: dict[str, Any]
    seq_length: int

    @property
    def folder(self) -> Path:
        key = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return self.root / f"top{self.top_k}-{key[:12]}"

    @property
    def top_k(self) -> int:
        return int(self.identity["top_k"])

    @property
    def samples(self) -> int:
        return int(self.identity.get("samples", 0))

    @property
    def temperature(self) -> float:
        return float(self.identity["temperature"])

    @property
    def record(self) -> np.dtype[np.void]:
        """What is stored of a position."""
        likeliest = [("tokens", "<u2", (self.top_k,)), ("log_probs", "<f2", (self.top_k,)), ("tail", "<f2")]
        return np.dtype(likeliest + ([("drawn", "<u2", (self.samples,))] if self.samples else []))

    @property
    def shard_bytes(self) -> int:
        return SHARD_WINDOWS * self.seq_length * self.record.itemsize

    def shard_path(self, shard: int) -> Path:
        return self.folder / f"{shard:05}.bin"

    def shard_windows(self, shard: int) -> range:
        """Positions of a shard's windows."""
        return range(shard * SHARD_WINDOWS, (shard + 1) * SHARD_WINDOWS)

    def shards(self, windows: int) -> range:
        """Numbers of the shards that hold the first `windows` windows."""
        return range(-(-windows // SHARD_WINDOWS))

    def missing(self, windows: int) -> list[int]:
        """Numbers of the shards that are missing, cut short, or without a checksum."""
        known = self._checksums()
        return [shard for shard in self.shards(windows) if not self._is_whole(self.shard_path(shard), known)]

    def _is_whole(self, path: Path, known: Mapping[str, str]) -> bool:
        return path.is_file() and path.stat().st_size == self.shard_bytes and path.name in known

    def damaged(self, windows: int) -> list[Path]:
        """Shards of the first `windows` windows whose content is not what was written; missing ones are left out."""
        known, paths = self._checksums(), map(self.shard_path, self.shards(windows))
        return [path for path in paths if self._is_whole(path, known) and _sha256_of(path) != known[path.name]]

    def _checksums(self) -> dict[str, str]:
        """By name of the shard."""
        path = self.folder / "checksums.json"
        try:
            return read_object(path) if path.exists() else {}
        except UserError as error:
            raise UserError(f"{error}. Remove it, and cache-logits records the shards again") from None

    def check(self, windows: int) -> None:
        """Check that the first `windows` windows can be read.

        Raises:
            UserError: they were not recorded, or another cache is in their place; with the command that records them,
                and how the most similar cache differs.
        """
        check_cache(self.folder, self.identity)
        if missing := self.missing(windows):
            shards = len(self.shards(windows))
            lacking = f"{len(missing)} of {shards} shards are missing, cut short or have no checksum"
            raise UserError(
                f"cached_logits: {self.folder}: {lacking}; record them first, with the same config and overrides: "
                f"palenka cache-logits --config FILE{self._nearest()}"
            )

    def verify(self, windows: int) -> None:
        """Compare the checksums of the shards of the first `windows` windows, which `check` has found there.

        Raises:
            UserError: naming those that are damaged.
        """
        if damaged := self.damaged(windows):
            raise UserError(
                f"{', '.join(map(str, damaged))}: damaged: not the content that was recorded (sha256). To record it "
                "again, with the same config and overrides: palenka cache-logits --config FILE"
            )

    def _nearest(self) -> str:
        others = [path for path in self.root.glob("*/identity.json") if path.parent != self.folder]
        found = {path.parent.name: list(differences(read_json(path), self.identity)) for path in others}
        if not found:
            return ""
        name = min(found, key=lambda name: len(found[name]))
        return f"\nThe most similar cache, {name}, differs in{listed(found[name])}"

    @contextmanager
    def writing(self, tell: Callable[[], None]) -> Iterator[None]:
        """Hold the folder as the only process that may fill it; `tell` is called before waiting for another one."""
        make_folder(self.folder)
        with held(self.folder / ".lock", tell):
            check_cache(self.folder, self.identity)
            remove_leftovers(self.folder)
            write_json(self.folder / "identity.json", self.identity)
            yield

    def write_shard(self, shard: int, batches: Iterable[Records]) -> None:
        """Write a shard so that it is either whole or not there."""
        temporary = self.folder / f".{shard:05}.tmp"
        path, digest = self.shard_path(shard), hashlib.sha256()
        kept = "the shards before it are kept, and the same command resumes from there"
        with noting(lambda: f"{path} was not written; {kept}"), removed_on_error(temporary):
            with temporary.open("wb") as file:
                for records in batches:
                    content = records.tobytes()
                    digest.update(content)
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            replace(temporary, path)
            write_json(self.folder / "checksums.json", self._checksums() | {path.name: digest.hexdigest()})

    def read(self, windows: range) -> Records:
        """The records of consecutive windows (windows · seq_length,)."""
        shards = range(windows.start // SHARD_WINDOWS, (windows.stop - 1) // SHARD_WINDOWS + 1)
        return np.concatenate([self._read(shard, windows) for shard in shards])

    def _read(self, shard: int, windows: range) -> Records:
        mapped = np.memmap(self.shard_path(shard), self.record, mode="r")
        here = (max(0, window - shard * SHARD_WINDOWS) for window in (windows.start, windows.stop))
        return mapped[slice(*(window * self.seq_length for window in here))]


def _sha256_of(path: Path) -> str:
    """All students of a cohort ask for it."""
    return _sha256_once(path, path.stat().st_mtime_ns)


@cache
def _sha256_once(path: Path, changed_ns: int) -> str:
    return sha256(path)


def compress(log_probs: Tensor, record: np.dtype[np.void], starts: Tensor | None = None) -> Records:
    """Records (tokens,) of predictions (tokens, vocabulary).

    Args:
        starts: from 0 to 1 (tokens,), of the first point that draws of a tail; where the record has what is drawn.

    Raises:
        UserError: a prediction is not finite.
    """
    top = log_probs.topk(record["tokens"].shape[0], dim=-1)
    others = log_probs.exp().scatter_(1, top.indices, 0.0)
    tail = others.sum(dim=-1).clamp_min(TINY).log()
    records = np.empty(len(log_probs), record)
    records["tokens"] = top.indices.cpu().numpy()
    records["log_probs"] = top.values.clamp_min(torch.finfo(torch.float16).min).cpu().numpy()
    records["tail"] = tail.cpu().numpy()
    if starts is not None:
        records["drawn"] = draw(others, starts, record["drawn"].shape[0]).cpu().numpy()
    if not np.isfinite(records["tail"]).all():  # a tail is over all tokens: a sum shows whether any of them is wrong
        raise UserError("the teachers' prediction is not finite; recording stopped")
    return records


def draw(masses: Tensor, starts: Tensor, samples: int) -> Tensor:
    """Tokens int64 (tokens, samples), drawn systematically: `samples` times as often as their share, on average.

    Args:
        masses: (tokens, vocabulary), at least 0, of any sum. Of a row whose sum is 0 the last token is drawn.
        starts: from 0 to 1 (tokens,), the place of the first point on its step.
    """
    ends = masses.double().cumsum(dim=-1)
    points = (torch.arange(samples, device=masses.device) + starts[:, None].to(masses.device)) / samples
    return torch.searchsorted(ends, points * ends[:, -1:], right=True).clamp_max_(masses.shape[-1] - 1)
