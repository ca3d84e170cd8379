"""The weight of a loss term: a number, or a course over the training."""

import math
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from palenka.util.section import Section


class Weight(Section):
    """From `start` to `end` between the shares `begin` and `finish` of the training; constant before and after.

    Written as a number where it stays the same: `weight: 0.5`, or
    `weight: {start: 1.0, end: 0.1, begin: 0.2, finish: 0.8, shape: cosine}`.
    """

    start: float = Field(ge=0, description="weight until `begin`")
    end: float = Field(ge=0, description="weight from `finish` on")
    begin: float = Field(default=0.0, ge=0, le=1, description="share of the training")
    finish: float = Field(default=1.0, ge=0, le=1, description="share of the training")
    shape: Literal["linear", "cosine"] = Field(default="linear", description="of the course in between")

    @model_validator(mode="before")
    @classmethod
    def _read_number(cls, value: Any) -> Any:
        if isinstance(value, dict | Weight):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(
                f"expected a number from 0, or a schedule like {{start: 1.0, end: 0.1, begin: 0.0, finish: 1.0, "
                f"shape: linear}}, got {value!r}"
            )
        return {"start": value, "end": value}

    @model_validator(mode="after")
    def _in_order(self) -> "Weight":
        if self.begin > self.finish:
            raise ValueError(f"begin {self.begin} is after finish {self.finish}")
        return self

    @model_serializer(mode="wrap")
    def _write_number(self, write: SerializerFunctionWrapHandler) -> Any:
        return self.start if self.is_constant else write(self)

    def __str__(self) -> str:
        return f"{self.start:g}" if self.is_constant else f"{self.start:g}→{self.end:g}"

    @property
    def is_constant(self) -> bool:
        return self.start == self.end

    @property
    def is_ever_positive(self) -> bool:
        return self.start > 0 or self.end > 0

    def at(self, progress: float) -> float:
        """The weight when the share `progress` of the training is done."""
        if progress <= self.begin:
            return self.start
        if progress >= self.finish:
            return self.end
        way = (progress - self.begin) / (self.finish - self.begin)
        if self.shape == "cosine":
            way = (1 - math.cos(math.pi * way)) / 2
        return self.start + (self.end - self.start) * way
