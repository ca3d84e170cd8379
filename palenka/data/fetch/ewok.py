"""BabyLM's filter of EWoK: the items whose words are all in a given list, each of them twice.

The pipelines cut words with NLTK; here one expression does it, which decides the same of every sentence of BLiMP. That
it did so of EWoK is not taken on trust: the result counts only with the published number of lines in each domain.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from palenka.data.published import EWOK
from palenka.util.errors import UserError

TEXTS = ("Context1", "Context2", "Target1", "Target2")

_WORD = re.compile(
    r"can(?=not\b)"  # cannot: two words
    r"|\w[\w-]*?(?=n't\b)|n't\b"  # does|n't
    r"|'(?:s|m|d|ll|re|ve)\b"
    r"|\w+(?:[-./]\w+)*"
    r"|\.\.\.|--|\S"
)


def write_filtered(parquet: Path, vocabulary: Path, folder: Path) -> None:
    """Write `<domain>.jsonl` files into `folder`, from EWoK's items and the list of words.

    Raises:
        UserError: the items cannot be read, or the result is not the published one; then nothing is written.
    """
    words = set(vocabulary.read_text(encoding="utf-8").split())
    kept = filtered(read_items(parquet), words)
    found = {domain: 2 * len(items) for domain, items in kept.items()}
    wrong = [f"{domain} {found.get(domain, 0)} instead of {lines}" for domain, lines in EWOK.items()
             if found.get(domain) != lines]  # fmt: skip
    if wrong or found.keys() - EWOK.keys():
        raise UserError(
            f"{parquet}: the filter leaves other numbers of lines than the published ones ({', '.join(wrong)}); "
            "nothing was written. Make ewok_filtered with the pipeline's own script, ewok/dl_and_filter.py."
        )
    folder.mkdir(parents=True)
    for domain, items in kept.items():
        lines = [json.dumps(version) for item in items for version in (item, swapped(item))]
        (folder / f"{domain}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_items(parquet: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        from pyarrow.parquet import read_table
    except ImportError:
        raise UserError("EWoK comes as a parquet file, which needs pyarrow: pip install 'palenka[datasets]'") from None
    try:
        items: list[dict[str, Any]] = read_table(parquet).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{parquet}: not a parquet file ({error})") from None
    missing = {"Domain", *TEXTS} - (items[0].keys() if items else set())
    if missing:
        raise UserError(f"{parquet}: the items have no {', '.join(sorted(missing))}")
    return items


def filtered(items: Iterable[dict[str, Any]], words: set[str]) -> dict[str, list[dict[str, Any]]]:
    """By domain, the items in whose texts every word is in `words`."""
    kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        if all(word in words for text in TEXTS for word in split_words(item[text])):
            kept[item["Domain"]].append(item)
    return dict(kept)


def split_words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def swapped(item: dict[str, Any]) -> dict[str, Any]:
    """The item asked the other way round: contexts and targets change places."""
    pairs = {"Context1": "Context2", "Context2": "Context1", "Target1": "Target2", "Target2": "Target1"}
    return {key: item[pairs.get(key, key)] for key in item}
