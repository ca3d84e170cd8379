"""Where things lie: the repository, raw corpora, prepared data, runs, cached teacher logits and evaluation data."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def corpora_root() -> Path:
    """Raw texts as they were downloaded: `PALENKA_CORPORA`, by default `corpora/` in the repository."""
    return Path(os.environ.get("PALENKA_CORPORA", ROOT / "corpora")).absolute()


def data_root() -> Path:
    """Prepared data: `PALENKA_DATA`, by default `data/` in the repository."""
    return Path(os.environ.get("PALENKA_DATA", ROOT / "data")).absolute()


def runs_root() -> Path:
    """Run directories: `PALENKA_RUNS`, by default `runs/` in the repository."""
    return Path(os.environ.get("PALENKA_RUNS", ROOT / "runs")).absolute()


def signals_root() -> Path:
    """Cached teacher logits: `PALENKA_SIGNALS`, by default `signals/`, their former name, in the repository."""
    return Path(os.environ.get("PALENKA_SIGNALS", ROOT / "signals")).absolute()


def evaluation_root() -> Path:
    """Evaluation items: `PALENKA_EVAL`, by default `evaluation_data/` in the repository."""
    return Path(os.environ.get("PALENKA_EVAL", ROOT / "evaluation_data")).absolute()


def cache_root() -> Path:
    """What can be made again: `palenka/` in the folder that the system has for it, `~/.cache` mostly."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "palenka"


DATA_NAME = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)*")
"""Of prepared data."""
RESERVED = ("ema", "evaluation", "revisions", "tensorboard", "wandb")
"""Folders within a run, beside its checkpoints."""
MOST_NAME_BYTES = 200  # file systems take 255, and files beside a folder have its name and more
MOST_PATH_BYTES = 1000


def check_length(name: str) -> None:
    """Check that a name, with / between its parts, can be a folder's. Raises ValueError."""
    longest = max(len(os.fsencode(part)) for part in name.split("/"))
    if longest > MOST_NAME_BYTES or len(os.fsencode(name)) > MOST_PATH_BYTES:
        raise ValueError(
            f"{name[:40]}… is too long for a name: expected at most {MOST_NAME_BYTES} bytes in each part between /, "
            f"and {MOST_PATH_BYTES} altogether"
        )
