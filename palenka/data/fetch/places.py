"""Where the files of a place are, and how they come: with the hash that the place publishes, or not at all.

GitHub is not asked: the catalogue knows the hash. OSF lists a project folder by folder, with the sha256 of each file.
What they hold, `pooch` fetches. The hub's files are fetched by `huggingface_hub`, which compares sizes alone, so
that their hashes are compared afterwards. A file that broke off starts over; complete files are kept.
Addresses begin with what PALENKA_GITHUB, HF_ENDPOINT and PALENKA_OSF say, which is how a mirror is used.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pooch
import requests
from huggingface_hub import HfApi
from requests.adapters import HTTPAdapter, Retry

from palenka.data.catalog import GithubFile, HubFiles, OsfFile, OsfFolder, Place
from palenka.data.fetch.hub import Address, Unreachable, check_hashes, clear_failures
from palenka.util.errors import UserError

_BASES = {"PALENKA_OSF": "https://api.osf.io", "PALENKA_GITHUB": "https://github.com"}
_FILE_NAME = re.compile(r"\w[\w.+-]*")
_MOST_FOLDERS = 60
_RETRIES = 2
_TIMEOUT = 30.0


class Remote(NamedTuple):
    """A file to fetch with pooch."""

    name: str
    url: str
    sha256: str


def fetch(place: Place, folder: Path, given: Path) -> list[Path]:
    """The files of a place, somewhere below `folder`; whole ones that are there already are not fetched again.

    Args:
        given: a folder where a person may have put files that pooch would fetch. They are left as they are.

    Raises:
        Unreachable: they cannot be had.
        UserError: what came is not what was published; nothing of it stays.
    """
    if isinstance(place, HubFiles):
        return _from_hub(place, folder)
    try:
        remotes = [_on_github(place)] if isinstance(place, GithubFile) else _on_osf(place)
    except Unreachable as error:
        if isinstance(place, OsfFile) and (given / place.name).exists():
            print(f"  {place.name}: is there, but could not be checked ({error})", file=sys.stderr, flush=True)
            return [given / place.name]
        raise
    store = pooch.create(
        folder, base_url="", registry={remote.name: remote.sha256 for remote in remotes},
        urls={remote.name: remote.url for remote in remotes}, retry_if_failed=_RETRIES,
    )  # fmt: skip
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=_TIMEOUT)
    files = []
    for remote in remotes:
        if (given / remote.name).exists():
            (folder / remote.name).unlink(missing_ok=True)
            (folder / remote.name).symlink_to(given / remote.name)
        with _explained(remote.url):
            files.append(Path(store.fetch(remote.name, downloader=downloader)))
    return files


def by_hand(place: Place) -> str:
    """Which files a person would fetch, and from where."""
    if isinstance(place, GithubFile):
        return f"{_on_github(place).url} (sha256 {place.sha256})"
    if isinstance(place, HubFiles):
        names = ", ".join(place.names) or "all .jsonl files"
        page = f"https://huggingface.co/datasets/{place.dataset}/tree/{place.revision}/{place.folder}".rstrip("/")
        return f"{names} from {page}"
    return f"{place.name} from https://osf.io/{place.node} (folder {place.folder})"


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        raise Unreachable(" ".join(f"{url}: {error}".split())) from None
    except ValueError as error:  # pooch, of a hash
        raise UserError(f"{url}: {error}") from None


def _base(variable: str) -> str:
    return (os.environ.get(variable) or _BASES[variable]).rstrip("/")


def _on_github(file: GithubFile) -> Remote:
    url = f"{_base('PALENKA_GITHUB')}/{file.repository}/raw/{file.revision}/{file.path}"
    return Remote(Path(file.path).name, url, file.sha256)


def _from_hub(place: HubFiles, folder: Path) -> list[Path]:
    api = HfApi()
    at: dict[str, Any] = {
        "repo_id": place.dataset, "repo_type": "dataset", "revision": place.revision, "token": place.gated,
    }  # fmt: skip
    with clear_failures(Address(place.dataset, None, None, place.revision), advice=""):
        listed = {Path(entry.path).name: entry.path for entry in api.list_repo_tree(path_in_repo=place.folder, **at)}
        names = place.names or sorted(name for name in listed if name.endswith(".jsonl"))
        if not names or set(names) - listed.keys():
            raise Unreachable(f"{place.dataset}: no {', '.join(names) or '.jsonl'} there; found: {', '.join(listed)}")
        # One by one: snapshot_download answers Ctrl-C only when the files that it is at have come.
        files = [Path(api.hf_hub_download(filename=listed[name], local_dir=folder, **at)) for name in names]
        check_hashes(folder, **at)
    return files


def _on_osf(place: OsfFile | OsfFolder) -> list[Remote]:
    where = f"https://osf.io/{place.node}"
    try:
        if isinstance(place, OsfFile):
            entries = [_find(place, "file")]
        else:
            folder = _folder_url(_find(place, "folder"))
            entries = [entry for entry in _listing(folder) if _name(entry).endswith(".jsonl")]
        remotes = [
            Remote(_name(entry), entry["links"]["download"], entry["attributes"]["extra"]["hashes"]["sha256"])
            for entry in entries
        ]
    except (KeyError, TypeError, AttributeError):
        raise Unreachable(f"{where}: not a listing as OSF describes it, or without sha256") from None
    for remote in remotes:
        if not _FILE_NAME.fullmatch(remote.name):
            raise Unreachable(f"{where}: {remote.name!r} is no name for a file here")
    if not remotes:
        raise Unreachable(f"{where}: no .jsonl files in {place.name}")
    return remotes


def _find(place: OsfFile | OsfFolder, kind: str) -> dict[str, Any]:
    """The entry of that name, looked for where the catalogue expects it first, then in all folders of the project."""
    waiting = [("", f"{_base('PALENKA_OSF')}/v2/nodes/{place.node}/files/osfstorage/")]
    seen: list[str] = []
    for _ in range(_MOST_FOLDERS):
        if not waiting:
            break
        waiting.sort(key=lambda folder: not f"{place.folder}/".startswith(f"{folder[0]}/"))
        path, url = waiting.pop(0)
        for entry in _listing(url):
            seen.append(f"{path}/{_name(entry)}".lstrip("/"))
            if (entry["attributes"]["kind"], _name(entry)) == (kind, place.name):
                return entry
            if entry["attributes"]["kind"] == "folder":
                waiting.append((seen[-1], _folder_url(entry)))
    raise Unreachable(f"https://osf.io/{place.node}: no {kind} {place.name!r} there; found: {', '.join(seen[:20])}")


def _listing(url: str) -> Iterator[dict[str, Any]]:
    following: str | None = f"{url}?page%5Bsize%5D=100"
    retry = Retry(4, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504), retry_after_max=120)
    while following:
        with _explained(url), requests.Session() as session:
            session.mount("http", HTTPAdapter(max_retries=retry))
            response = session.get(following, timeout=_TIMEOUT)
            response.raise_for_status()
            page = response.json()
        yield from page["data"]
        following = page["links"].get("next")


def _name(entry: dict[str, Any]) -> str:
    return str(entry["attributes"]["name"])


def _folder_url(entry: dict[str, Any]) -> str:
    return str(entry["relationships"]["files"]["links"]["related"]["href"]).partition("?")[0]
