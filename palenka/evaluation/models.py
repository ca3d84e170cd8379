"""What is evaluated: a folder with a causal or masked language model in it, wherever it comes from."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from palenka.data.fetch.hub import PREFIX, read_address, snapshot
from palenka.data.integrity import read_prepared
from palenka.data.tokenizer import vocabulary_sha256
from palenka.evaluation.results import results_folder
from palenka.models.folder import CAUSAL, MASKED, check_model_folder, weights_sha256
from palenka.paradigms._learned import holds_masked_model
from palenka.runs.directory import find_run
from palenka.runs.milestones import MILESTONES
from palenka.util.config import read_yaml
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_json, replace, require_file, sha256, sync_tree, write_bytes, write_json
from palenka.util.paths import ROOT, data_root, runs_root

TOKENIZER_FILES = (
    "*token*", "*vocab*", "merges*", "*.model", "*.spm", "*.bpe", "*.codes", "dict.txt", "emoji.json", "byte_maps.json",
)  # fmt: skip
"""What the tokenizers of transformers read of a folder, whatever their kind."""
HUB_FILES = [
    "config.json", "model*.safetensors", "model*.json", "generation_config.json", "adapter_config.json", "tokenizer*",
    "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model",
]  # fmt: skip
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")

SOURCE = "model.json"
"""In a folder of results outside the model's own: whose they are."""
RUN_FILES = ("config.yaml", "identity.json", "environment.json", "metrics.jsonl", "result.json", "cost.json")
"""What a report reads of a run, beside its results."""


@dataclass
class EvaluatedModel:
    """A model folder, and the config of the run that it is, if it is one.

    `weights` is their sha256. `elsewhere` is the folder for its results where they are not to be in its own.
    """

    folder: Path
    config: dict[str, Any]
    weights: str
    elsewhere: Path | None = None

    @classmethod
    def find(cls, model: str) -> "EvaluatedModel":
        """Raise UserError unless `model` names a folder with a whole model or its results, or a model on the hub."""
        folder = _from_hub(model) if model.startswith(PREFIX) else _here(model)
        if (folder / SOURCE).exists():
            found = cls.find(str(read_json(folder / SOURCE)["model"]))
            found.elsewhere = folder
            return found
        check_model_folder(folder, MASKED if holds_masked_model(folder) else CAUSAL)
        path = folder / "config.yaml"
        return cls(folder, read_yaml(path) if path.exists() else {}, weights_sha256(folder))

    @cached_property
    def data_problem(self) -> str | None:
        """Why nothing can be measured on the text that it was trained on; None where it can.

        Raises:
            UserError: that text is prepared, but damaged.
        """
        name, folder = self.config.get("data", {}).get("name"), self._data_folder
        if folder is None:
            return "no config.yaml there names its data"
        if not (folder / "prepared.json").exists():
            return f"its data, {name!r}, is not prepared"
        read_prepared(folder)
        if not self._reads_as(folder / "tokenizer"):
            return f"its data, {name!r}, was prepared again with another vocabulary, so nothing is measured on {folder}"
        return None

    def _reads_as(self, tokenizer: Path) -> bool:
        own = self.folder / "tokenizer.json"
        return own.exists() and vocabulary_sha256(self.folder) == vocabulary_sha256(tokenizer)

    @property
    def prepared(self) -> Path | None:
        """The data it was trained on, where that is here, and read as the model reads."""
        return None if self.data_problem else self._data_folder

    @property
    def _data_folder(self) -> Path | None:
        name, root = self.config.get("data", {}).get("name"), (self.config.get("paths") or {}).get("data")
        return None if name is None else (ROOT / root if root else data_root()) / name

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what decides the scores: weights, configuration and tokenizer."""
        parts = [self.weights, sha256(self.folder / "config.json"), self.tokenizer_fingerprint]
        return _digest(parts)

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """sha256 of the tokenizer's files: models with the same one read the same tokens."""
        found = {path for pattern in TOKENIZER_FILES for path in self.folder.glob(pattern) if path.is_file()}
        return _digest([part for path in sorted(found) for part in (path.name, sha256(path))])

    @property
    def home(self) -> Path:
        """The folder below which its results lie: its own, or another."""
        return self.elsewhere or self.folder

    def results(self, protocol: str, way: str = "") -> Path:
        """The folder for results under a protocol; in another way than the first if one is given."""
        return results_folder(self.home, protocol, way)

    def milestone(self, name: str) -> "EvaluatedModel":
        """One that this run left; its results lie where this model's do.

        Raises:
            UserError: there is none of this name, or it is not whole.
        """
        found = EvaluatedModel.find(str((self.folder / MILESTONES / name).absolute()))
        found.elsewhere = self.elsewhere and self.elsewhere / MILESTONES / name
        return found

    def place_results(self, out: Path) -> None:
        """Send results to a folder in `out` of this model's name, which `report` and the others accept in its place.

        Raises:
            UserError: the folder is that of another model's results.
        """
        model = self.folder.resolve()
        run, milestone = run_and_milestone(model)
        home = out / run / MILESTONES / milestone if milestone else out / run
        source = {"model": str(model)}
        if (home / SOURCE).exists() and (found := read_json(home / SOURCE)) != source:
            raise UserError(f"{home}: holds the results of {found['model']}, not of {model}; give another --out")
        make_folder(home)
        write_json(home / SOURCE, source)
        for name in RUN_FILES:
            if (model / name).exists():
                require_file(model / name)
                write_bytes(home / name, (model / name).read_bytes())
        self.elsewhere = home


def run_and_milestone(folder: Path) -> tuple[str, str | None]:
    """The names of the run that a model folder is, or is a milestone of, and of this milestone.

    A run's name is its path below the folder of runs; that of another model is its folder's.
    """
    folder, milestone = folder.resolve(), None
    if folder.parent.name == MILESTONES:
        folder, milestone = folder.parent.parent, folder.name
    root = runs_root().resolve()
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else folder.name, milestone


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _here(model: str) -> Path:
    """Where a run or a folder lies. A name such as the hub's may be meant for one of its models."""
    try:
        return find_run(model)
    except UserError as absent:
        if not HUB_NAME.fullmatch(model):
            raise
        raise UserError(f"{absent}; a model of the Hugging Face Hub would be {PREFIX}{model}") from None


def _from_hub(model: str) -> Path:
    """`hf:owner/name@revision`, downloaded once to `runs/hub/owner/name@revision`: from then on a folder like others.

    Neither pickles nor code are fetched.
    """
    address = read_address(model)
    folder = runs_root() / "hub" / (address.repository + (f"@{address.revision}" if address.revision else ""))
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        snapshot(address, "model", HUB_FILES, partial)
        sync_tree(partial)
        replace(partial, folder)
    return folder
