"""From raw text to tokens: clean, train the tokenizer, tokenise. Built once for each content.

The prepared folder appears whole or not at all: it is built under another name beside its place, by the one process
that holds a lock, and renamed at the end. What a killed build left is removed by the next.

Its key is made of the raw files' content, the versions of the code that decides the outcome, and the vocabulary size.
"""

import fcntl
import hashlib
import json
import re
import shutil
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from palenka import paths, tokenizer
from palenka.config import UserError
from palenka.corpus import BOUNDARY, DOMAINS, Effects, clean_text, cleaning
from palenka.tokens import Domain, SplitWriter

VERSION = 1
"""To be raised with every change that lets clean text come out as other arrays."""

_NAME = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)*")
_FILE = re.compile(r"(.+?)\.(train|dev|test)(?:\.txt)?")
_NO_TEXT = re.compile(r"(?i)(?:\.|readme|licen[cs]e).*")
_READ_BYTES = 1 << 20
_BATCH_LINES = 4096
_SECONDS_BETWEEN_LINES = 15


@dataclass(frozen=True)
class Source:
    """A raw text file."""

    path: Path
    sha256: str
    bytes: int


Sources = dict[str, dict[str, Source]]
"""By split and domain."""


def prepare(train: Path, dev: Path, test: Path | None, name: str, vocab_size: int) -> Path:
    """Prepare the raw texts in the folders `train`, `dev` and `test` as data/<name>; returns that folder.

    Does nothing where the same content is already prepared. Raises UserError for files that are missing, unknown or not
    text, before any work; and where other content stands under that name.
    """
    smallest, largest = tokenizer.SMALLEST_VOCABULARY, tokenizer.LARGEST_VOCABULARY
    if not smallest <= vocab_size <= largest:
        raise UserError(f"--vocab-size {vocab_size}: expected a number from {smallest} to {largest}")
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name}: expected letters, digits and . _ + - (and / between parts)")
    folders = {"train": train, "dev": dev} | ({"test": test} if test else {})
    sources = {split: find_sources(folder, split) for split, folder in folders.items()}
    identity = _identity(sources, vocab_size)
    target = paths.data_root() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target):
        if _is_prepared(target, identity):
            _say(f"{name}: already prepared in {target}")
            return target
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        record = _build(partial, sources, vocab_size)
        record = {"name": name, "key": _key(identity), **record, "identity": identity}
        _write_json(partial / "prepared.json", record)
        partial.rename(target)
    _print_table(record)
    return target


def find_sources(folder: Path, split: str) -> dict[str, Source]:
    """The raw files of a split in `folder`, by domain: `<domain>.<split>` or `<domain>.<split>.txt`."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder (--{split})")
    sources: dict[str, Source] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() or _NO_TEXT.fullmatch(path.name):
            continue
        parts = _FILE.fullmatch(path.name)
        if not parts or parts[1] not in DOMAINS:
            raise UserError(f"{path}: expected <domain>.{split}, where the known domains are {', '.join(DOMAINS)}")
        if parts[2] != split:
            continue
        if parts[1] in sources:
            raise UserError(f"{path}: {sources[parts[1]].path.name} holds the same domain; keep one of them")
        sources[parts[1]] = _examine(path)
    if not sources:
        raise UserError(f"{folder}: no files named <domain>.{split} (--{split})")
    return dict(sorted(sources.items()))


def _examine(path: Path) -> Source:
    """Hash a file, and make sure that it is text."""
    digest, decoder = hashlib.sha256(), getincrementaldecoder("utf-8")()
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
                raise UserError(f"{path}, line {line} (byte {offset}): not UTF-8 text ({error.reason})") from None
            digest.update(chunk)
            size += len(chunk)
            line += chunk.count(b"\n")
    if decoder.getstate()[0]:
        raise UserError(f"{path}, line {line + 1}: not UTF-8 text (the last character is cut off)")
    if blank:
        raise UserError(f"{path}: the file holds no text")
    return Source(path, digest.hexdigest(), size)


def _identity(sources: Sources, vocab_size: int) -> dict[str, Any]:
    """All that decides the outcome, under names that a message can use."""
    files = {f"{split}/{domain}": source.sha256 for split in sources for domain, source in sources[split].items()}
    versions = {"cleaning version": cleaning.VERSION, "preparation version": VERSION}
    return {"vocab_size": vocab_size, **versions, **files}


def _key(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _is_prepared(target: Path, identity: dict[str, Any]) -> bool:
    """Whether `target` holds this content. Raises UserError where it holds anything else."""
    if not target.exists():
        return False
    if not (target / "prepared.json").exists():
        raise UserError(f"{target}: holds something else than prepared data; choose another --name or remove it")
    there = json.loads((target / "prepared.json").read_text(encoding="utf-8"))["identity"]
    if there == identity:
        return True
    differences = [_difference(name, there, identity) for name in sorted({*there, *identity})]
    raise UserError(
        f"{target}: prepared from other content:\n  "
        + "\n  ".join(filter(None, differences))
        + "\nChoose another --name, or remove that folder."
    )


def _difference(name: str, there: dict[str, Any], here: dict[str, Any]) -> str:
    if there.get(name) == here.get(name):
        return ""
    if name not in there or name not in here:
        return f"{name}: only in {'that folder' if name in there else 'the new content'}"
    return f"{name}: other text" if "/" in name else f"{name}: {there[name]} there, {here[name]} now"


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold the lock of a prepared folder; the system lets go of it when the process ends, however it ends."""
    with target.with_name(f".{target.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{target.name}: waiting for another process that prepares it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(folder: Path, sources: Sources, vocab_size: int) -> dict[str, Any]:
    """Make everything in `folder`; returns what there is to record."""
    effects = {split: _clean_split(folder / "text" / split, sources[split]) for split in sources}
    trained = _train_tokenizer(folder / "text" / "train", vocab_size)
    tokenizer.save_tokenizer(trained, folder / "tokenizer")
    splits = {}
    for split in sources:
        domains = _tokenise_split(folder / "text" / split, folder / split, trained)
        splits[split] = _record_split(domains, sources[split], effects[split])
    return {
        "tokenizer_sha256": tokenizer.tokenizer_sha256(folder / "tokenizer"),
        "vocab_size": len(trained),
        "splits": splits,
    }


def _clean_split(folder: Path, sources: dict[str, Source]) -> dict[str, Effects]:
    folder.mkdir(parents=True)
    effects = {domain: Effects() for domain in sources}
    for domain, source in sources.items():
        _clean_file(domain, source, folder / f"{domain}.txt", effects[domain])
        if not effects[domain].documents:
            raise UserError(f"{source.path}: nothing is left of its text after cleaning")
    return effects


def _clean_file(domain: str, source: Source, target: Path, effects: Effects) -> None:
    with (
        _Progress(f"clean {target.parent.name}/{domain}", source.bytes) as progress,
        source.path.open(encoding="utf-8", newline="\n") as raw,
        target.open("w", encoding="utf-8", newline="\n") as clean,
    ):
        lines = clean_text(domain, raw, effects)
        while batch := list(islice(lines, _BATCH_LINES)):
            clean.writelines(f"{line}\n" for line in batch)
            progress.reach(effects.bytes_in)


def _train_tokenizer(folder: Path, vocab_size: int) -> PreTrainedTokenizerFast:
    files = sorted(folder.iterdir())
    with _Progress("train tokenizer", sum(file.stat().st_size for file in files)) as progress:
        trained = tokenizer.train_tokenizer(_lines(files, progress), vocab_size)
    if len(trained) < vocab_size:
        _say(f"tokenizer: the text offers {len(trained)} entries, fewer than the {vocab_size} asked for")
    return trained


def _lines(files: list[Path], progress: "_Progress") -> Iterator[str]:
    done = 0
    for file in files:
        with file.open(encoding="utf-8", newline="\n") as text:
            for line in text:
                done += len(line)
                progress.reach(done)
                yield line.rstrip("\n")


def _tokenise_split(source: Path, target: Path, trained: PreTrainedTokenizerFast) -> list[Domain]:
    entries = trained.convert_ids_to_tokens(range(len(trained)))
    begins_word = np.array([entry.startswith("Ġ") for entry in entries])
    writer = SplitWriter(target, trained.convert_tokens_to_ids("Ċ"), trained.eos_token_id, begins_word)
    backend = tokenizer.corpus_backend(trained)
    for file in sorted(source.iterdir()):
        with _Progress(f"tokenise {source.name}/{file.stem}", file.stat().st_size) as progress:
            _tokenise_file(file, writer, backend, progress)
        writer.end_domain(file.stem)
    return writer.close()


def _tokenise_file(file: Path, writer: SplitWriter, backend: Any, progress: "_Progress") -> None:
    starts_document = True
    with file.open(encoding="utf-8", newline="\n") as text:
        while batch := [line.rstrip("\n") for line in islice(text, _BATCH_LINES)]:
            lines, starts = [], []
            for line in batch:
                if line != BOUNDARY:
                    lines.append(line)
                    starts.append(starts_document)
                starts_document = line == BOUNDARY
            sizes = [len(line.encode()) for line in lines]
            writer.add(tokenizer.encode_lines(backend, lines), sizes, starts)
            progress.advance(sum(sizes) + len(batch))


def _record_split(domains: list[Domain], sources: dict[str, Source], effects: dict[str, Effects]) -> dict[str, Any]:
    records = {}
    for domain in domains:
        source = sources[domain.name]
        records[domain.name] = {
            **_sizes([domain]),
            "files": [{"name": source.path.name, "sha256": source.sha256, "bytes": source.bytes}],
            "effects": asdict(effects[domain.name]),
        }
    return {**_sizes(domains), "domains": records}


def _sizes(domains: list[Domain]) -> dict[str, int]:
    return {
        "tokens": sum(domain.end - domain.start for domain in domains),
        "words": sum(domain.words for domain in domains),
        "bytes": sum(domain.bytes for domain in domains),
        "documents": sum(domain.documents for domain in domains),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _print_table(record: dict[str, Any]) -> None:
    columns = ("documents", "words", "tokens", "tokens/word", "bytes")
    print(f"\n{record['name']}: vocabulary of {record['vocab_size']:,} entries\n")
    print(f"{'':24}" + "".join(f"{column:>14}" for column in columns))
    for split, sizes in record["splits"].items():
        for name, row in [*sizes["domains"].items(), ("total", sizes)]:
            values = [f"{row[key]:,}" for key in ("documents", "words", "tokens")]
            values += [f"{row['tokens'] / max(row['words'], 1):.3f}", f"{row['bytes']:,}"]
            print(f"{split + ' ' + name:24}" + "".join(f"{value:>14}" for value in values))
    strangers = set(record["splits"]["dev"]["domains"]) - set(record["splits"]["train"]["domains"])
    if strangers:
        print(f"\nNot in the training text: {', '.join(sorted(strangers))}")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class _Progress:
    """How far a step is: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, max(total, 1), 0
        self._bar = tqdm(total=total, desc=label, unit="B", unit_scale=True) if sys.stderr.isatty() else None
        self._started = self._said = time.monotonic()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.close()
        elif not error[0]:
            _say(f"{self._label}: done in {time.monotonic() - self._started:.1f} s")

    def advance(self, count: int) -> None:
        self.reach(self._done + count)

    def reach(self, done: int) -> None:
        if self._bar:
            self._bar.update(done - self._done)
        elif time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            _say(f"{self._label}: {100 * done // self._total} %")
        self._done = done
