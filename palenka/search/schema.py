"""The schema of a grid: a student's configuration with axes, each point of which is a trial."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from palenka import objectives
from palenka.training.schema import DistillConfig
from palenka.util.section import Section
from palenka.util.text import did_you_mean

SHORT_LABELS = {"logit": "L", "hidden_state": "H", "seed": "s"}
MOST_TRIALS = 10_000


def _check_axis(key: str) -> str:
    objective = key.removeprefix("objective.").removesuffix(".weight")
    if key not in ("seed", f"objective.{objective}.weight"):
        raise ValueError(f"expected seed or objective.NAME.weight, got {key!r}")
    if key != "seed" and objective not in objectives.available():
        raise ValueError(f"unknown objective {objective!r}{did_you_mean(objective, objectives.available())}")
    return key


class FinalistsConfig(Section):
    """How many of the best trials are retrained, and the keys of the config that are different then."""

    count: int = Field(default=3, ge=0, description="best trials that are trained anew")
    overrides: dict[str, Any] = Field(
        default={"data.fraction": 1.0}, description="key paths and the values that they have then"
    )


class GridSection(Section):
    """The axes of a grid, each a key of the config with its values, and what is done with the trials.

    `cohort_size`: students that share a teacher pass, by default as many as fit the device. `tasks`: what trials and
    finalists are evaluated on, by default all that `evaluate` knows by itself and whose items are there.
    """

    axes: dict[Annotated[str, AfterValidator(_check_axis)], list[int | float]] = Field(
        min_length=1, description="values of objective.NAME.weight, or of seed"
    )
    cohort_size: int | None = Field(
        default=None, ge=1, description="students on one teacher pass; as many as fit unless given"
    )
    finalists: FinalistsConfig = Field(default=FinalistsConfig(), description="the best, trained anew")
    tasks: list[str] | None = Field(
        default=None, description="what is evaluated; all default tasks whose items are there unless given"
    )

    @field_validator("axes")
    @classmethod
    def _distinct(cls, axes: dict[str, list[int | float]]) -> dict[str, list[int | float]]:
        if (trials := math.prod(map(len, axes.values()))) > MOST_TRIALS:
            raise ValueError(f"{trials:,} trials, expected at most {MOST_TRIALS:,}")
        for key, values in axes.items():
            if not values:
                raise ValueError(f"{key}: expected at least one value")
            labels = [_label(key, value) for value in values]
            for label in labels:
                if labels.count(label) > 1:
                    raise ValueError(f"{key}: {label} appears twice")
        return axes


def _label(key: str, value: float) -> str:
    """`L0.1` of objective.logit.weight and 0.1."""
    name = key.removeprefix("objective.").removesuffix(".weight")
    return f"{SHORT_LABELS.get(name, name)}{value:.10g}".replace("+", "")  # 1e+20: no letter for a name


@dataclass(frozen=True)
class Trial:
    """One point of a grid: a value for the key of each axis."""

    values: Mapping[str, float]

    @property
    def label(self) -> str:
        return "-".join(_label(key, value) for key, value in self.values.items())


class GridConfig(DistillConfig):
    """A student of which a grid has many, and the grid."""

    grid: GridSection = Field(description="the axes, and what becomes of the trials")

    @model_validator(mode="after")
    def _possible(self) -> "GridConfig":
        """Every trial is a valid config, and would be one as a finalist."""
        if "training.precision" in self.grid.finalists.overrides:
            raise ValueError("grid.finalists.overrides: training.precision is one and the same for all of a grid")
        for trial in self.trials:
            try:
                self.student_config(trial)
                self.finalist_config(trial)
            except ValidationError as error:
                problems = [f"{'.'.join(map(str, e['loc']))} {e['msg']}" for e in error.errors()]
                found = "; ".join(problem.replace("Value error, ", "").strip() for problem in problems)
                raise ValueError(f"trial {trial.label}: {found}") from None
        return self

    @property
    def trials(self) -> list[Trial]:
        """All combinations of the axes' values, the last axis changing fastest."""
        axes = self.grid.axes
        return [Trial(dict(zip(axes, values, strict=True))) for values in product(*axes.values())]

    def student_config(self, trial: Trial) -> DistillConfig:
        """The config of a trial's run."""
        return self._changed(f"{self.name}/{trial.label}", trial.values)

    def finalist_config(self, trial: Trial) -> DistillConfig:
        """The config of the trial's run if it becomes a finalist."""
        return self._changed(f"{self.name}/finalists/{trial.label}", {**trial.values, **self.grid.finalists.overrides})

    def _changed(self, name: str, changes: Mapping[str, Any]) -> DistillConfig:
        values = self.model_dump(mode="json", exclude_none=True, exclude={"grid"}) | {"name": name}
        values["data"].setdefault("seed", self.seed)
        for key, value in changes.items():
            *parents, last = key.split(".")
            target = values
            for part in parents:
                target = target.setdefault(part, {})
                if not isinstance(target, dict):
                    raise ValueError(f"{key}: {part} has no keys below it")
            target[last] = value
        return DistillConfig.model_validate(values)
