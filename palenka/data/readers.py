"""Raw text, wherever it comes from: what `--train`, `--dev` and `--test` may name.

    a folder        of files `<domain>.<split>`, of which those of the split are taken; or, where no file's name says a
                    split, of .txt, .jsonl and .parquet files, which all are
    a file          .txt: one domain; .jsonl or .parquet: rows, each a document
    hf:owner/name   a dataset of the Hugging Face Hub: see `hub`

A domain is named by its file, or by a column of its rows. Everything is read through once here, before any work: what
is no text, or not where it should be, is found out first, and content gets its fingerprint.
"""

import re
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from palenka.data.encodings import HINT, check_encoding
from palenka.data.fetch import hub
from palenka.data.rows import SUFFIXES, Columns, Row, Rows, read_dataset, read_row_file, row_lines, safe_name, survey
from palenka.util.errors import UserError
from palenka.util.files import require_file, sha256

_NO_TEXT = re.compile(r"(?i)(?:\.|readme|licen[cs]e).*")
_SHARD = re.compile(r"-\d+-of-\d+.*")
_SPLIT_WORD = re.compile(r"(?i)(?:^|[-_.])(?:train|dev|valid|validation|test)$|^(?:train|dev|valid|test)[-_.]")
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class RawText:
    """The raw text of one domain in one split.

    `files`: what it was read from, for the record. `sha256`: of its content. `read`: its lines, from the start.
    """

    domain: str
    files: list[dict[str, Any]]
    sha256: str
    bytes: int
    read: Callable[[], Iterator[str]]

    @property
    def where(self) -> str:
        return ", ".join(" ".join(filter(None, (file.get("dataset"), file["name"]))) for file in self.files)


RawTexts = dict[str, RawText]
"""By domain, in alphabetical order."""


def find_texts(source: str | Path, split: str, columns: Columns) -> RawTexts:
    """The raw texts that `source` holds for a split. Raises UserError for what is missing, unknown or not text."""
    if str(source).startswith(hub.PREFIX):
        return _hub_texts(hub.read_address(str(source)), split, columns)
    path = Path(source)
    if path.is_dir():
        return _file_texts(_files_in(path, split), columns)
    if not path.exists():
        raise UserError(f"{path}: no such folder or file (--{split})")
    require_file(path)
    if not hub.DOMAIN_FILE.fullmatch(path.name) and path.suffix not in (".txt", *SUFFIXES):
        raise UserError(f"{path}: expected a .txt, .jsonl or .parquet file, or a folder (--{split})")
    return _file_texts([path], columns)


def domain_of(path: Path) -> str:
    """The domain that a file's name says: without split, shard number and suffix; `text` where that is all of it."""
    named = hub.DOMAIN_FILE.fullmatch(path.name)
    return safe_name(named[1] if named else _SPLIT_WORD.sub("", _SHARD.sub("", path.stem)))


def _files_in(folder: Path, split: str) -> list[Path]:
    entries = [path for path in sorted(folder.iterdir()) if not path.is_dir() and not _NO_TEXT.fullmatch(path.name)]
    for path in entries:
        require_file(path)
    files = [path for path in entries if path.is_file()]
    named = {path: found[2] for path in files if (found := hub.DOMAIN_FILE.fullmatch(path.name))}
    strangers = [path for path in files if path not in named and (named or path.suffix not in (".txt", *SUFFIXES))]
    if strangers:
        others = ", as the other files here are named" if named else ", or a .txt, .jsonl or .parquet file"
        raise UserError(f"{strangers[0]}: expected <domain>.{split}{others}")
    wanted = [path for path in files if named.get(path, split) == split]
    if not wanted and len({*named.values()}) == 1:
        return files  # whoever gives a folder of dev files as a test text means them
    if not wanted:
        raise UserError(f"{folder}: no files named <domain>.{split}, nor .txt, .jsonl or .parquet files (--{split})")
    return wanted


def _file_texts(files: Iterable[Path], columns: Columns) -> RawTexts:
    texts: RawTexts = {}
    groups: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix in SUFFIXES:
            groups.setdefault("" if columns.domain else domain_of(path), []).append(path)
        elif columns.domain:
            raise UserError(f"{path}: has no columns, but --domain-column names one")
        else:
            _add(texts, _text_file(path))
    for domain, paths in groups.items():
        rows = partial(_chained, [partial(read_row_file, path, columns, domain) for path in paths])
        for text in _row_texts(rows, [_record(path) for path in paths], str(paths[0])):
            _add(texts, text)
    return dict(sorted(texts.items()))


def _add(texts: RawTexts, text: RawText) -> None:
    if text.domain in texts:
        raise UserError(f"{text.where}: {texts[text.domain].where} holds the same domain; keep one of them")
    texts[text.domain] = text


def _hub_texts(address: hub.Address, split: str, columns: Columns) -> RawTexts:
    address, names = hub.resolve(address)
    files = hub.domain_files(address, names, split)
    origin = {"dataset": str(address), "revision": address.revision}
    if files:
        texts = _file_texts(files, columns)
        for text in texts.values():
            for file in text.files:
                file.update(origin)
        return texts
    address, dataset = hub.dataset(address, split)
    where = f"{address}:{address.split}"
    domain = safe_name(address.repository.rpartition("/")[2])
    rows = partial(read_dataset, dataset, columns, domain, where)
    texts = {text.domain: text for text in _row_texts(rows, [], where)}
    for text in texts.values():
        text.files.append({"name": address.split, "sha256": text.sha256, "bytes": text.bytes, **origin})
    return texts


def _chained(tables: list[Rows]) -> Iterator[Row]:
    return chain.from_iterable(table() for table in tables)


def _row_texts(rows: Rows, files: list[dict[str, Any]], where: str) -> Iterator[RawText]:
    for domain, content in survey(rows(), where).items():
        for file, (first, count) in content.null.items():
            _say(f"warning: {file}: {count:,} rows have no text (null), first in {first}; they are left out")
        if content.blank:
            _say(f"warning: {where}: the {content.rows:,} rows of {domain} hold no text; there is no such domain then")
            continue
        yield RawText(domain, list(files), content.digest.hexdigest(), content.bytes, partial(row_lines, rows, domain))


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _record(path: Path) -> dict[str, Any]:
    return {"name": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}


def _text_file(path: Path) -> RawText:
    check_encoding(path)
    _check_text(path)
    record = _record(path)
    return RawText(domain_of(path), [record], record["sha256"], record["bytes"], partial(_lines, path))


def _lines(path: Path) -> Iterator[str]:
    """Lines end in \\n, in \\r\\n (\\r\\r\\n, where that was written twice), or in \\r, as on an old Macintosh."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        held = ""
        for line in file:
            if line == "\r\n" and held.endswith("\r"):
                line = held + line
            elif held:
                yield held
            held = line
        if held:
            yield held


def _check_text(path: Path) -> None:
    """Make sure that a file is UTF-8 and not blank."""
    decoder = getincrementaldecoder("utf-8")()
    size = line = 0
    blank = True
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            pending = len(decoder.getstate()[0])
            try:
                blank = not decoder.decode(chunk).strip() and blank
            except UnicodeDecodeError as error:
                offset = size - pending + error.start
                line += chunk[: max(error.start - pending, 0)].count(b"\n") + 1
                raise UserError(
                    f"{path}, line {line} (byte {offset}): not UTF-8 text ({error.reason}); {HINT}"
                ) from None
            size += len(chunk)
            line += chunk.count(b"\n")
    if decoder.getstate()[0]:
        raise UserError(f"{path}, line {line + 1}: not UTF-8 text (the last character is cut off)")
    if blank:
        raise UserError(f"{path}: the file holds no text")
