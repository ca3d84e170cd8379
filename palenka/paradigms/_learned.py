"""How the model of a folder learned.

A run of ours says so in its config; its model is of a causal class in any case, which sees later tokens where it is
told to. Another folder holds a masked model, which sees all by itself, if its class is called so: BertForMaskedLM.
"""

from pathlib import Path
from typing import cast

from palenka.paradigms import DOOR, ParadigmConfig
from palenka.util.config import read_yaml
from palenka.util.errors import UserError
from palenka.util.files import read_object

RUN_CONFIG, MODEL_CONFIG = "config.yaml", "config.json"
MASKED_CLASS = "ForMaskedLM"


def holds_masked_model(folder: Path) -> bool:
    """Whether a folder, which need not be whole, is none of our runs and says that its model is a masked one."""
    if (folder / RUN_CONFIG).exists() or not (folder / MODEL_CONFIG).is_file():
        return False
    try:
        names = read_object(folder / MODEL_CONFIG).get("architectures")
    except UserError:
        return False  # which is told where all of the folder is checked
    return isinstance(names, list) and any(str(name).endswith(MASKED_CLASS) for name in names)


def learned(folder: Path) -> ParadigmConfig:
    """The paradigm of a model folder.

    Raises:
        UserError: a paradigm that there is not.
    """
    path = folder / RUN_CONFIG
    if path.exists():
        given = read_yaml(path).get("paradigm", "causal")
    else:
        given = "masked" if holds_masked_model(folder) else "causal"
    try:
        return cast(ParadigmConfig, DOOR.read(given))
    except ValueError as error:
        raise UserError(f"{path}: paradigm: {error}") from None
