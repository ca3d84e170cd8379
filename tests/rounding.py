"""How far float32's rounding alone may set apart figures that two ways of computing give alike."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import tiny

UNIT_ROUNDOFF = 2**-24
RELATIVE = 1e-5
TEMPERATURE = 2.0  # the default of `logit`


def divergence_tolerance(tokens: int = 1) -> float:
    """Of a divergence at TEMPERATURE over tiny.VOCABULARY tokens, summed over so many tokens, in nats.

    It is a small difference of large numbers: teacher's and student's log-probabilities, near -log V each, are both
    rounded twice (the sum of exponentials, and the difference from it), to units of their own size. What is left of
    that is absolute, however small their difference.
    """
    return TEMPERATURE**2 * 4 * UNIT_ROUNDOFF * math.log(tiny.VOCABULARY) * tokens


def assert_alike(one: Mapping[str, Any], other: Mapping[str, Any], keys: Iterable[str], tokens: int = 1) -> None:
    """Records of two runs agree but for rounding; `logit` is summed over so many tokens, and weighs at most 1."""
    for key in keys:
        absolute = divergence_tolerance(tokens) if key in ("logit", "loss") else 0.0
        assert one[key] == pytest.approx(other[key], rel=RELATIVE, abs=absolute), key
