"""Terms that are no number at chosen steps. As a program, in one process of several: distill.py with such a term.

Usage: python poison.py TERM STEP RANK --config …
"""

import os
import sys
from collections.abc import Callable, Collection
from typing import Any

from palenka import objectives
from palenka.training.student import Student


def poison(
    replace: Callable[[Any, str, Any], None], term: str, steps: Collection[int], value: float = float("nan"),
    run: str | None = None,
) -> None:  # fmt: skip
    """Multiply a term by `value` in chosen steps (from 1) of all runs, or of one. `replace` sets an attribute."""
    kind: Any = objectives.find(term)
    accumulate, forward = Student.accumulate, kind.forward
    now: tuple[int, str] = (0, "")

    def noting(self: Student, *arguments: Any) -> None:
        nonlocal now
        now = (self.step + 1, self.plan.config.name)
        accumulate(self, *arguments)

    def poisoned(self: Any, *arguments: Any) -> Any:
        losses = forward(self, *arguments)
        return losses * value if now[0] in steps and run in (None, now[1]) else losses

    replace(Student, "accumulate", noting)
    replace(kind, "forward", poisoned)


if __name__ == "__main__":
    from distill import main

    _, name, number, rank, *rest = sys.argv
    if os.environ["RANK"] == rank:
        poison(setattr, name, [int(number)])
    sys.argv = ["distill.py", *rest]
    main()
