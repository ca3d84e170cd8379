"""A kill at a chosen point, without a process of its own."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from palenka.runs.directory import Run


class Killed(BaseException):
    """What a process killed at this point would not survive."""


Damage = Callable[..., Any]


def kill_at(patch: pytest.MonkeyPatch, owner: Any, name: str, call: int, damage: Damage | None = None) -> None:
    """Let the `call`-th call of owner.name do `damage` to the disk, and nothing happen after it."""
    original, calls = getattr(owner, name), 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            if damage:
                damage(*args, **kwargs)
            raise Killed
        return original(*args, **kwargs)

    patch.setattr(owner, name, deadly)


def half_a_line(run: Run, record: dict[str, Any]) -> None:
    """What a kill within Run.log leaves."""
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record)[:40])
