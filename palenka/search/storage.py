"""The trials of a search, kept by Optuna: in a journal that many workers share, or in a database.

    runs/<search>/trials.journal    one JSON object a line; unless the config names a database

Whoever writes holds the lock of the search, which the system releases when its holder dies. Optuna's own would be
waited for: 30 seconds where the journal has an absolute path, for ever where it has not. A writer that was killed, or
whose disk was full, may leave half a line, after which each load would fail as soon as another follows it.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from palenka.util.errors import UserError

JOURNAL = "trials.journal"


class _Held:
    """In place of Optuna's lock of the journal: the caller holds that of the search."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _Journal(JournalFileBackend):
    """Optuna's, mended before it is written to."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path.absolute()), _Held())
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        cut_half_line(self.path)
        super().append_logs(logs)


def cut_half_line(path: Path) -> None:
    """Drop what follows the last newline of a file, if anything does."""
    with path.open("rb+") as file:
        if not file.seek(0, os.SEEK_END):
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.truncate(path.read_bytes().rfind(b"\n") + 1)


class Trials:
    """The trials of a search by number. Whoever calls holds its lock.

    Args:
        name: of the search.
        folder: of the search, for the journal.
        url: of a database instead.

    Raises:
        UserError: the database cannot be used, or the journal is damaged.
    """

    def __init__(self, name: str, folder: Path, url: str | None = None) -> None:
        storage = _database(url) if url else _journal(folder / JOURNAL)
        self._study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)

    def all(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def add(
        self, coordinates: Mapping[str, Any], distributions: dict[str, BaseDistribution], values: Mapping[str, Any],
        flops: float = 0.0,
    ) -> int:  # fmt: skip
        """Begin a trial that will cost so much, in one line of the journal; its number."""
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING, params=dict(coordinates), distributions=distributions,
                user_attrs={"values": dict(values), "flops": flops},
            )  # fmt: skip
        )
        return self.all()[-1].number

    def complete(self, number: int, loss: float) -> None:
        """End one by its dev cross-entropy, infinite where it diverged."""
        self._study.tell(number, loss)

    def prune(self, number: int, share: float, loss: float) -> None:
        """End one at a share of its training; in per mille it is the step that samplers know of."""
        self._study._storage.set_trial_intermediate_value(self.all()[number]._trial_id, round(1000 * share), loss)
        self._study.tell(number, state=TrialState.PRUNED)

    def refuse(self, number: int, reason: str) -> None:
        """End one that cannot be trained."""
        self.note(number, "refused", reason)
        self._study.tell(number, state=TrialState.FAIL)

    def note(self, number: int, key: str, value: Any) -> None:
        """Keep a fact about a running one."""
        self._study._storage.set_trial_user_attr(self.all()[number]._trial_id, key, value)


def _journal(path: Path) -> BaseStorage:
    try:
        return JournalStorage(_Journal(path))
    except ValueError as error:  # JSON's, too
        raise UserError(
            f"{path}: damaged ({error}). Put back a copy of it; the runs of the trials are beside it, untouched"
        ) from None


def _database(url: str) -> BaseStorage:
    shown = re.sub(r"//.*@", "//…@", url)
    try:
        return RDBStorage(url)
    except ImportError as error:
        advice = "install the driver of this database, with pip install 'psycopg[binary]' say"
        raise UserError(f"storage: {shown}: {error} {advice}") from None
    except SQLAlchemyError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"storage: {shown}: {reason}") from None
