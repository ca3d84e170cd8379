"""Fetch official texts and items: whole, checked, where `prepare` and `evaluate` find them.

A folder appears whole or not at all: it is filled under another name beside its place and renamed. What stands there
already is never overwritten: it is the same, or an error. `download.json` beside it records what came, with its hashes.
"""

import hashlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from palenka.data.catalog import CATALOGUE, HubFiles, Item, Part
from palenka.data.fetch import global_piqa
from palenka.data.fetch.archives import unpack
from palenka.data.fetch.ewok import write_filtered
from palenka.data.fetch.hub import Unreachable
from palenka.data.fetch.places import by_hand, fetch
from palenka.data.published import differences
from palenka.util import paths
from palenka.util.errors import UserError
from palenka.util.files import (
    make_folder,
    named,
    removed_on_error,
    replace,
    require_writable,
    sha256,
    sync_tree,
    write_json,
)
from palenka.util.locks import held
from palenka.util.text import did_you_mean

RECEIPT = "download.json"


class Came(BaseModel):
    """A folder as it came: for which item, and the sha256 of each file in it."""

    item: str
    content: dict[str, str]


def download(names: Sequence[str], out: Path | None = None) -> None:
    """Fetch items of the catalogue to `out`, by default each to its place; prints what to do with them.

    Raises:
        UserError: an unknown name; a file that cannot be had or is not the right one; another content in its place.
    """
    items = _chosen(names)
    if out and len(items) > 1:
        raise UserError(f"--out {out}: with one item only, not with {', '.join(item.name for item in items)}")
    for item in items:
        target = (out or _default_target(item)).absolute()
        _announce(item, target)
        make_folder(target)
        waiting = partial(_say, f"  waiting for another download to {_short(target)}")
        with named(target), held(target / ".download.lock", waiting):
            for part in item.parts:
                _install(item, part, target)
            if "ewok_filtered" in item.tasks:
                _filter_ewok(target / item.parts[0].folder, target / "ewok_filtered")
        print(f"\n{_next_step(item, target)}\n")


def list_items() -> None:
    """Print the catalogue."""
    for item in CATALOGUE.values():
        print(f"{item.name}\n    {item.about}")
        print(f"    size     {item.size}\n    to       {_short(_default_target(item))}/")
        print(f"    from     {item.page}\n    licence  {item.licence}\n    cite     {item.citation}")
        if item.note:
            print(f"    note     {item.note}")


def _chosen(names: Sequence[str]) -> list[Item]:
    unknown = [f"{name}: no such item{did_you_mean(name, list(CATALOGUE))}" for name in names if name not in CATALOGUE]
    if unknown:
        raise UserError("\n".join(unknown))
    if not names:
        raise UserError(f"nothing to download was named; known: {', '.join(CATALOGUE)} (--list tells more)")
    return [CATALOGUE[name] for name in dict.fromkeys(names)]


def _default_target(item: Item) -> Path:
    return paths.corpora_root() / item.name if item.kind == "text" else paths.evaluation_root()


def _announce(item: Item, target: Path) -> None:
    print(f"{item.name}: {item.about}; {item.size}; to {_short(target)}/")
    print(f"  licence  {item.licence}\n  cite     {item.citation}")
    if item.note:
        print(f"  note     {item.note}")


def _next_step(item: Item, target: Path) -> str:
    if item.splits:
        folders = [f"--{split} {shlex.quote(_short(target / folder))}" for split, folder in item.splits]
        return f"Next: palenka prepare {' '.join(folders)} --name {item.prepared_as}"
    data = "" if target == paths.evaluation_root() else f" --data {shlex.quote(_short(target))}"
    asked = f"--protocol {item.protocol}" if item.protocol else f"--tasks {','.join(item.tasks)}"
    return f"Next: palenka evaluate RUN {asked}{data}"


def _install(item: Item, part: Part, target: Path) -> None:
    """Have a part in its folder: there already, or fetched and compared with what came before."""
    final, staging = target / part.folder, target / f".{part.folder}.partial"
    came = _receipt(target).get(part.folder)
    before = came.content if came and came.item == item.name else None
    if before and final.exists():
        if changed := _difference(before, _content(final)):
            raise UserError(f"{final}: changed since it was downloaded ({changed}); remove it to fetch it again")
        _say(f"  {part.folder}: already there")
        return
    try:
        files = _fetched(part, target, staging)
    except Unreachable as error:
        if not final.exists():
            raise Unreachable(f"{error}\n{_advice(item, target)}") from None
        _say(f"  {part.folder}: is there, but could not be checked ({error})")
        return
    with removed_on_error(staging):
        whole = _assembled(part, files, staging / "whole")
        if before and (changed := _difference(before, _content(whole))):
            raise UserError(
                f"{item.page}: another {part.folder} is published now than the one that came before ({changed}). "
                f"If you trust it, remove {target / RECEIPT}"
            )
        _place(whole, final)
    shutil.rmtree(staging)
    _record(item, part, target)


def _fetched(part: Part, target: Path, staging: Path) -> list[Path]:
    """The files of a part in its staging folder, rid of what a killed download left there."""
    staging.mkdir(exist_ok=True)
    require_writable(staging)  # of which pooch's error would not tell why
    for leftover in [*staging.glob("tmp*"), *staging.rglob("*.incomplete")]:
        leftover.unlink()
    return [file for place in part.places for file in fetch(place, staging, given=target)]


def _assembled(part: Part, files: list[Path], folder: Path) -> Path:
    """The folder that becomes the part's."""
    shutil.rmtree(folder, ignore_errors=True)
    if part.archive:
        return unpack(files[0], folder)
    folder.mkdir()
    for file in files:
        if file.suffix == ".tsv":
            global_piqa.write_items(file, folder)
        else:
            shutil.copyfile(file, folder / file.name)
    return folder


def _place(whole: Path, final: Path) -> None:
    if not final.exists():
        sync_tree(whole)
        replace(whole, final)
        _say(f"  {final.name}: came whole")
    elif changed := _difference(_content(whole), _content(final)):
        raise UserError(f"{final}: there is another content already ({changed}); it is left alone")
    else:
        _say(f"  {final.name}: already there")


def _record(item: Item, part: Part, target: Path) -> None:
    folder = target / part.folder
    entries = _receipt(target) | {part.folder: Came(item=item.name, content=_content(folder))}
    write_json(target / RECEIPT, {name: entry.model_dump() for name, entry in entries.items()})
    if part.content_sha256 and _joined_sha256(folder) != part.content_sha256:
        _say(
            f"  {part.folder}: whole, but not the pairs that Palenka knows (sha256 of all its files joined is not "
            f"{part.content_sha256[:12]}…); scores may not compare with those of earlier years"
        )
    if wrong := differences(folder):
        _say(f"  {part.folder}: whole, but not the published items ({wrong}); scores on it compare with nobody's")


def _receipt(target: Path) -> dict[str, Came]:
    path = target / RECEIPT
    try:
        return TypeAdapter(dict[str, Came]).validate_json(path.read_bytes()) if path.exists() else {}
    except ValidationError:
        raise UserError(f"{path}: not a record of downloads any more; remove it") from None


def _filter_ewok(source: Path, final: Path) -> None:
    staging = final.with_name(f".{final.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    with removed_on_error(staging):
        write_filtered(source / "ewok-core-1.0.parquet", source / "vocab.txt", staging)
        _place(staging, final)
    shutil.rmtree(staging, ignore_errors=True)


def _advice(item: Item, target: Path) -> str:
    """How to get what did not come."""
    lines = ["The same command tries again, and keeps complete files."]
    missing = [part for part in item.parts if not (target / part.folder).exists()]
    if any(isinstance(place, HubFiles) and place.gated for part in missing for place in part.places):
        lines += [
            f"{item.name} is given to those who accept its terms. To get access:",
            f"  1. log in at {item.page} and accept the terms there (access comes at once)",
            "  2. make a token that may read at https://huggingface.co/settings/tokens",
            "  3. export HF_TOKEN=… with it, or store it with `hf auth login`, and call the same command again",
        ]
    lines.append("By hand, on a machine that reaches it:")
    for part in missing:
        for place in part.places:
            lines.append(f"  {by_hand(place)} to {target if part.archive else target / part.folder}/")
    lines.append(
        "The same command then takes them from there. Everything else in Palenka works without a network."
    )
    return "\n".join(lines)


def _content(folder: Path) -> dict[str, str]:
    """sha256 of each file below a folder, hidden ones left out."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: sha256(path) for name, path in files.items() if not name.startswith(".")}


def _joined_sha256(folder: Path) -> str:
    joined = hashlib.sha256()
    for path in sorted(folder.glob("*.jsonl")):
        joined.update(path.read_bytes())
    return joined.hexdigest()


def _difference(expected: dict[str, str], found: dict[str, str]) -> str:
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            return f"{name} is {'missing' if name not in found else 'new' if name not in expected else 'another'}"
    return ""


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
