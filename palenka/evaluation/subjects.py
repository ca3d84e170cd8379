"""What is evaluated: a folder with a causal language model in it, wherever it comes from."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palenka.config import UserError, read_yaml
from palenka.corpus.hub import PREFIX, clear_failures, read_address
from palenka.files import read_json, replace, sync_tree
from palenka.paths import ROOT, data_root, runs_root
from palenka.runs import find_run

if TYPE_CHECKING:
    from palenka.evaluation.minicons_scorer import MiniconsScorer
    from palenka.evaluation.scoring import Scorer

MODEL_FILES = ("config.json", "model*.safetensors")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt")
HUB_FILES = (
    *MODEL_FILES, "generation_config.json", "model*.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "vocab.*", "merges.txt", "*.model",
)  # fmt: skip


@dataclass
class Subject:
    """A model folder; `prepared` is the data it was trained on, where that is here."""

    folder: Path
    config: dict[str, Any]
    prepared: Path | None

    @classmethod
    def find(cls, model: str) -> "Subject":
        """Raise UserError unless `model` names a folder with a model in it, or a model on the hub."""
        folder = _from_hub(model) if model.startswith(PREFIX) else find_run(model)
        for pattern in MODEL_FILES:
            if not list(folder.glob(pattern)):
                raise UserError(f"{folder}: no model to evaluate: there is no {pattern} (is the run finished?)")
        path = folder / "config.yaml"
        config = read_yaml(path) if path.exists() else {}
        return cls(folder, config, _prepared_data(config))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what decides the scores: weights, configuration and tokenizer."""
        from palenka.models import weights_sha256

        return _digest(weights_sha256(self.folder), [self.folder / "config.json"], self.tokenizer_fingerprint)

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """sha256 of the tokenizer's files: models with the same one read the same tokens."""
        return _digest("", [self.folder / name for name in TOKENIZER_FILES])

    @cached_property
    def scorer(self) -> "Scorer":
        """The model, loaded when it is needed first."""
        from palenka.evaluation.scoring import Scorer

        return Scorer.load(self.folder)

    @cached_property
    def minicons_scorer(self) -> "MiniconsScorer":
        """minicons' own of the model, loaded when it is needed first."""
        from palenka.evaluation.minicons_scorer import MiniconsScorer

        return MiniconsScorer.load(self.folder)

    def unload(self) -> None:
        for name in ("scorer", "minicons_scorer"):
            self.__dict__.pop(name, None)

    def results(self, convention: str) -> Path:
        """The folder for results in a convention."""
        return results_folder(self.folder, convention)


def results_folder(model: Path, convention: str) -> Path:
    """Results in the convention of 2024 lie in `evaluation/`, those in another in a folder of its name below."""
    return model / "evaluation" / ("" if convention == "2024" else convention)


def known_result(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """An earlier result, if it is of the same identity."""
    result = read_json(path) if path.exists() else {}
    return result if result.get("identity") == identity else None


def _digest(start: str, paths: list[Path], end: str = "") -> str:
    digest = hashlib.sha256(start.encode())
    for path in paths:
        digest.update(path.read_bytes() if path.exists() else b"")
    digest.update(end.encode())
    return digest.hexdigest()


def _prepared_data(config: dict[str, Any]) -> Path | None:
    name = config.get("data", {}).get("name")
    if name is None:
        return None
    root = (config.get("paths") or {}).get("data")
    folder = (ROOT / root if root else data_root()) / name
    return folder if (folder / "prepared.json").exists() else None


def _from_hub(model: str) -> Path:
    """`hf:owner/name@revision`, downloaded once to `runs/hub/owner/name@revision`: from then on a folder like others.

    Neither pickles nor code are fetched.
    """
    address = read_address(model)
    folder = runs_root() / "hub" / (address.repository + (f"@{address.revision}" if address.revision else ""))
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        with clear_failures(address):
            from huggingface_hub import snapshot_download

            snapshot_download(
                address.repository, revision=address.revision, local_dir=partial, allow_patterns=list(HUB_FILES)
            )
        sync_tree(partial)
        replace(partial, folder)
    return folder
