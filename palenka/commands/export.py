"""Write a model folder for others, with code where transformers has none for such a model."""

import argparse
from pathlib import Path

from palenka.models.standalone import export_folder
from palenka.runs.directory import find_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN", help="a run's name, or a model folder")
    parser.add_argument(
        "--with-code", action="store_true",
        help="add code, by which transformers' Auto classes load it with trust_remote_code=True",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new folder (default: export/ in the model's own)")


def run(arguments: argparse.Namespace) -> None:
    folder = find_run(arguments.model)
    out = arguments.out or folder / "export"
    export_folder(folder, out, arguments.with_code)
    print(f"written: {out}")
