"""Prepared data is used only if it is exactly what `prepare` left.

    prepared.json   files   size and sha256 of the tokenizer's files, the arrays and indices of each split and the text
                    sha256  of all else in prepared.json

Prepared data is opened by `read_prepared`, which checks the sizes of all files and the content of the small ones
(milliseconds). `verify` reads the arrays and the text, too (a second per gigabyte): before a training begins or
resumes, before something is measured on them, and where `prepare` finds them made already.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palenka.util.errors import UserError
from palenka.util.files import read_json, sha256

PARTS = ("tokenizer", "train", "dev", "test", "text")
LARGE = (".bin", ".txt")
READ_IN_TRAINING = ("tokenizer/tokenizer.json", "train/", "dev/")
AGAIN = "Remove that folder and prepare the same text again: runs that were trained on it stay as they are."

Files = dict[str, dict[str, Any]]


def sealed(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The content of prepared.json: a record, the files in `folder` that it is about, and its own checksum."""
    files = {name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for name, path in _files(folder)}
    whole = json.loads(json.dumps({**record, "files": files}))
    return {**whole, "sha256": _checksum(whole)}


def read_prepared(folder: Path) -> dict[str, Any]:
    """prepared.json of a prepared data folder, whose files have the sizes that it states.

    Raises:
        UserError: there is no prepared data, or it is damaged; with every file that is.
    """
    path = folder / "prepared.json"
    if not path.exists():
        raise UserError(
            f"{folder}: no prepared data there; make it with: "
            f"palenka prepare --train DIR --dev DIR --name {folder.name}"
        )
    record = read_json(path)
    if not isinstance(record, dict) or "sha256" not in record:
        raise UserError(
            f"{path}: holds no checksums of the data, so that damage would not show; an earlier version of Palenka "
            f"made it. {AGAIN}"
        )
    if record.pop("sha256") != _checksum(record):
        raise UserError(f"{path}: damaged, or changed by hand: it does not have its own checksum. {AGAIN}")
    _check(folder, record, [name for name in record["files"] if not name.endswith(LARGE)])
    return record


def verify(folder: Path, *parts: str) -> None:
    """Compare the checksum of every file of prepared data, or of those in the folders `parts` ("text/train") alone.

    Raises:
        UserError: the data is damaged; with every file that is.
    """
    record, below = read_prepared(folder), tuple(f"{part}/" for part in parts)
    _check(folder, record, [name for name in record["files"] if not parts or name.startswith(below)])


def training_files(folder: Path) -> dict[str, str]:
    """sha256 of what a training reads of prepared data, by file."""
    files = read_prepared(folder)["files"]
    return {name: file["sha256"] for name, file in files.items() if name.startswith(READ_IN_TRAINING)}


def _check(folder: Path, record: dict[str, Any], read: list[str]) -> None:
    """Compare the sizes of all files, and what is in those to be read."""
    found, files = dict(_files(folder)), record["files"]
    problems = [f"{name}: missing" for name in files if name not in found]
    problems += [f"{name}: not made by prepare" for name in found if name not in files]
    for name in files.keys() & found.keys():
        size = found[name].stat().st_size
        if size != files[name]["bytes"]:
            problems.append(f"{name}: {size:,} bytes, not {files[name]['bytes']:,}")
        elif name in read and sha256(found[name]) != files[name]["sha256"]:
            problems.append(f"{name}: other content than it was made with (sha256)")
    if problems:
        listed = "".join(f"\n  {problem}" for problem in sorted(problems))
        raise UserError(f"{folder}: this prepared data is damaged, or was changed:{listed}\n{AGAIN}")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """All that decides ids, windows and word counts, by its path in `folder`."""
    for part in PARTS:
        for path in sorted((folder / part).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(folder).as_posix(), path


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
