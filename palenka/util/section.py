"""What every section of a configuration is held to."""

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A section of a configuration. Unknown keys are errors, and so are nan, inf, and true or false for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name:
            kinds = set(types_in(cls.model_fields[info.field_name].annotation))
            if kinds & {int, float} and bool not in kinds:
                raise ValueError(f"expected a number, got {str(value).lower()}")
        return value


def types_in(annotation: Any) -> Iterator[Any]:
    """What an annotation is made of: int and None of `int | None`."""
    if typing.get_origin(annotation) is None and not isinstance(annotation, types.UnionType):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from types_in(argument)
