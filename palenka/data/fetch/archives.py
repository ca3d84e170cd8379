"""Zip archives from elsewhere: looked through before anything is written, and counted while it is.

What a header says is a claim. An archive is refused as a whole if one entry would leave the folder, is no plain file,
is encrypted, or meets another of the same name; and if there is more in it than an honest archive of text holds.
"""

import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from palenka.util.errors import UserError

SPARE_BYTES = 64 << 20
"""Room that is left free on a disk."""

_READ_BYTES = 1 << 20
_LONGEST_PART = 255
_LITTER = re.compile(r"(?:__MACOSX/.*|(?:.*/)?\.DS_Store)")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most: entries, bytes, and bytes for each byte of the archive."""

    entries: int = 10_000
    bytes: int = 8 << 30
    ratio: int = 100


LIMITS = Limits()


def unpack(archive: Path, folder: Path, limits: Limits = LIMITS) -> None:
    """Unpack `archive` into the new `folder`; a single folder that holds everything else is left away.

    Nothing is written before all entries are checked, and nothing stays if one fails.

    Raises:
        UserError: no zip archive, not a whole one, or one with an entry that must not be unpacked.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            for path, entry in _checked(archive, opened, limits).items():
                _write(archive, opened, entry, folder / path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OverflowError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"{archive}: not a whole zip archive ({error})") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _checked(archive: Path, opened: zipfile.ZipFile, limits: Limits) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files to write, by their path in the new folder."""
    found = opened.infolist()
    if len(found) > limits.entries:
        raise UserError(f"{archive}: {len(found):,} entries; at most {limits.entries:,} are unpacked")
    total = sum(entry.file_size for entry in found)
    most = min(limits.bytes, limits.ratio * archive.stat().st_size)
    if total > most:
        raise UserError(f"{archive}: {total:,} bytes unpacked, more than such an archive may hold ({most:,})")
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    seen: dict[str, bool] = {}
    for entry in found:
        path = _checked_path(archive, entry)
        _take_name(archive, path, entry.is_dir(), seen)
        if not entry.is_dir() and not _LITTER.fullmatch(str(path)):
            files[path] = entry
    if not files:
        raise UserError(f"{archive}: the archive holds no files")
    free = shutil.disk_usage(archive.parent).free
    if total + SPARE_BYTES > free:
        raise UserError(f"{archive}: {total:,} bytes unpacked, but only {free:,} are free on that disk")
    return _without_single_folder(files)


def _checked_path(archive: Path, entry: zipfile.ZipInfo) -> PurePosixPath:
    name = entry.orig_filename
    where = f"{archive}: the entry {name[:80]!r}"
    if not name.isprintable() or "\\" in name:
        raise UserError(f"{where} has a character that no name may have here; nothing was unpacked")
    parts = name.removesuffix("/").split("/")
    if re.match(r"[A-Za-z]:", name) or {"", ".", ".."} & set(parts):
        raise UserError(f"{where} leads out of the folder it is unpacked into; nothing was unpacked")
    if max(len(part.encode()) for part in parts) > _LONGEST_PART:
        raise UserError(f"{where} has too long a name; nothing was unpacked")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
        raise UserError(f"{where} is a link or a special file; nothing was unpacked")
    if entry.flag_bits & 0x1:
        raise UserError(f"{where} is encrypted; unpack this archive by hand with its password")
    if entry.compress_type not in _METHODS:
        raise UserError(f"{where} is compressed in a way that is not supported here (method {entry.compress_type})")
    return PurePosixPath(*parts)


def _take_name(archive: Path, path: PurePosixPath, is_folder: bool, seen: dict[str, bool]) -> None:
    """Mark the name and its folders as seen (value: whether a folder), as a disk that ignores case sees them."""
    for ancestor in (*list(path.parents)[-2::-1], path):
        key = unicodedata.normalize("NFC", str(ancestor)).casefold()
        as_folder = is_folder if ancestor == path else True
        if key in seen and not (as_folder and seen[key]):
            raise UserError(f"{archive}: two entries are named {str(ancestor)!r}; nothing was unpacked")
        seen[key] = as_folder


def _without_single_folder(files: dict[PurePosixPath, zipfile.ZipInfo]) -> dict[PurePosixPath, zipfile.ZipInfo]:
    tops = {path.parts[0] for path in files}
    if len(tops) == 1 and all(len(path.parts) > 1 for path in files):
        return {PurePosixPath(*path.parts[1:]): entry for path, entry in files.items()}
    return files


def _write(archive: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(entry) as source, path.open("xb") as target:
        while chunk := source.read(_READ_BYTES):
            written += len(chunk)
            if written > entry.file_size:
                raise UserError(f"{archive}: the entry {entry.filename!r} is longer than its header says")
            target.write(chunk)
    if written != entry.file_size:
        raise UserError(f"{archive}: the entry {entry.filename!r} is shorter than its header says")
