"""Where things lie: the repository, raw corpora, prepared data, runs, teacher signals and evaluation data."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


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
    """Recorded teachers: `PALENKA_SIGNALS`, by default `signals/` in the repository."""
    return Path(os.environ.get("PALENKA_SIGNALS", ROOT / "signals")).absolute()


def evaluation_root() -> Path:
    """Evaluation items: `PALENKA_EVAL`, by default `evaluation_data/` in the repository."""
    return Path(os.environ.get("PALENKA_EVAL", ROOT / "evaluation_data")).absolute()
