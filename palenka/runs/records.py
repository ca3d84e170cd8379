"""metrics.jsonl, a record a line. A damaged line loses only itself, and is reported."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palenka.util.files import require_file

NUMBERS = {"train": ("loss", "tokens"), "dev": ("loss",)}
"""What a record of a split has, apart from its step."""


@dataclass
class Log:
    """The records of a run in order, their lines, and what to say of other lines."""

    records: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)


def read_log(path: Path) -> Log:
    """Read metrics.jsonl; a last line without its end is still being written, or was when the process was killed.

    Raises:
        UserError: there is no regular file.
    """
    log = Log()
    if not path.exists():
        return log
    require_file(path)
    *lines, rest = path.read_bytes().split(b"\n")
    for number, line in enumerate([*lines, rest] if b"\0" in rest else lines, start=1):
        record = _read(line)
        if record is None:
            log.damages.append(f"{path}: line {number} is damaged, leaving it out")
        else:
            log.records.append(record)
            log.lines.append(f"{line.decode('utf-8')}\n")
    return log


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return None
    numbers = [record.get(name) for name in NUMBERS.get(str(record.get("split")), ())]
    return record if all(isinstance(number, int | float) for number in numbers) else None
