"""The schema of a search: a run's config, the keys of it that are varied, and how values for them are drawn.

A value is drawn through its axis's quantile function from a coordinate: a number from 0 to 1, or the place of a choice.
So one space serves all samplers, and a prior with tails costs them nothing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import dumps
from statistics import NormalDist
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from palenka.search.halving import HalvingConfig
from palenka.search.schema import FinalistsConfig
from palenka.training.schema import LARGEST_SEED, RunName
from palenka.util.section import Section
from palenka.util.text import did_you_mean

MOST_TRIALS = 10_000
WAVES = 4  # of proposals that tpe learns between, at least, where cohorts could take more
TAILS = 3  # standard deviations; what is further out is not drawn
DIGITS = 4  # of a drawn number, so that configs can be read
INERT = ("name", "paths", "tracking", "evaluation")
MEASURING = ("data.name", "data.seq_length", "data.dev_samples", "data.bos", "data.window_start", "paradigm")
KINDS = ("choice", "uniform", "log_uniform", "log_normal")
NORMAL = NormalDist()

Coordinate = float | int


class Axis(Section):
    """Values that a key takes; a bare list is a choice."""

    choice: list[Any] | None = Field(default=None, min_length=1, description="values, equally likely")
    uniform: tuple[float, float] | None = Field(default=None, description="[from, to]")
    log_uniform: tuple[float, float] | None = Field(
        default=None, description="[from, to], above 0; each order of magnitude is equally likely"
    )
    log_normal: tuple[float, float] | None = Field(
        default=None, description="[mean, standard deviation] of the natural logarithm, cut at 3 deviations"
    )
    multiple_of: int | None = Field(default=None, ge=1, description="round to a multiple of this, at least one")
    complement: bool = Field(default=False, description="the value is 1 minus what is drawn")
    when: dict[str, Any] = Field(
        default={}, description="vary it only where axes that are listed above it have these values"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "Axis":
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of {', '.join(KINDS)}, got {' and '.join(given) or 'none'}")
        for kind in ("uniform", "log_uniform"):
            low, high = getattr(self, kind) or (1, 2)
            if not low < high or (kind == "log_uniform" and low <= 0):
                above = ", both above 0" if kind == "log_uniform" else ""
                raise ValueError(f"{kind}: expected [from, to] with from below to{above}, got [{low:g}, {high:g}]")
        if self.log_normal and self.log_normal[1] <= 0:
            raise ValueError(f"log_normal: expected a standard deviation above 0, got {self.log_normal[1]:g}")
        if self.choice and (self.multiple_of or self.complement):
            raise ValueError("choice: its values are taken as they are; leave out multiple_of and complement")
        if self.multiple_of and self.complement:
            raise ValueError("give multiple_of or complement, not both")
        return self

    def value(self, coordinate: Coordinate) -> Any:
        """What stands at a coordinate."""
        if self.choice is not None:
            return self.choice[int(coordinate)]
        drawn = self._quantile(coordinate)
        if self.multiple_of:
            return max(1, round(drawn / self.multiple_of)) * self.multiple_of
        rounded = float(f"{drawn:.{DIGITS}g}")
        low, high = self.uniform or self.log_uniform or (-math.inf, math.inf)
        kept = min(max(rounded, low), high)
        return float(f"{1 - kept:.10g}") if self.complement else kept

    def _quantile(self, share: float) -> float:
        if self.uniform:
            low, high = self.uniform
            return low + share * (high - low)
        if self.log_uniform:
            low, high = map(math.log, self.log_uniform)
            return math.exp(low + share * (high - low))
        assert self.log_normal is not None
        mean, deviation = self.log_normal
        tail = NORMAL.cdf(-TAILS)
        return math.exp(mean + deviation * NORMAL.inv_cdf(tail + share * (1 - 2 * tail)))

    def coordinate(self, share: float) -> Coordinate:
        """Of a number from 0 to below 1."""
        return int(share * len(self.choice)) if self.choice is not None else share

    @property
    def outermost(self) -> list[Any]:
        """Its choices, or its smallest and its largest value."""
        return self.choice if self.choice is not None else [self.value(0.0), self.value(1.0)]

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether it is varied beside these values of the axes above it."""
        return all(key in values and values[key] == value for key, value in self.when.items())


class BudgetConfig(Section):
    """What all trials together may cost; `trials` is then the most of them."""

    flops: float | None = Field(default=None, gt=0, description="FLOPs of matrix products, teachers' included")
    like: str | None = Field(default=None, description="as much as this run, its teachers' own trainings included")
    hours: float | None = Field(default=None, gt=0, description="measured hours of training, of all workers together")

    @model_validator(mode="after")
    def _one(self) -> "BudgetConfig":
        if sum(each is not None for each in (self.flops, self.like, self.hours)) != 1:
            raise ValueError("give one of flops, like and hours")
        return self


class SearchFinalistsConfig(FinalistsConfig):
    """The best trials, and the run as it was without the search, trained anew with further seeds."""

    overrides: dict[str, Any] = Field(default={}, description="key paths and the values that they have then")
    seeds: list[int] = Field(default=[1, 2, 3], min_length=1, description="of weights and order of text, one run each")


def _read_axis(value: Any) -> Any:
    return {"choice": value} if isinstance(value, list) else value


def _check_key(key: str) -> str:
    first = key.split(".")[0]
    if first in INERT:
        raise ValueError(f"{first} changes no weight, so that there is nothing to search")
    if any(key == name or key.startswith(f"{name}.") for name in MEASURING):
        raise ValueError(f"{key} changes what dev loss is measured on, so that trials could not be compared")
    return key


def _check_storage(url: str) -> str:
    if "://" not in url:
        raise ValueError(
            f"expected the URL of a database, such as postgresql+psycopg://HOST/NAME, got {url!r}; a search without "
            "storage keeps a journal in its own folder, which many workers share"
        )
    if url.startswith("sqlite"):
        raise ValueError(
            "SQLite is not safe with several machines on a shared folder, whose locks it relies on; leave storage out "
            "(the journal in the search's folder needs no server), or name a database server"
        )
    return url


@dataclass(frozen=True)
class Point:
    """What a trial takes of each axis that applies: coordinates, and the values there."""

    coordinates: Mapping[str, Coordinate]
    values: Mapping[str, Any]


class SearchConfig(Section):
    """A run's config, the keys of it that are varied, and how."""

    name: RunName = Field(description="names the search and its folder, in which each trial is a run")
    run: str = Field(description="config file of the run that is varied, from the repository's root")
    overrides: dict[str, Any] = Field(default={}, description="key paths of it and their values in all trials")
    axes: dict[
        Annotated[str, AfterValidator(_check_key)], Annotated[Axis, BeforeValidator(_read_axis)]
    ] = Field(min_length=1, description="key paths of the run's config, each with its values or their distribution")
    sampler: Literal["grid", "random", "quasi_random", "tpe"] = Field(
        default="tpe", description="grid takes all combinations of choices; tpe learns from the trials before"
    )
    trials: int | None = Field(
        default=None, ge=1, le=MOST_TRIALS, description="how many; all combinations of a grid unless given"
    )
    cohort_size: int | None = Field(
        default=None, ge=1, description="trials on one teacher pass, proposed together; as many as fit unless given"
    )
    budget: BudgetConfig | None = Field(default=None, description="what all trials may cost; no limit unless given")
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="decides, with a trial's number, what is drawn")
    pruning: HalvingConfig | None = Field(default=None, description="successive halving; no trial is pruned without it")
    finalists: SearchFinalistsConfig | None = Field(
        default=None, description="the best trained anew, beside the run's own values; none without it"
    )
    storage: Annotated[str, AfterValidator(_check_storage)] | None = Field(
        default=None, description="URL of a database for the trials; a journal in the search's folder unless given"
    )

    @model_validator(mode="after")
    def _conditions_come_first(self) -> "SearchConfig":
        above: dict[str, Axis] = {}
        for key, axis in self.axes.items():
            for name, value in axis.when.items():
                if name not in above:
                    raise ValueError(f"axes.{key}: when: {name} is no axis above it{did_you_mean(name, list(above))}")
                if value not in (above[name].choice or []):
                    raise ValueError(f"axes.{key}: when: {name} has no choice {value!r}")
            above[key] = axis
        return self

    @model_validator(mode="after")
    def _has_an_end(self) -> "SearchConfig":
        if self.sampler != "grid":
            if self.trials is None:
                raise ValueError(f"trials: sampler {self.sampler} has no end of its own; say how many")
            return self
        for key, axis in self.axes.items():
            if axis.choice is None:
                raise ValueError(f"axes.{key}: sampler grid takes choices; list its values, or choose another sampler")
        if (self.trials or 0) > (cells := self.count_cells()):
            raise ValueError(f"trials: the grid has {cells} combinations, fewer than {self.trials}")
        return self

    def draw(self, coordinate: Callable[[str, Axis], Coordinate]) -> Point:
        """The point at the coordinates of the axes that apply, asked for one after the other."""
        coordinates: dict[str, Coordinate] = {}
        values: dict[str, Any] = {}
        for key, axis in self.axes.items():
            if axis.applies(values):
                coordinates[key] = coordinate(key, axis)
                values[key] = axis.value(coordinates[key])
        return Point(coordinates, values)

    def cells(self) -> list[Point]:
        """All combinations of choices, the last axis changing fastest."""
        found = [Point({}, {})]
        for key, axis in self.axes.items():
            found = [cell for point in found for cell in _extended(point, key, axis)]
        return found

    def count_cells(self) -> int:
        """Of a grid, without making those of one that is far too large."""
        if math.prod(len(axis.choice or []) for axis in self.axes.values() if not axis.when) > MOST_TRIALS:
            raise ValueError(f"axes: more than {MOST_TRIALS:,} combinations")
        return len(self.cells())

    @property
    def changes(self) -> list[str]:
        """`overrides` as on a command line."""
        return overriding(self.overrides)

    @property
    def number_of_trials(self) -> int:
        """That are asked for."""
        return self.trials or self.count_cells()

    @property
    def proposed_at_once(self) -> int:
        """The most trials that are proposed together, for one teacher pass: tpe learns nothing between them."""
        return math.ceil(self.number_of_trials / (WAVES if self.sampler == "tpe" else 1))


def overriding(values: Mapping[str, Any]) -> list[str]:
    """Values of key paths as `key.path=value`."""
    return [f"{key}={dumps(value)}" for key, value in values.items()]


def _extended(point: Point, key: str, axis: Axis) -> list[Point]:
    if not axis.applies(point.values):
        return [point]
    return [
        Point({**point.coordinates, key: place}, {**point.values, key: value})
        for place, value in enumerate(axis.choice or [])
    ]
