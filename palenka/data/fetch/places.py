"""Where the files of a place are, and what the place publishes about them: size and hash, as far as it does.

GitHub is not asked: the catalogue knows. The hub lists a revision's files with the sha256 of large ones and the Git
hash of small ones. OSF lists a project folder by folder, with size and sha256. Addresses begin with what
PALENKA_GITHUB, HF_ENDPOINT and PALENKA_OSF say, which is how a mirror is used.
"""

import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from palenka.data.catalog import GithubFile, HubFiles, OsfFile, OsfFolder, Place
from palenka.data.fetch.transport import Refused, Remote, Unreachable, Web, check_downgrade
from palenka.util.errors import UserError

_BASES = {
    "PALENKA_OSF": "https://api.osf.io",
    "PALENKA_GITHUB": "https://github.com",
    "HF_ENDPOINT": "https://huggingface.co",
}
_FILE_NAME = re.compile(r"\w[\w.+-]*")
_MOST_LISTINGS = 60


def look_up(place: Place, web: Web) -> list[Remote]:
    """The files of a place, as far as it publishes what they are."""
    if isinstance(place, GithubFile):
        name = Path(place.path).name
        return [Remote(name, github_url(place), place.size, place.sha256, vouched="the catalogue")]
    if isinstance(place, HubFiles):
        return _hub_files(place, web)
    return _osf_files(place, web)


def _base(variable: str) -> str:
    base = os.environ.get(variable) or _BASES[variable]
    if not re.match(r"https?://[^/\s]", base):
        raise UserError(f"{variable}={base}: expected an address such as {_BASES[variable]}")
    return base.rstrip("/")


def github_url(file: GithubFile) -> str:
    return f"{_base('PALENKA_GITHUB')}/{file.repository}/raw/{file.revision}/{file.path}"


def hub_url(place: HubFiles, name: str) -> str:
    path = f"{place.folder}/{name}" if place.folder else name
    return f"{_base('HF_ENDPOINT')}/datasets/{place.dataset}/resolve/{place.revision}/{urllib.parse.quote(path)}"


def _hub_files(place: HubFiles, web: Web) -> list[Remote]:
    token = _hub_token() if place.gated else None
    if place.gated and not token:
        raise Refused(f"{place.dataset}: no Hugging Face token was found (HF_TOKEN)")
    url = f"{_base('HF_ENDPOINT')}/api/datasets/{place.dataset}/tree/{place.revision}/{place.folder}".rstrip("/")
    answer, _ = web.get_json(url, token)
    listed = {}
    for entry in answer if isinstance(answer, list) else []:
        if isinstance(entry, dict) and entry.get("type") == "file":
            listed[Path(str(entry.get("path"))).name] = entry
    return [_hub_remote(place, name, listed[name], token) for name in _wanted(listed, place.names, url)]


def _hub_remote(place: HubFiles, name: str, entry: dict[str, Any], token: str | None) -> Remote:
    large = entry["lfs"] if isinstance(entry.get("lfs"), dict) else None
    size, sha256 = _size(large or entry), _hash(large.get("oid"), 64) if large else None
    git_sha1 = None if large else _hash(entry.get("oid"), 40)
    return Remote(name, hub_url(place, name), size, sha256, git_sha1, "the hub", token)


def _hub_token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _osf_files(place: OsfFile | OsfFolder, web: Web) -> list[Remote]:
    if isinstance(place, OsfFile):
        return [_osf_remote(_find_on_osf(place, "file", web))]
    folder = _find_on_osf(place, "folder", web)
    listed = {entry["attributes"]["name"]: entry for entry in _osf_listing(_osf_folder_url(folder), web)}
    names = _wanted(listed, (), f"https://osf.io/{place.node}, folder {place.name}")
    return [_osf_remote(listed[name]) for name in names]


def _find_on_osf(place: OsfFile | OsfFolder, kind: str, web: Web) -> dict[str, Any]:
    """The entry of that name, looked for where the catalogue expects it first, then in all folders of the project."""
    root = f"{_base('PALENKA_OSF')}/v2/nodes/{place.node}/files/osfstorage/"
    waiting, seen = [("", root)], []
    for _ in range(_MOST_LISTINGS):
        if not waiting:
            break
        waiting.sort(key=lambda folder: not f"{place.folder}/".startswith(f"{folder[0]}/"))
        path, url = waiting.pop(0)
        for entry in _osf_listing(url, web):
            name = str(entry["attributes"]["name"])
            seen.append(f"{path}/{name}".lstrip("/"))
            if entry["attributes"]["kind"] == kind and name == place.name:
                return entry
            if entry["attributes"]["kind"] == "folder":
                waiting.append((seen[-1], _osf_folder_url(entry)))
    raise Unreachable(f"https://osf.io/{place.node}: no {kind} {place.name!r} there; found: {', '.join(seen[:20])}")


def _osf_listing(url: str, web: Web) -> Iterator[dict[str, Any]]:
    following: str | None = f"{url}?page%5Bsize%5D=100"
    pages = 0
    while following and pages < _MOST_LISTINGS:
        check_downgrade(_base("PALENKA_OSF"), following)
        answer, _ = web.get_json(following)
        try:
            for entry in answer["data"]:
                entry["attributes"]["name"], entry["attributes"]["kind"]
                yield entry
            following = answer["links"].get("next")
        except (KeyError, TypeError, AttributeError):
            raise Unreachable(f"{url}: not a listing of files as OSF describes it") from None
        pages += 1


def _osf_folder_url(entry: dict[str, Any]) -> str:
    try:
        return str(entry["relationships"]["files"]["links"]["related"]["href"]).partition("?")[0]
    except (KeyError, TypeError):
        raise Unreachable(f"OSF names no listing of the folder {entry['attributes']['name']!r}") from None


def _osf_remote(entry: dict[str, Any]) -> Remote:
    name = str(entry["attributes"]["name"])
    try:
        url = str(entry["links"]["download"])
        hashes = (entry["attributes"].get("extra") or {}).get("hashes") or {}
        sha256 = _hash(hashes.get("sha256"), 64)
    except (KeyError, TypeError, AttributeError):
        raise Unreachable(f"OSF names no download of the file {name!r}") from None
    if not _FILE_NAME.fullmatch(name):
        raise Unreachable(f"OSF: {name!r} is no name for a file here")
    check_downgrade(_base("PALENKA_OSF"), url)
    return Remote(name, url, _size(entry["attributes"]), sha256, vouched="OSF")


def _size(entry: dict[str, Any]) -> int | None:
    size = entry.get("size")
    return size if isinstance(size, int) and size > 0 else None


def _hash(value: Any, digits: int) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) else None


def _wanted(listed: Iterable[str], names: tuple[str, ...], where: str) -> list[str]:
    """The names to fetch: the given ones, or all .jsonl files."""
    missing = [name for name in names if name not in listed]
    chosen = list(names) or sorted(name for name in listed if name.endswith(".jsonl"))
    if missing or not chosen:
        raise Unreachable(f"{where}: has no {', '.join(missing) or '.jsonl files'}; found: {', '.join(sorted(listed))}")
    for name in chosen:
        if not _FILE_NAME.fullmatch(name):
            raise Unreachable(f"{where}: {name!r} is no name for a file here")
    return chosen
