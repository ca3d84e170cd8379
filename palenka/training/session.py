"""A run about to be trained, as one of its processes sees it: its folder, its processes, and where its figures go."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list

from palenka.data.integrity import training_files, verify
from palenka.objectives import TokenObjective
from palenka.runs.directory import Run
from palenka.runs.ledger import LEDGER, ledger_of
from palenka.training.display import CohortDisplay, Display
from palenka.training.plan import Plan
from palenka.training.trackers import TrackedRun, Trackers
from palenka.util.errors import Stopped, UserError
from palenka.util.files import read_object, write_json
from palenka.util.hardware import description, local_device, total_memory
from palenka.util.processes import check_processes

Found = TypeVar("Found")


class Diverged(Stopped):
    """A loss or a weight is not finite; it holds the message for users."""


def begin(plan: Plan, from_last_good: bool = False) -> "Session | None":
    """Look at what stands under a plan's name.

    Args:
        plan: the run.
        from_last_good: resume from the last checkpoint even if the run diverged.

    Returns:
        None where the run is finished already, which is said.

    Raises:
        UserError: as `begin_all`.
        Diverged: in an earlier start.
    """
    sessions, diverged = begin_all([plan], from_last_good)
    if diverged:
        raise Diverged("\n".join(diverged))
    return next(iter(sessions), None)


def begin_all(plans: Sequence[Plan], from_last_good: bool = False) -> tuple[list["Session"], list[str]]:
    """Look at what stands under the names of several plans, and begin with none before all have been looked at.

    Returns:
        Those that are to be trained; what is to be said of each that diverged in an earlier start. Finished ones are
        left as they are, which is said.

    Raises:
        UserError: a name holds another run, a model is too large, or no launcher started this process with the others
            that the environment names.
    """
    check_processes()
    runs = [(plan, Run(plan.config.name, plan.runs, from_last_good)) for plan in plans]
    for plan, run in runs:
        run.check_identity(plan.identity())
    for _, run in runs:
        if run.finished and os.environ.get("RANK", "0") == "0":
            print(f"{run.name}: finished already, in {run.path}")
            run.tidy()
    diverged = [run.diverged for _, run in runs if run.diverged]
    unfinished = [(plan, run) for plan, run in runs if not run.finished and not run.diverged]
    for plan, _ in unfinished:
        _check_memory(plan)
    return [Session(plan, run) for plan, run in unfinished], diverged


def _check_memory(plan: Plan) -> None:
    """Refuse a model that no batch size would make fit."""
    device = local_device()
    gradients = 4 * (plan.parameters["total"] + plan.owned_parameters)
    needed, there = plan.state_bytes + gradients, total_memory(device)
    if needed > there:
        raise UserError(
            f"{plan.config.name}: {plan.parameters['total']:,} parameters take {needed / 2**30:,.0f} GiB in training, "
            f"and {device} has {there / 2**30:,.0f} GiB; make the model smaller (hidden_size, num_hidden_layers)"
        )


class Session:
    """A run directory, the processes that train it, and its records: metrics.jsonl, trackers, and the screen."""

    def __init__(self, plan: Plan, run: Run) -> None:
        self.plan, self.run = plan, run
        self.accelerator = Accelerator(
            mixed_precision="no" if plan.precision == "fp32" else plan.precision,
            cpu=not torch.cuda.is_available(),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=not _reaches_head(plan))],
        )
        self.device: torch.device = self.accelerator.device
        self.is_main: bool = self.accelerator.is_main_process
        self.trackers = Trackers()

    def open(self, cohort_display: CohortDisplay | None = None) -> None:
        """Take the run directory in the main process; what fails there ends all processes.

        Args:
            cohort_display: what shows the progress of students that train side by side.

        Raises:
            UserError: another process is training the run, or its data is damaged or no longer what it began with.
        """
        self.from_main(self._open)
        self.display = Display(self.plan.config.name, self.plan.total_steps, self.is_main, cohort_display)

    def _open(self) -> None:
        record = self.run.path / "data.json"  # checksums of the data that the run began with
        self._check_data(record)
        self.run.open(self.plan.identity(), self.plan.resolved, description(self.device, self.plan.processes))
        write_json(record, training_files(self.plan.data_folder))
        write_json(self.run.path / LEDGER, asdict(ledger_of(self.plan.resolved)))

    def _check_data(self, record: Path) -> None:
        """Raise UserError unless the data is whole and, when resuming, still the same."""
        verify(self.plan.data_folder)
        if not self.run.checkpoints():
            if self.plan.cached_logits:  # of many gigabytes, it may be: not again at each resume
                self.plan.cached_logits.verify(self.plan.total_windows)
        elif record.exists():
            then, now = _read_data_record(record), training_files(self.plan.data_folder)
            if changed := [name for name in {**then, **now} if then.get(name) != now.get(name)]:
                raise UserError(
                    f"{self.run.path}: began with other data than is now in {self.plan.data_folder}: it was "
                    f"prepared again, and came out different ({', '.join(changed)}). Put the former data back, or "
                    "train again under another name"
                )

    @property
    def first_step(self) -> int:
        """Where training begins: after the newest checkpoint, if it turns out to be whole."""
        return max(self.run.checkpoints(), default=0)

    def from_main(self, work: Callable[[], Found]) -> Found:
        """Run a function in the main process and return its result in all; a failure there ends all."""
        return from_main(work, self.is_main)

    def start_trackers(self) -> None:
        """Show the run, and what it has recorded so far, where its config says."""
        plan = self.plan
        shown = plan.resolved | {"parameters": plan.parameters}
        tracked = TrackedRun(plan.config.name, self.run.path, plan.method, shown)
        self.trackers.start(plan.config.tracking, tracked, self.run.read_log().records)

    def record(self, record: dict[str, Any]) -> None:
        """Keep one record, from the main process alone."""
        if self.is_main:
            self.run.log(record)
            self.trackers.log(record)

    def leave(self, reason: str) -> None:
        """Say why the run ends without a result here."""
        self.display.finished(reason)
        self.trackers.finish(None)


def from_main(work: Callable[[], Found], is_main: bool) -> Found:
    """Run a function in the main process and return its result in all; a failure there ends all."""
    outcome: list[Any] = [None, None]
    if is_main:
        try:
            outcome = [work(), None]
        except UserError as error:
            outcome = [None, str(error)]
    broadcast_object_list(outcome)
    found, failure = outcome
    if failure:
        raise UserError(failure)
    return cast(Found, found)


def _reaches_head(plan: Plan) -> bool:
    """Whether all of the student is trained: without a token objective its head, at least, has no gradient."""
    return any(issubclass(plan.config.objective_class(name), TokenObjective) for name in plan.config.terms)


def _read_data_record(path: Path) -> dict[str, str]:
    try:
        return read_object(path)
    except UserError as error:
        raise UserError(
            f"{error}. Put back a copy of it; or remove it, if the data is certain to be what the run began with: "
            "the same command then resumes, and writes it again"
        ) from None
