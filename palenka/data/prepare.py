"""From raw text to tokens: clean, train the tokenizer, tokenise. Built once for each content.

The prepared folder appears whole or not at all: it is built under another name beside its place, by the one process
that holds a lock, and renamed at the end. What a killed build left is removed by the next.

Its key is made of the raw texts' content, the versions of the code that decides the outcome, the vocabulary size, and
the part that is held out for dev where no dev text is given.
"""

import hashlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from palenka.data import cleaning, holdout, integrity, marks, tokenizer
from palenka.data.card import data_card
from palenka.data.clean import BOUNDARY, DOMAINS, Effects, clean_text
from palenka.data.clean_blocks import CleanBlocks
from palenka.data.clean_processes import cleaning_processes
from palenka.data.effects import Mark, utf8_size
from palenka.data.holdout import HoldOut
from palenka.data.line_encoder import LineEncoder
from palenka.data.readers import RawText, RawTexts, find_texts
from palenka.data.rows import TEXT_COLUMN, Columns
from palenka.data.tokens import Domain, SplitWriter
from palenka.util import paths
from palenka.util.errors import UserError
from palenka.util.files import make_folder, removed_on_error, replace, require_writable, sync_tree
from palenka.util.locks import held
from palenka.util.progress import Bar
from palenka.util.system_errors import noting
from palenka.util.tables import text_table
from palenka.util.text import did_you_mean

VERSION = 1
"""To be raised with every change that lets clean text come out as other arrays."""

_BATCH_LINES = 4096
_BATCH_CHARACTERS = 1 << 19
_SECONDS_BETWEEN_LINES = 15
MANY_DOCUMENTS, SHORT_DOCUMENT = 1000, 100
MOST_MARKS = 5


Splits = dict[str, RawTexts]


def prepare(
    train: str | Path,
    dev: str | Path | None,
    test: str | Path | None,
    name: str,
    vocab_size: int,
    *,
    dev_fraction: float | None = None,
    dev_from: holdout.Place = "documents",
    columns: Columns = TEXT_COLUMN,
    boundaries: Sequence[str] = (),
) -> Path:
    """Prepare raw texts as data/<name>; returns that folder.

    `train`, `dev` and `test` are what `palenka.data.readers` reads: folders, files or datasets of the hub. Instead of
    `dev`, `dev_fraction` holds out that part of the training text: of its documents, or of each file's lines at its end
    (`dev_from`). `columns` are those of texts in rows.
    `boundaries` are marks of other corpora (`<|endoftext|>`) at which documents end; in a text that has any, blank
    lines part none.

    Does nothing where the same content is already prepared, and whole. Raises UserError for what is missing, unknown or
    not text, before any work; and where other content, or damaged, stands under that name.
    """
    _check_options(dev, name, vocab_size, dev_fraction, dev_from)
    held_out = None if dev_fraction is None else HoldOut(dev_fraction, dev_from)
    require_writable(paths.data_root() / name)
    given = {"train": train, "dev": dev, "test": test}
    texts = {split: find_texts(source, split, columns) for split, source in given.items() if source is not None}
    _check_overlap(texts)
    boundaries = sorted(set(boundaries))
    _check_boundaries(texts, boundaries)
    identity = _identity(texts, vocab_size, held_out, boundaries)
    target = paths.data_root() / name
    make_folder(target.parent)
    lock = target.with_name(f".{target.name}.lock")
    with held(lock, lambda: _say(f"{name}: waiting for another process that prepares it")):
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # what a killed build left
        if _is_prepared(target, identity):
            _say(f"{name}: already prepared in {target}")
            return target
        _warn_of_plain_domains(texts)
        lost = f"{target} was not written; the same command starts over"
        with noting(lambda: lost), removed_on_error(partial):
            record = _build(partial, texts, vocab_size, held_out, boundaries)
            record = {"name": name, "key": _key(identity), **record, "identity": identity}
            (partial / "README.md").write_text(data_card(record), encoding="utf-8")
            record = integrity.sealed(partial, record)
            _write_json(partial / "prepared.json", record)
            sync_tree(partial)
            replace(partial, target)
    _print_table(record, target)
    return target


def _check_options(
    dev: str | Path | None, name: str, vocab_size: int, dev_fraction: float | None, dev_from: holdout.Place
) -> None:
    smallest, largest = tokenizer.SMALLEST_VOCABULARY, tokenizer.LARGEST_VOCABULARY
    if not smallest <= vocab_size <= largest:
        raise UserError(f"--vocab-size {vocab_size}: expected a number from {smallest} to {largest}")
    if not paths.DATA_NAME.fullmatch(name):
        raise UserError(f"--name {name}: expected letters, digits and . _ + - (and / between parts)")
    try:
        paths.check_length(name)
    except ValueError as error:
        raise UserError(f"--name {error}") from None
    for parent in list((paths.data_root() / name).parents)[: name.count("/")]:
        if (parent / "prepared.json").exists():
            raise UserError(f"--name {name}: {parent} is prepared data itself, and nothing is put into it")
    if (dev is None) == (dev_fraction is None):
        raise UserError("expected either --dev, a text to measure on, or --dev-fraction, to hold out part of --train")
    if dev_fraction is not None and not 0 < dev_fraction < 1:
        raise UserError(f"--dev-fraction {dev_fraction}: expected a number between 0 and 1, such as 0.05")
    if dev_fraction is None and dev_from != "documents":
        raise UserError(f"--dev-from {dev_from}: says where --dev-fraction is taken from, and there is none")


def _check_overlap(texts: Splits) -> None:
    """Refuse a text that is in two splits: anything measured on it would mean nothing."""
    seen: dict[str, str] = {}
    for split, domains in texts.items():
        for domain, text in domains.items():
            other = seen.setdefault(text.sha256, split)
            if other != split:
                raise UserError(f"{text.where} (--{split}, {domain}): the same text is in --{other}")


def _check_boundaries(texts: Splits, boundaries: Sequence[str]) -> None:
    for mark in boundaries:
        if mark != mark.strip() or not mark.isprintable() or not mark:
            raise UserError(f"--boundary {mark!r}: expected a mark within a line, such as '<|endoftext|>'")
        if not any(marks.any_in(text.read(), [mark]) for domains in texts.values() for text in domains.values()):
            raise UserError(f"--boundary {mark!r}: occurs in none of the texts given")


def _warn_of_plain_domains(texts: Splits) -> None:
    """Say which domains have no rules of their own: a misspelt name would silently lose those that were meant."""
    for domain in sorted({domain for split in texts.values() for domain in split} - set(DOMAINS)):
        close = did_you_mean(domain.lower(), DOMAINS)
        warning, hint = ("warning: ", close) if "did you mean" in close else ("", "")
        _say(f"{warning}{domain}: not a domain that Palenka knows; cleaned by the plain rules{hint}")


def _identity(texts: Splits, vocab_size: int, held_out: HoldOut | None, boundaries: Sequence[str]) -> dict[str, Any]:
    """All that decides the outcome, under names that a message can use."""
    contents = {f"{split}/{domain}": text.sha256 for split in texts for domain, text in texts[split].items()}
    versions = {"cleaning version": cleaning.VERSION, "preparation version": VERSION}
    fraction: dict[str, Any] = {} if held_out is None else {"dev_fraction": held_out.fraction}
    if held_out is not None and held_out.place != "documents":
        fraction |= {"dev_from": held_out.place}
    marked = {"boundaries": list(boundaries)} if boundaries else {}
    return {"vocab_size": vocab_size, **versions, **fraction, **marked, **contents}


def _key(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _is_prepared(target: Path, identity: dict[str, Any]) -> bool:
    """Whether `target` holds this content, whole. Raises UserError where it holds anything else."""
    if not target.exists():
        return False
    if not (target / "prepared.json").exists():
        raise UserError(f"{target}: holds something else than prepared data; choose another --name or remove it")
    there = integrity.read_prepared(target)["identity"]
    if there == identity:
        integrity.verify(target)
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


def _build(
    folder: Path, texts: Splits, vocab_size: int, held_out: HoldOut | None, boundaries: Sequence[str]
) -> dict[str, Any]:
    """Make everything in `folder`; returns what there is to record."""
    parted = {"train": held_out}
    size = sum(text.bytes for domains in texts.values() for text in domains.values())
    with cleaning_processes(size) as clean_blocks:
        effects = {
            split: _clean_split(folder / "text", split, texts[split], parted.get(split), boundaries, clean_blocks)
            for split in texts
        }
    if held_out is not None:
        _check_held_out(folder / "text", texts["train"], held_out)
    trained = _train_tokenizer(folder / "text" / "train", vocab_size)
    tokenizer.save_tokenizer(trained, folder / "tokenizer")
    splits = {}
    for split in sorted({*texts, "dev"}, key=("train", "dev", "test").index):
        domains = _tokenise_split(folder / "text" / split, folder / split, trained)
        splits[split] = _record_split(domains, texts.get(split, texts["train"]), effects.get(split, {}))
    return {
        "tokenizer_sha256": tokenizer.tokenizer_sha256(folder / "tokenizer"),
        "vocab_size": len(trained),
        "dev_fraction": held_out and held_out.fraction,
        "dev_from": held_out and held_out.place,
        "splits": splits,
    }


def _clean_split(
    folder: Path, split: str, texts: RawTexts, held_out: HoldOut | None, boundaries: Sequence[str],
    clean_blocks: CleanBlocks,
) -> dict[str, Effects]:  # fmt: skip
    """Clean a split to `folder`/<split>/<domain>.txt; what is held out of it to `folder`/dev/<domain>.txt."""
    (folder / split).mkdir(parents=True)
    if held_out is not None:
        (folder / "dev").mkdir()
    effects = {domain: Effects() for domain in texts}
    for domain, text in texts.items():
        target = folder / split / f"{domain}.txt"
        with _Progress(f"clean {split}/{domain}", text.bytes) as progress:
            lines = _clean_lines(text, effects[domain], boundaries, clean_blocks, progress)
            if held_out is None:
                _write_lines(lines, target)
            else:
                holdout.part(lines, target, folder / "dev" / target.name, held_out)
        if not effects[domain].documents:
            raise UserError(f"{text.where}: nothing is left of its text after cleaning")
        _warn_of_short_documents(split, domain, effects[domain])
        if told := effects[domain].told():
            _say(f"{split}/{domain} ({text.where}): {told}")
        _warn_of_marks(f"{split}/{domain} ({text.where})", effects[domain].marks, boundaries)
    return effects


def _warn_of_short_documents(split: str, domain: str, effects: Effects) -> None:
    """Warn of rows that are lines: each would be trained as a document of its own."""
    size = effects.bytes_out // effects.documents
    if effects.documents >= MANY_DOCUMENTS and size < SHORT_DOCUMENT:
        _say(f"warning: {split}/{domain}: documents of {size} bytes on average: are these lines rather than documents?")


def _warn_of_marks(where: str, found: dict[str, Mark], boundaries: Sequence[str]) -> None:
    """Warn of what looks like the end of a document and was not asked for."""
    strange = {mark: place for mark, place in found.items() if mark not in boundaries}
    for mark, place in sorted(strange.items(), key=lambda found: -found[1].count)[:MOST_MARKS]:
        first = f"row {place.row}, line {place.line}" if place.row > 1 else f"line {place.line}"
        _say(
            f"warning: {where}: {mark} occurs {place.count:,} times, first in {first}, and ends no document; "
            f"where it should, give --boundary={shlex.quote(mark)}"
        )


def _clean_lines(
    text: RawText, effects: Effects, boundaries: Sequence[str], clean_blocks: CleanBlocks, progress: "_Progress"
) -> Iterator[str]:
    here = boundaries if marks.any_in(text.read(), boundaries) else ()
    lines = clean_text(text.domain, text.read(), effects, here, clean_blocks)
    while batch := list(islice(lines, _BATCH_LINES)):
        yield from batch
        progress.reach(effects.bytes_in)


def _write_lines(lines: Iterator[str], target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def _check_held_out(folder: Path, texts: RawTexts, held_out: HoldOut) -> None:
    by_documents = held_out.place == "documents"
    what = "document" if by_documents else "line"
    other = "--dev-from end holds out the last lines instead, or give --dev" if by_documents else "give --dev instead"
    for split, missing in (("dev", f"no {what}"), ("train", f"every {what}")):
        if not any((folder / split).iterdir()):
            where = ", ".join(text.where for text in texts.values())
            raise UserError(f"--dev-fraction {held_out.fraction}: {missing} of {where} is held out; {other}")


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
    encoder = LineEncoder(tokenizer.corpus_backend(trained), begins_word)
    for file in sorted(source.iterdir()):
        with _Progress(f"tokenise {source.name}/{file.stem}", file.stat().st_size) as progress:
            _tokenise_file(file, writer, encoder, progress)
        writer.end_domain(file.stem)
    return writer.close()


def _tokenise_file(file: Path, writer: SplitWriter, encoder: LineEncoder, progress: "_Progress") -> None:
    starts_document = True
    with file.open(encoding="utf-8", newline="\n") as text:
        while batch := text.readlines(_BATCH_CHARACTERS):
            lines, starts = [], []
            for line in (line.rstrip("\n") for line in batch):
                if line != BOUNDARY:
                    lines.append(line)
                    starts.append(starts_document)
                starts_document = line == BOUNDARY
            sizes = list(map(utf8_size, lines))
            writer.add(*encoder.encode(lines), sizes, starts)
            progress.advance(sum(sizes) + len(batch))


def _record_split(domains: list[Domain], texts: RawTexts, effects: dict[str, Effects]) -> dict[str, Any]:
    """Sizes and origins. A split that was held out of another has no `effects`: those are in the other's record."""
    records = {}
    for domain in domains:
        records[domain.name] = {
            **_sizes([domain]),
            "cleaner": cleaning.cleaner_name(domain.name),
            "files": texts[domain.name].files,
            **({"effects": effects[domain.name].record()} if effects else {"held_out": True}),
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


def _print_table(record: dict[str, Any], folder: Path) -> None:
    columns = ("documents", "words", "tokens", "tokens/word", "bytes", "removed")
    print(f"\n{record['name']}: vocabulary of {record['vocab_size']:,} entries; in {folder}, README.md is its card\n")
    rows = [["", *columns]]
    for split, sizes in record["splits"].items():
        for name, row in [*sizes["domains"].items(), ("total", sizes)]:
            values = [f"{row[key]:,}" for key in ("documents", "words", "tokens")]
            values += [f"{row['tokens'] / max(row['words'], 1):.3f}", f"{row['bytes']:,}"]
            values.append(f"{100 * row['effects']['share']:.1f} %" if "effects" in row else "")
            rows.append([f"{split} {name}", *values])
    print(text_table(rows))
    strangers = set(record["splits"]["dev"]["domains"]) - set(record["splits"]["train"]["domains"])
    if strangers:
        print(f"\nNot in the training text: {', '.join(sorted(strangers))}")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class _Progress:
    """How far a step is: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, max(total, 1), 0
        self._bar = Bar(label, total, "B")
        self._started = self._said = time.monotonic()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if not self._bar.is_shown and not error[0]:
            _say(f"{self._label}: done in {time.monotonic() - self._started:.1f} s")

    def advance(self, count: int) -> None:
        self.reach(self._done + count)

    def reach(self, done: int) -> None:
        self._done = done
        self._bar.reach(done)
        if not self._bar.is_shown and time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            _say(f"{self._label}: {100 * done // self._total} %")
