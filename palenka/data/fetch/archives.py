"""Zip archives from elsewhere: no more is unpacked than an honest archive of text holds, and no name twice.

`zipfile` sees to the rest: no name leads out of the folder, a link becomes a file, no entry grows beyond what its
header says, and each is held to its checksum.
"""

import re
import zipfile
from pathlib import Path

from palenka.util.errors import UserError

MOST_ENTRIES = 10_000
MOST_BYTES = 8 << 30
MOST_BYTES_PER_BYTE = 100
_LITTER = re.compile(r"(?:__MACOSX/.*|(?:.*/)?\.DS_Store)")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack `archive` into the new `folder`, which an error leaves half full.

    Returns:
        `folder`, or the one folder in it that holds everything.

    Raises:
        UserError: no zip archive, not a whole one, or one that must not be unpacked.
    """
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as opened:
            _check_size(archive, opened.infolist())
            names = [name for name in opened.namelist() if not _LITTER.fullmatch(name)]
            opened.extractall(folder, names)
    except UserError:
        raise
    except Exception as error:  # zipfile has no kind of its own for what is wrong with an archive
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(f"{archive}: cannot be unpacked: {error}") from None
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files or len(files) != sum(not name.endswith("/") for name in names):
        raise UserError(f"{archive}: {'two entries have one name' if files else 'the archive holds no files'}")
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _check_size(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    total = sum(entry.file_size for entry in entries)
    most = min(MOST_BYTES, MOST_BYTES_PER_BYTE * archive.stat().st_size)
    if total > most or len(entries) > MOST_ENTRIES:
        raise UserError(
            f"{archive}: {total:,} bytes in {len(entries):,} files, more than such an archive may hold ({most:,} bytes "
            f"in {MOST_ENTRIES:,} files)"
        )
