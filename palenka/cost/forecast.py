"""One configuration, how long it is trained, and what that will cost on a device, as tables and files show it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from palenka.cost.estimate import TOKENS_PER_WORD, Shared, fitting_cohort, flops_per_token, memory, step_seconds
from palenka.cost.measurement import Measurement
from palenka.data.integrity import read_prepared
from palenka.training.plan import Workload, data_folder_of
from palenka.util.devices import HERE, Device


@dataclass(frozen=True)
class Length:
    """How long one training is: the column's name, and optimizer steps."""

    label: str
    steps: int


@dataclass(frozen=True)
class Estimate:
    """What is asked of one configuration: what a step computes, for how many steps, and what was measured of it.

    `at_once`: of the trials, that are known at a time; all of them unless given.
    """

    where: str
    work: Workload
    lengths: list[Length]
    trials: int = 1
    cohort_size: int | None = None
    at_once: int | None = None
    measured: Measurement | None = None

    @property
    def tokens_per_step(self) -> int:
        return self.work.tokens_per_step

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
        """How many trials go side by side: as the config says, or what fits; 0 where not one does."""
        most = self.at_once or self.trials
        return self.cohort_size or fitting_cohort(self.work, device.kind, device.memory, most)


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
        "trials": found.trials,
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
            | ({"grid_seconds": seconds.of(found.trials, cohort) * length.steps} if found.trials > 1 and cohort else {})
            for length in found.lengths
        },
    } | ({"cohort_size": cohort, "cohort_memory": memory(found.work, device.kind, cohort).total} if cohort else {})
