"""What the system refuses, in sentences: a full disk, no permission, too little memory, a lost process.

    exit code 73   cannot be written: full disk, quota, read-only file system, a file where a folder has to be
              77   no permission
              74   reading or writing failed: I/O error, a file or folder that has vanished
              71   out of memory, or of another resource of the system
              69   another process of the training, or one that shared the work, is gone
               2   a file name too long

The numbers are those of sysexits.h. Libraries raise much else than OSError where the system refuses something; what is
known of them is here, and nowhere else. Code that knows what is kept adds it to the error as a note: see `noting`.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of refusal."""

    code: int
    advice: str = ""


NO_ROOM, NO_PERMISSION, IO_ERROR = Kind(os.EX_CANTCREAT), Kind(os.EX_NOPERM), Kind(os.EX_IOERR)
OUT_OF_FILES = Kind(os.EX_OSERR, "raise the limit of open files (ulimit -n)")
OUT_OF_MEMORY = Kind(os.EX_OSERR, "a training needs less with a smaller training.micro_batch_size, or a smaller model")
PROCESS_GONE = Kind(os.EX_UNAVAILABLE, "if one of them failed, its reason is above")
KINDS = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR), NO_ROOM
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM), NO_PERMISSION),
    **dict.fromkeys((errno.EIO, errno.ENOENT, errno.ESTALE, errno.ENXIO, errno.ENODEV), IO_ERROR),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), OUT_OF_FILES),
    errno.ENOMEM: OUT_OF_MEMORY,
    errno.ENAMETOOLONG: Kind(2, "each part of a path has at most 255 bytes"),
}

_RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # safetensors, tokenizers
_TORCH_WRITER = "inline_container.cc"  # torch.save, which does not say what went wrong
_TORCH_ALLOCATOR = "DefaultCPUAllocator"
_OTHER_PROCESS = re.compile(r"gloo/|Connection closed by peer|NCCL")


@dataclass(frozen=True)
class Refusal:
    """What to say of an error caused by the system, in one line, and the exit code."""

    message: str
    code: int


def refusal(error: BaseException) -> Refusal | None:
    """None for an error of our own."""
    found = _of_library(error) if not isinstance(error, OSError) else _of_system(error)
    if found is None:
        return None
    message, kind = found
    notes = [note for part in _chain(error) for note in getattr(part, "__notes__", ())]
    said = dict.fromkeys(filter(None, [message, kind.advice, *notes]))
    return Refusal("; ".join(" ".join(part.split()) for part in said), kind.code)


def _of_system(error: OSError) -> tuple[str, Kind] | None:
    if error.errno is None:
        return None
    paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes)]
    kind = KINDS.get(error.errno, IO_ERROR if paths else None)
    if kind is None or (kind is IO_ERROR and not paths and error.errno != errno.EIO):
        return None
    words = os.strerror(error.errno)
    return ": ".join([" -> ".join(paths), words[0].lower() + words[1:]] if paths else [words]), kind


def _of_library(error: BaseException) -> tuple[str, Kind] | None:
    text, name = str(error), type(error).__name__
    if found := _RUST_ERROR.search(text):
        return _of_system(OSError(int(found[1]), "")) or (text, IO_ERROR)
    if _TORCH_WRITER in text:
        causes = (_of_system(part) for part in _chain(error) if isinstance(part, OSError))
        return next(filter(None, causes), None) or ("PyTorch could not write a file", IO_ERROR)
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or _TORCH_ALLOCATOR in text:
        wanted = re.search(r"(?i)(?:allocate|unable to allocate) ([\d.]+ ?[A-Za-z]+)", text)
        return f"out of memory{f': {wanted[1]} were asked for' if wanted else ''}", OUT_OF_MEMORY
    if name == "BrokenProcessPool":
        return "a process that shared the work was killed or has crashed, maybe for want of memory", PROCESS_GONE
    if name.startswith("Dist") or (isinstance(error, RuntimeError) and _OTHER_PROCESS.search(text)):
        reason = next(iter(text.splitlines()), name)[:200]
        return f"the other processes of this training do not answer ({reason})", PROCESS_GONE
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def noting(note: Callable[[], str]) -> Iterator[None]:
    """Add to an error what only the caller knows: what was not written, what is kept, how to go on."""
    try:
        yield
    except Exception as error:
        error.add_note(note())
        raise
