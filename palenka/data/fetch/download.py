"""Fetch official texts and items: whole, checked, where `prepare` and `evaluate` find them.

A folder appears whole or not at all: it is filled under another name beside its place and renamed. What stands there
already is never overwritten: it is the same, or an error. `download.json` beside it records what came, from where, and
with which hash. A hash that nobody publishes is recorded when the file first comes, and holds from then on.
"""

import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from palenka.data.catalog import CATALOGUE, GithubFile, HubFiles, Item, OsfFile, Part, Place
from palenka.data.fetch.archives import unpack
from palenka.data.fetch.ewok import write_filtered
from palenka.data.fetch.places import github_url, hub_url, look_up
from palenka.data.fetch.transport import Digest, Patience, Refused, Remote, Unreachable, Web, difference, digest_of
from palenka.util import paths
from palenka.util.config import did_you_mean
from palenka.util.errors import UserError
from palenka.util.files import make_folder, sync_tree, write_text
from palenka.util.files import replace as rename
from palenka.util.locks import held

RECEIPT = "download.json"


def download(names: Sequence[str], out: Path | None = None, patience: Patience | None = None) -> None:
    """Fetch items of the catalogue to `out`, by default each to its place; prints what to do with them.

    Raises:
        UserError: an unknown name; a file that cannot be had or is not the right one; another content in its place.
    """
    items = _chosen(names)
    if out and len(items) > 1:
        raise UserError(f"--out {out}: with one item only, not with {', '.join(item.name for item in items)}")
    web = Web(patience or Patience())
    for item in items:
        target = (out or _default_target(item)).absolute()
        _announce(item, target)
        try:
            make_folder(target)
            with held(target / ".download.lock", partial(_say, f"  waiting for another download to {_short(target)}")):
                _Job(item, target, web).run()
        except OSError as error:
            raise UserError(f"{error.filename or target}: {error.strerror or error}") from None
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
        return f"Next: python -m palenka prepare {' '.join(folders)} --name {item.prepared_as}"
    data = "" if target == paths.evaluation_root() else f" --data {shlex.quote(_short(target))}"
    return f"Next: python -m palenka evaluate RUN --tasks {','.join(item.tasks)}{data}"


@dataclass
class _Job:
    """One item on its way to its folder."""

    item: Item
    target: Path
    web: Web

    def run(self) -> None:
        for part in self.item.parts:
            try:
                self._install(part)
            except Refused as error:
                raise Refused(f"{error}\n{self._access(part)}") from None
            except Unreachable as error:
                raise Unreachable(f"{error}\n{self._by_hand()}") from None
        if "ewok_filtered" in self.item.tasks:
            self._filter_ewok()

    def _install(self, part: Part) -> None:
        final, earlier = self.target / part.folder, self._earlier(part)
        if earlier and final.exists():
            changed = _first_difference(earlier["content"], _content(final))
            if changed:
                raise UserError(f"{final}: changed since it was downloaded ({changed}); remove it to fetch it again")
            _say(f"  {part.folder}: already there")
            return
        try:
            remotes = [_held_to(remote, earlier) for remote in self._remotes(part)]
        except Unreachable as error:
            if not final.exists():
                raise
            _say(f"  {part.folder}: is there, but could not be checked ({error})")
            return
        if part.archive:
            self._install_archive(part, remotes[0])
        else:
            self._install_files(part, remotes)

    def _install_files(self, part: Part, remotes: list[Remote]) -> None:
        final, staging = self.target / part.folder, self.target / f".{part.folder}.partial"
        if final.exists() and all(remote.hash_is_known for remote in remotes):
            _compare(final, remotes)
            _say(f"  {part.folder}: already there")
            self._record(part, remotes, {remote.name: digest_of(final / remote.name) for remote in remotes})
            return
        staging.mkdir(exist_ok=True)
        found = {}
        with self._bar(remotes) as bar:
            for remote in remotes:
                found[remote.name] = self._fetch(remote, staging / remote.name, bar)
        _remove_strangers(staging, found.keys())
        self._place(staging, final)
        self._record(part, remotes, found)

    def _install_archive(self, part: Part, remote: Remote) -> None:
        staging, fetched = self.target / f".{part.folder}.partial", self.target / f".{remote.name}"
        archive = self.target / remote.name
        if archive.exists():
            found = digest_of(archive)
            if problem := difference(remote, found):
                raise UserError(f"{archive}: is there already, but is not the right file: {problem}; move it away")
        else:
            archive = fetched
            with self._bar([remote]) as bar:
                found = self._fetch(remote, archive, bar)
        shutil.rmtree(staging, ignore_errors=True)
        _say(f"  {part.folder}: unpacking")
        try:
            unpack(archive, staging)
        except UserError:
            if not remote.hash_is_known:
                fetched.unlink(missing_ok=True)
            raise
        self._place(staging, self.target / part.folder)
        self._record(part, [remote], {remote.name: found})
        fetched.unlink(missing_ok=True)

    def _remotes(self, part: Part) -> list[Remote]:
        """The part's files; of an archive put there by hand, without asking, where nobody can be asked."""
        try:
            return [remote for place in part.places for remote in look_up(place, self.web)]
        except Unreachable:
            place = part.places[0]
            if isinstance(place, OsfFile) and (self.target / place.name).exists():
                return [Remote(place.name, f"https://osf.io/{place.node}")]
            raise

    def _bar(self, remotes: list[Remote]) -> "tqdm[Any]":
        total = sum(remote.size or 0 for remote in remotes) or None
        return tqdm(total=total, unit="B", unit_scale=True, desc=f"  {self.item.name}", disable=None)

    def _fetch(self, remote: Remote, path: Path, bar: "tqdm[Any]") -> Digest:
        """Fetch a file, unless an earlier call of the same command has."""

        def advance(count: int) -> None:
            bar.update(count)

        found = digest_of(path) if path.exists() else None
        if found and not difference(remote, found):
            advance(found.size)
            return found
        path.unlink(missing_ok=True)
        found = self.web.fetch(remote, path, advance)
        if not remote.hash_is_known:
            _say(f"  {remote.name}: nobody publishes its hash; on record from now on: sha256 {found.sha256}")
        return found

    def _place(self, staging: Path, final: Path) -> None:
        if not final.exists():
            sync_tree(staging)
            rename(staging, final)
            _say(f"  {final.name}: came whole")
            return
        changed = _first_difference(_content(staging), _content(final))
        if changed:
            raise UserError(f"{final}: there is another content already ({changed}); it is left alone")
        shutil.rmtree(staging)
        _say(f"  {final.name}: already there")

    def _record(self, part: Part, remotes: list[Remote], found: dict[str, Digest]) -> None:
        entry = {
            "item": self.item.name,
            "files": {
                remote.name: {
                    "url": remote.url,
                    "size": found[remote.name].size,
                    "sha256": found[remote.name].sha256,
                    "vouched_for_by": remote.vouched if remote.hash_is_known else "nobody (first use)",
                }
                for remote in remotes
            },
            "content": _content(self.target / part.folder),
        }
        _write_receipt(self.target, part.folder, entry)
        if part.content_sha256 and _joined_sha256(self.target / part.folder) != part.content_sha256:
            _say(
                f"  {part.folder}: whole, but not the pairs that Palenka knows (sha256 of all its files joined is not "
                f"{part.content_sha256[:12]}…); scores may not compare with those of earlier years"
            )

    def _earlier(self, part: Part) -> dict[str, Any] | None:
        entry = _read_receipt(self.target).get(part.folder)
        return entry if entry and entry["item"] == self.item.name else None

    def _filter_ewok(self) -> None:
        source, final = self.target / self.item.parts[0].folder, self.target / "ewok_filtered"
        staging = self.target / ".ewok_filtered.partial"
        shutil.rmtree(staging, ignore_errors=True)
        write_filtered(source / "ewok-core-1.0.parquet", source / "vocab.txt", staging)
        self._place(staging, final)

    def _access(self, part: Part) -> str:
        gated = [place for place in part.places if isinstance(place, HubFiles) and place.gated]
        if not gated:
            return self._by_hand()
        return (
            f"{gated[0].dataset} is given to those who accept its terms. To get access:\n"
            f"  1. log in at {self.item.page} and accept the terms there (access comes at once)\n"
            "  2. make a token that may read at https://huggingface.co/settings/tokens\n"
            "  3. export HF_TOKEN=… with it, or store it with `hf auth login`, and call the same command again"
        )

    def _by_hand(self) -> str:
        missing = [part for part in self.item.parts if not (self.target / part.folder).exists()]
        hints = [hint for part in missing for place in part.places for hint in self._hints(part, place)]
        return (
            "By hand, on a machine that reaches it:\n"
            + "".join(f"  {hint}\n" for hint in hints)
            + "The same command then takes them from there, and what has come so far is kept. "
            "Everything else in Palenka works without a network."
        )

    def _hints(self, part: Part, place: Place) -> list[str]:
        """Which file or folder to fetch, and where to put it."""
        folder = self.target if part.archive else self.target / part.folder
        if isinstance(place, GithubFile):
            return [f"{github_url(place)} (sha256 {place.sha256}) to {folder}/"]
        if isinstance(place, HubFiles) and place.names:
            return [f"{hub_url(place, name)} to {folder}/" for name in place.names]
        return [f"{place.name if isinstance(place, OsfFile) else part.folder} from {self.item.page} to {self.target}/"]


def _held_to(remote: Remote, earlier: dict[str, Any] | None) -> Remote:
    """The file as the receipt knows it. Raises UserError where another one is published now."""
    known = (earlier or {"files": {}})["files"].get(remote.name)
    if not known:
        return remote
    on_record = replace(remote, size=known["size"], sha256=known["sha256"])
    if (remote.size or on_record.size, remote.sha256 or on_record.sha256) != (on_record.size, on_record.sha256):
        raise UserError(
            f"{remote.url}: another file is published now ({remote.size:,} bytes, sha256 {remote.sha256}) than the one "
            f"that came before ({on_record.size:,} bytes, sha256 {on_record.sha256}, on record in {RECEIPT}). "
            f"If you trust the new one, remove {RECEIPT}."
        )
    return on_record if remote.hash_is_known else replace(on_record, vouched=f"{RECEIPT}, written when it first came,")


def _compare(folder: Path, remotes: list[Remote]) -> None:
    """Whether a folder that is there already holds what would be fetched. Raises UserError if it does not."""
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    expected = {remote.name: remote for remote in remotes}
    problems = [f"{name} is missing" for name in sorted(expected.keys() - there)]
    problems += [f"{name} does not belong there" for name in sorted(there - expected.keys())]
    for name in sorted(there & expected.keys()):
        if problem := difference(expected[name], digest_of(folder / name)):
            problems.append(f"{name} is not the right file ({problem})")
    if problems:
        raise UserError(f"{folder}: is there already, with another content, and is left alone: {'; '.join(problems)}")


def _content(folder: Path) -> dict[str, str]:
    """sha256 of each file below a folder, hidden ones left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: digest_of(path).sha256 for name, path in names.items() if not name.startswith(".")}


def _joined_sha256(folder: Path) -> str:
    joined = hashlib.sha256()
    for path in sorted(folder.glob("*.jsonl")):
        joined.update(path.read_bytes())
    return joined.hexdigest()


def _first_difference(expected: dict[str, str], found: dict[str, str]) -> str:
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            return f"{name} is {'missing' if name not in found else 'new' if name not in expected else 'another'}"
    return ""


def _remove_strangers(folder: Path, names: Set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


def _read_receipt(target: Path) -> dict[str, Any]:
    path = target / RECEIPT
    if not path.exists():
        return {}
    try:
        entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for entry in entries.values():
            known = [(file["size"], file["sha256"]) for file in entry["files"].values()]
            entry["item"], entry["content"].items(), known
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: no longer a record of downloads; remove it") from None
    return entries


def _write_receipt(target: Path, folder: str, entry: dict[str, Any]) -> None:
    text = json.dumps(_read_receipt(target) | {folder: entry}, indent=2, ensure_ascii=False)
    write_text(target / RECEIPT, text + "\n")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
