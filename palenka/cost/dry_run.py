"""What runs and grids will cost, before they are submitted and before their data and teachers are there."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from palenka.cost.estimate import (
    TOKENS_PER_WORD,
    Shared,
    fitting_cohort,
    flops_per_token,
    memory,
    step_seconds,
    this_machine,
    total_steps,
)
from palenka.cost.probe import Measurement, measure_apart
from palenka.data.integrity import read_prepared
from palenka.search.grid import GridConfig
from palenka.training.milestones import read_words, short
from palenka.training.plan import DistillConfig, Plan, RunConfig, TrainConfig, Workload, data_folder_of, make_workload
from palenka.util.config import UserError, compose, load
from palenka.util.devices import HERE, Device, find_devices
from palenka.util.files import require_writable, write_json


@dataclass(frozen=True)
class Length:
    """How long one training is: the column's name, and optimizer steps."""

    label: str
    steps: int


@dataclass(frozen=True)
class Estimate:
    """What is asked of one configuration: what a step computes, for how many steps, and what was measured of it."""

    where: str
    work: Workload
    lengths: list[Length]
    cells: int = 1
    cohort_size: int | None = None
    measured: Measurement | None = None

    @property
    def tokens_per_step(self) -> int:
        return self.work.config.training.batch_size * self.work.config.data.seq_length

    @property
    def flops(self) -> Shared:
        """Of one token."""
        return flops_per_token(self.work)

    def seconds(self, device: Device) -> Shared:
        """Of one step: predicted, or at the share of the matrix rate that was measured."""
        if self.measured is None:
            return step_seconds(self.work, device)
        return step_seconds(self.work, self.measured.device if device.name == HERE else device, self.measured.share)

    def cohort_on(self, device: Device) -> int:
        """How many cells go side by side: as the grid says, or what fits; 0 where not one does."""
        return self.cohort_size or fitting_cohort(self.work, device.kind, device.memory, self.cells)


def print_cost(
    configs: Sequence[Path], devices: Sequence[str], words: Sequence[str], probe: bool, out: Path | None
) -> None:
    """Print what configurations will cost on devices, for numbers of words; with `out`, write it as JSON, too.

    Raises:
        UserError: an unknown device, words that are no number of words, a configuration that does not fit.
    """
    from palenka.cost.text import terminal_text

    if out is not None:
        require_writable(out.parent)
    counts = [_read_words(number) for number in words]
    chosen = find_devices(devices, this_machine())
    estimates = [read_estimate(path, counts) for path in configs]
    if probe:
        estimates = [replace(found, measured=measure_apart(found.work)) for found in estimates]
    print("\n\n\n".join(terminal_text(found, chosen) for found in estimates))
    if out is not None:
        write_json(out, [as_record(found, chosen) for found in estimates])


def describe(plan: Plan) -> str:
    """The resolved configuration of a checked run and what it will cost, for people."""
    from palenka.cost.text import plan_text

    return plan_text(plan, find_devices([], this_machine()))


def read_estimate(path: Path, words: Sequence[int]) -> Estimate:
    """What is asked of the run or grid in a file, on so many words."""
    values = compose(path)
    if "grid" in values:
        config = load(path, [], GridConfig)
        work = make_workload(config.student_config(config.cells[-1]), str(path))
        return Estimate(str(path), work, _lengths(work, words), len(config.cells), config.grid.cohort_size)
    schema: type[RunConfig] = DistillConfig if "teachers" in values else TrainConfig
    work = make_workload(load(path, [], schema), str(path))
    return Estimate(str(path), work, _lengths(work, words))


def _read_words(text: str) -> int:
    try:
        return read_words(text)
    except ValueError as error:
        raise UserError(f"--words: {error}") from None


def _lengths(work: Workload, words: Sequence[int]) -> list[Length]:
    """One for each number of words, or one for all where the configuration fixes its steps."""
    fixed = work.config.training.max_steps
    if fixed is not None:
        return [Length(f"{fixed:,} steps", fixed)]
    rate = tokens_per_word(work)
    return [Length(f"{short(number)} words", total_steps(work.config, number, rate)) for number in words]


def tokens_per_word(work: Workload) -> float:
    """Of the run's prepared training text, or TOKENS_PER_WORD where there is none yet."""
    folder = data_folder_of(work.config)
    if not (folder / "prepared.json").exists():
        return TOKENS_PER_WORD
    text = read_prepared(folder)["splits"]["train"]
    return float(text["tokens"] / text["words"])


def as_record(found: Estimate, devices: Sequence[Device]) -> dict[str, Any]:
    """An estimate as plain values: bytes, seconds, FLOPs."""
    work = found.work
    return {
        "config": found.where,
        "name": work.config.name,
        "parameters": work.parameters | {"objectives": work.owned_parameters},
        "teachers": {teacher.name: teacher.parameters for teacher in work.teachers},
        "flops_per_token": asdict(found.flops),
        "tokens_per_step": found.tokens_per_step,
        "tokens_per_word": tokens_per_word(work),
        "cells": found.cells,
        "measured": asdict(found.measured) if found.measured else None,
        "devices": {device.name: _on_device(found, device) for device in devices},
    }


def _on_device(found: Estimate, device: Device) -> dict[str, Any]:
    cohort, seconds = found.cohort_on(device), found.seconds(device)
    return {
        "device": asdict(device),
        "memory": asdict(memory(found.work, device.kind)),
        "fits": fitting_cohort(found.work, device.kind, device.memory, 1) == 1,
        "seconds_per_step": asdict(seconds),
        "lengths": {
            length.label: {
                "steps": length.steps,
                "flops": found.flops.of() * found.tokens_per_step * length.steps,
                "seconds": seconds.of() * length.steps,
            }
            | ({"grid_seconds": seconds.of(found.cells, cohort) * length.steps} if found.cells > 1 and cohort else {})
            for length in found.lengths
        },
    } | ({"cohort_size": cohort, "cohort_memory": memory(found.work, device.kind, cohort).total} if cohort else {})
