"""A task's result: what its items' scores come to. Read back, it counts only where they still come to the same.

    evaluation/<task>.json          the result, with the identity of what was measured
    evaluation/<task>.items.jsonl   a record of each item, in order
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from palenka.evaluation.items import Records
from palenka.evaluation.statistics import bits_per_byte
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_json, require_file, write_text

TOLERANCE = 1e-6
"""Between a figure and what it is computed from, perhaps on another machine: nobody is shown as many digits."""

Derive = Callable[[Records], dict[str, Any]]


def results_folder(model: Path, protocol: str, way: str = "") -> Path:
    """Results by the protocol of 2024 lie in `evaluation/`, those by another in a folder of its name below.

    Args:
        model: its folder.
        protocol: of the results.
        way: in which the model was asked, if it was not the first that it learned: a further folder.
    """
    return model / "evaluation" / ("" if protocol == "2024" else protocol) / way


def items_path(result: Path) -> Path:
    """Where the records of a result's items are."""
    return result.with_suffix(".items.jsonl")


def write_records(result: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write the records of a result's items, in a folder that is made if need be."""
    make_folder(result.parent)
    write_text(items_path(result), "".join(json.dumps(record) + "\n" for record in records))


def read_result(path: Path) -> dict[str, Any]:
    """A result, without a look at its items. Raises UserError where it is damaged."""
    result = read_json(path)
    if not isinstance(result, dict) or not isinstance(result.get("identity"), dict):
        raise UserError(f"{path}: damaged: not a result with an identity")
    return result


def read_records(result: Path, of: dict[str, Any], derived: Derive) -> Records:
    """The records behind a result, which come to what it says.

    Args:
        result: path of its file.
        of: its content.
        derived: what records come to.

    Raises:
        UserError: they are missing, damaged, or come to something else.
    """
    path = items_path(result)
    records = list(_lines(path))
    try:
        expected = derived(records)
    except UserError as error:
        raise UserError(f"{path}: damaged: {error}") from None
    if difference := next(contradictions(of, expected), None):
        raise UserError(f"{result}: damaged: {difference}")
    return records


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        raise UserError(f"{path}: missing")
    require_file(path)
    *lines, rest = path.read_bytes().split(b"\n")
    if rest or not lines:
        raise UserError(f"{path}: damaged: empty, or its last line is cut short")
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: damaged: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: damaged: holds no record of an item")
        yield record


def contradictions(stated: Any, expected: Any, key: str = "") -> Iterator[str]:
    """Which figures are others than those that they are computed from; keys that are not computed do not matter."""
    if isinstance(expected, dict):
        if not isinstance(stated, dict):
            yield f"no {key or 'figures'}"
            return
        for name, value in expected.items():
            yield from contradictions(stated.get(name), value, f"{key}.{name}" if key else name)
    elif not _same(stated, expected):
        yield f"{key} is {stated!r}, and comes to {expected!r}"


def _same(stated: Any, expected: Any) -> bool:
    if isinstance(expected, float) and is_number(stated):
        both_nan = math.isnan(stated) and math.isnan(expected)
        return both_nan or math.isclose(stated, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(stated) is type(expected) and bool(stated == expected)


def is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def known_result(path: Path, identity: dict[str, Any], derived: Derive) -> dict[str, Any] | None:
    """An earlier result of the same identity, if it is whole; otherwise says why it is measured again."""
    return _known(path, identity, partial(read_records, derived=derived))


def known_cross_entropy(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The same of cross-entropies, if the figures of their domains come to those of the whole."""
    return _known(path, identity, check_splits)


def known_samples(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The same of samples, if there is a text for each prompt."""
    return _known(path, identity, check_samples)


def _known(
    path: Path, identity: dict[str, Any], check: Callable[[Path, dict[str, Any]], object]
) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        result = read_result(path)
        if result["identity"] != identity:
            raise UserError(f"{path}: of other weights, another tokenizer, another text or another version")
        check(path, result)
    except UserError as error:
        report_unusable(error)
        return None
    return result


def report_unusable(problem: UserError) -> None:
    print(f"{problem}; measuring again", file=sys.stderr, flush=True)


def check_samples(path: Path, result: dict[str, Any]) -> None:
    """Raise UserError unless each of a result's prompts has a text."""
    try:
        prompts = [each["prompt"] for each in result["samples"] if isinstance(each["text"], str)]
        is_whole = prompts == result["identity"]["prompts"]
    except (KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise UserError(f"{path}: damaged: not a text for each of its prompts")


def check_splits(path: Path, result: dict[str, Any]) -> None:
    """Raise UserError unless the figures of a result's domains come to those of the whole."""
    try:
        expected = {name: whole_text(split["domains"]) for name, split in result["splits"].items()}
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{path}: damaged: a figure is missing or not a number ({error})") from None
    if difference := next(contradictions(result["splits"], expected), "" if "dev" in expected else "no dev text"):
        raise UserError(f"{path}: damaged: {difference}")


def whole_text(domains: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of a text, made of those of its domains; bits per byte where all of these have them."""
    has_bits = all("bits_per_byte" in of for of in domains.values())
    each = {
        name: text_figures(of["cross_entropy"], of["tokens"], of["words"], of["bytes"], has_bits)
        for name, of in domains.items()
    }
    tokens, words, size_in_bytes = (sum(of[key] for of in each.values()) for key in ("tokens", "words", "bytes"))
    mean = sum(of["cross_entropy"] * of["tokens"] for of in each.values()) / tokens
    return {**text_figures(mean, tokens, words, size_in_bytes, has_bits), "domains": each}


def text_figures(
    nats_per_token: float, tokens: int, words: int, size_in_bytes: int, has_bits: bool = True
) -> dict[str, Any]:
    """Cross-entropy of a text of that size, in nats per predicted token, and in bits per UTF-8 byte of all of it, which
    it has where all of it is predicted."""
    bits = {"bits_per_byte": float(bits_per_byte(nats_per_token * tokens, size_in_bytes))} if has_bits else {}
    return {
        "cross_entropy": float(nats_per_token),
        **bits,
        "tokens": tokens,
        "words": words,
        "bytes": size_in_bytes,
    }
