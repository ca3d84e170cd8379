"""Fetch official texts and evaluation items, checked."""

import argparse
from pathlib import Path

from palenka.data.fetch.download import download, list_items
from palenka.util.errors import Stopped


class _Interrupted(Stopped):
    code = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("items", nargs="*", metavar="WHAT", help="items by name; --list shows them")
    parser.add_argument("--out", type=Path, metavar="DIR", help="another folder than the item's own (one item only)")
    parser.add_argument("--list", action="store_true", help="list the items: size, folder, licence, citation")


def run(arguments: argparse.Namespace) -> None:
    if arguments.list:
        list_items()
        return
    try:
        download(arguments.items, arguments.out)
    except KeyboardInterrupt:
        raise _Interrupted("\ninterrupted; complete files are kept, and the same command fetches the rest") from None
