"""What flushes and checksums cost a checkpoint: the same one saved with and without them, taken in turns.

    python benchmarks/save.py --parameters 15e6 --folder runs

`best` is a checkpoint that will be exported, which is read back; `before` has neither checksums nor flushes but that of
the files. Medians of seconds with the spread, and how often was flushed, one JSON line per kind; the ratio is to the
first kind. The folder decides: another disk, another result.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file

from palenka.cli import command
from palenka.runs import checkpoints
from palenka.runs.directory import Run
from palenka.util import files

KINDS = ("neither", "before", "flushes", "flushes and checksums", "best")


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, default=15e6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path())
    arguments = parser.parse_args()
    weights = torch.randn(int(arguments.parameters))
    moments = {"exp_avg": torch.randn_like(weights), "exp_avg_sq": torch.rand_like(weights)}

    def write(folder: Path) -> None:
        save_file({"weights": weights}, folder / "distiller.safetensors")
        torch.save(moments, folder / "optimizer.pt")

    measured: dict[str, list[tuple[float, int]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run = Run("measured", Path(folder))
        run.path.mkdir()
        for step in range(1, arguments.rounds + 2):
            for number, kind in enumerate(KINDS):
                measured[kind].append(save(run, step * len(KINDS) + number, kind, write))
    first = statistics.median(seconds for seconds, _ in measured[KINDS[0]][1:])
    for kind, found in measured.items():
        taken = [seconds for seconds, _ in found[1:]]  # the first round is left out
        median = statistics.median(taken)
        figures = {"median": median, "min": min(taken), "max": max(taken), "ratio": median / first}
        rounded = {name: round(value, 3) for name, value in figures.items()}
        print(json.dumps({"kind": kind, "flushes": found[-1][1], **rounded}))


def save(run: Run, step: int, kind: str, write: Callable[[Path], None]) -> tuple[float, int]:
    """Seconds and flushes of one checkpoint, which replaces the last one."""
    flushed = 0

    def fsync(descriptor: int, flush: Callable[[int], None] = os.fsync) -> None:
        nonlocal flushed
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if kind != "neither" and (kind != "before" or (path.is_file() and path.parent != run.path)):
            flushed += 1
            flush(descriptor)

    run.log({"step": step})
    has_checksums = kind in ("flushes and checksums", "best")
    state: dict[str, Any] = {"progress": {"step": step, "best_step": step}}
    with mock.patch.object(os, "fsync", fsync), mock.patch.object(
        checkpoints, "sha256", files.sha256 if has_checksums else lambda path: ""
    ):  # fmt: skip
        started = time.perf_counter()
        run.save_checkpoint(step, write, state, keep=set(), is_best=kind == "best")
        return time.perf_counter() - started, flushed


if __name__ == "__main__":
    main()
