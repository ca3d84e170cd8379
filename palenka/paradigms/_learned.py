"""How the model of a folder learned."""

from pathlib import Path
from typing import cast

from palenka.paradigms import DOOR, ParadigmConfig
from palenka.util.config import read_yaml
from palenka.util.errors import UserError


def learned(folder: Path) -> ParadigmConfig:
    """The paradigm of a model folder, as the config of its run says; causal where there is none.

    Raises:
        UserError: a paradigm that there is not.
    """
    path = folder / "config.yaml"
    given = read_yaml(path).get("paradigm", "causal") if path.exists() else "causal"
    try:
        return cast(ParadigmConfig, DOOR.read(given))
    except ValueError as error:
        raise UserError(f"{path}: paradigm: {error}") from None
