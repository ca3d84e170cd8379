"""The subcommands of `palenka`, one a file, found by its name and imported only where it is called.

`my_command.py` is `palenka my-command`; the first line of its docstring is its line in `palenka --help`. It defines

    add_arguments(parser)    what may follow the command's name
    run(arguments)           reads those and calls what does the work

What several commands take is here.
"""

import argparse
import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from palenka.evaluation.protocols import PROTOCOLS

FROM_LAST_GOOD = "a run that diverged resumes from its last checkpoint"


def available() -> dict[str, str]:
    """Command → what it does, of all of them, without importing any."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name.replace("_", "-"): _summary(Path(__path__[0]) / f"{name}.py") for name in names}


def _summary(path: Path) -> str:
    documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return documentation.partition("\n")[0].rstrip(".")


def find(command: str) -> ModuleType:
    """The module of a command that is available."""
    return importlib.import_module(f"{__name__}.{command.replace('-', '_')}")


def add_protocol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--protocol", default="2024", choices=PROTOCOLS,
        help="the year of the challenge whose tasks and rules are meant (default 2024)",
    )  # fmt: skip
