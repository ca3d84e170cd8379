#!/usr/bin/env bash
# scipy 1.17.1, a Sobol sequence moved on by 0 points before its first one, as for the point of number 0.
#   guess   nothing happens, as with every other number of points the next point is the one of that number
#   found   OverflowError: can't convert negative value to npy_uint32
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" numpy==2.4.6 scipy==1.17.1
python - <<'PYTHON'
import numpy as np
from scipy.stats import qmc


def sequence():
    return qmc.Sobol(2, rng=np.random.default_rng(0))


points = sequence().random(4)
for number in (3, 2, 1):
    moved = sequence()
    moved.fast_forward(number)
    assert (moved.random(1)[0] == points[number]).all()
    print(f"moved on by {number}: the point of number {number}")
try:
    sequence().fast_forward(0)
    raise SystemExit("moved on by 0: no error")
except OverflowError as error:
    print(f"moved on by 0: {type(error).__name__}: {error}")
PYTHON
