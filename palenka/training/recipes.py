"""What trains the study's runs: files in `config/`, and such with something changed, of `config/variants.yaml`."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palenka.util.config import compose, read_yaml
from palenka.util.paths import ROOT

CONFIGS = ROOT / "config"
VARIANTS = CONFIGS / "variants.yaml"


@dataclass(frozen=True)
class Recipe:
    """A config, and what is changed in it."""

    file: Path
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str | None:
        """Of the run."""
        given = [text.removeprefix("name=") for text in self.overrides if text.startswith("name=")]
        return given[-1] if given else read_yaml(self.file).get("name")

    @property
    def values(self) -> dict[str, Any]:
        """What the config says, unchecked."""
        return compose(self.file, self.overrides)

    @property
    def words(self) -> tuple[str, ...]:
        """What follows `--config` in a command at the repository's root."""
        path = self.file.resolve()
        return (str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path), *self.overrides)

    def __str__(self) -> str:
        return shlex.join(self.words)


def find_recipe(run: str, data: str | None = None) -> Recipe | None:
    """What trains the study's run of this name, on its own data or on other."""
    files = [path for path in sorted(CONFIGS.rglob("*.yaml")) if run in path.read_text(encoding="utf-8")]  # is quick
    variants = read_yaml(VARIANTS).get("runs", []) if VARIANTS in files else []
    recipes = [*map(Recipe, files), *map(read_command, variants)]
    found = next((recipe for recipe in recipes if recipe.name == run), None)
    if found is None or data in (None, found.values["data"]["name"]):
        return found
    return Recipe(found.file, (*found.overrides, f"data.name={data}"))


def read_command(command: str) -> Recipe:
    """What a command trains."""
    words = shlex.split(command)
    file, *overrides = words[words.index("--config") + 1 :]
    return Recipe(ROOT / file, tuple(overrides))
