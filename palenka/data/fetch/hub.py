"""Datasets of the Hugging Face Hub: `hf:owner/name`, optionally followed by `#config`, `:split` and `@revision`.

A repository that holds files `<domain>.<split>`, as BabyLM's do, is read by these files. Any other is read by the
`datasets` library: rows, each a document. The revision is resolved to a commit first, and everything is read at that
commit. Nothing is executed: no loading scripts, no formats that can hold code.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub

from palenka.util.errors import UserError
from palenka.util.system_errors import KINDS

PREFIX = "hf:"
FORMATS = ("arrow", "csv", "json", "parquet", "text")
DOMAIN_FILE = re.compile(r"(.+?)\.(train|dev|test)(?:\.(?:txt|jsonl|parquet))?")
"""`<domain>.<split>`, optionally followed by the kind of content."""

_ADDRESS = re.compile(
    r"hf:(?P<repository>\w[\w.-]*(?:/\w[\w.-]*)?)(?:#(?P<config>[\w.+-]+))?(?::(?P<split>[\w.+-]+))?(?:@(?P<revision>[\w./+-]+))?"
)
_SPLIT_NAMES = {"train": ("train",), "dev": ("validation", "dev", "valid", "val"), "test": ("test",)}


@dataclass(frozen=True)
class Address:
    """What to read on the hub; `revision` may be a branch, a tag or a commit."""

    repository: str
    config: str | None
    split: str | None
    revision: str | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}{f'#{self.config}' if self.config else ''}"


def read_address(source: str) -> Address:
    found = _ADDRESS.fullmatch(source)
    if not found:
        raise UserError(f"{source}: expected hf:owner/name, optionally followed by #config, :split and @revision")
    return Address(**found.groupdict())


def resolve(address: Address) -> tuple[Address, list[str]]:
    """The address at the commit that it means now, and the names of the repository's files."""
    with clear_failures(address):
        info = huggingface_hub.HfApi().dataset_info(address.repository, revision=address.revision)
    return replace(address, revision=info.sha), [file.rfilename for file in info.siblings or []]


def domain_files(address: Address, names: list[str], split: str) -> list[Path]:
    """The files `<domain>.<split>` of a resolved address, downloaded; none where it has no such files."""
    parts = {name: DOMAIN_FILE.fullmatch(name) for name in names if "/" not in name}
    wanted = sorted(name for name, part in parts.items() if part and part[2] == (address.split or split))
    if not wanted:
        return []
    folder = snapshot(address, "dataset", wanted)
    return [folder / name for name in wanted]


def snapshot(address: Address, repo_type: str, patterns: list[str], folder: Path | None = None) -> Path:
    """The files of a repository that match `patterns`, in `folder` or in the cache of the hub's library."""
    at: dict[str, Any] = {"repo_id": address.repository, "repo_type": repo_type, "revision": address.revision}
    with clear_failures(address):
        found = huggingface_hub.snapshot_download(**at, allow_patterns=patterns, local_dir=folder)
        check_hashes(Path(found), **at)
    return Path(found)


def check_hashes(folder: Path, **at: Any) -> None:
    """Compare downloaded files with the hashes that the hub publishes; its library compares sizes alone.

    Args:
        at: the repository, as the library's functions take it.

    Raises:
        UserError: some are not the right ones; they are removed.
    """
    wrong = huggingface_hub.HfApi().verify_repo_checksums(local_dir=folder, **at).mismatches
    for file in wrong:
        path = folder / file["path"]
        path.resolve().unlink()  # in the cache, what the link points to
        path.unlink(missing_ok=True)
    if wrong:
        named = "; ".join("{path}: {algorithm} {actual}, the hub says {expected}".format(**file) for file in wrong)
        raise UserError(f"{at['repo_id']}: not the right files, removed: {named}")


def dataset(address: Address, split: str) -> tuple[Address, Any]:
    """(The address with the split that it was found to have, the `datasets.Dataset`)."""
    if Path(address.repository).exists():  # which the library would read, and not the hub
        raise UserError(f"{address}: {address.repository} lies here too; start the command in another folder")
    with clear_failures(address):
        from datasets import load_dataset_builder

        builder = load_dataset_builder(address.repository, address.config, revision=address.revision)
        if builder.info.builder_name == "text":  # whose rows are lines, unless told to read as plain text is read here
            builder = load_dataset_builder(
                address.repository, address.config, revision=address.revision, sample_by="paragraph"
            )
        if builder.info.builder_name not in FORMATS:
            raise UserError(f"{address}: its format, {builder.info.builder_name}, is none of {', '.join(FORMATS)}")
        builder.download_and_prepare()
        name = _split_name(address, split, list(builder.info.splits or []))
        return replace(address, split=name), builder.as_dataset(split=name)


def _split_name(address: Address, split: str, there: list[str]) -> str:
    for name in [address.split] if address.split else _SPLIT_NAMES[split]:
        if name in there:
            return name
    wanted = f"split {address.split!r}" if address.split else f"split for --{split}"
    advice = "; or hold out part of --train by --dev-fraction" if split == "dev" else ""
    raise UserError(f"{address}: no {wanted}; there are: {', '.join(there)}; name one as {address}:SPLIT{advice}")


class Unreachable(UserError):
    """No answer, or none that helps: the network, a proxy, the server, or access that is not given."""


@contextmanager
def clear_failures(
    address: Address, advice: str = ". Without a network, download its files elsewhere and give their folder instead"
) -> Iterator[None]:
    """The hub's libraries raise whatever their network library of the day does, with nothing in common."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{address}: this needs the library {error.name}: pip install {error.name}") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in KINDS:  # of this machine: a full disk, say
            raise
        reason = re.sub("Bearer.*", "Bearer …", " ".join(str(error).split()))[:300]
        raise Unreachable(
            f"{address}: cannot be read from the Hugging Face Hub ({type(error).__name__}: {reason}){advice}"
        ) from None
