#!/usr/bin/env bash
# scipy 1.17.1, curve_fit of a sigmoid to points that jump: no point says where, between the two of them.
#   guess   an infinite error and an OptimizeWarning, as without bounds; or an error of the size of the gap
#   found   with bounds the error of the jump's place is exactly 0, that of the steepness, too, and nothing is said
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" numpy==2.4.6 scipy==1.17.1
python - <<'PYTHON'
import warnings

import numpy as np
from scipy.optimize import curve_fit
from scipy.special import expit


def sigmoid(x, a, b, c, d):
    return a * expit(b * (x - c)) + d


x = np.arange(6.0)
y = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) + 1e-3 * np.array([1, -1, 1, -1, 1, -1])
for bounds in ((-np.inf, np.inf), ([0, 0, -1, -1], [2, 100, 6, 1])):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit, covariance = curve_fit(sigmoid, x, y, p0=[1, 90, 2.5, 0], bounds=bounds)
    errors, bounded = np.sqrt(np.diag(covariance)), np.isfinite(bounds[0]).all()
    print(f"bounds: {bounded}; place of the jump {fit[2]:.3f} ± {errors[2]}, steepness {fit[1]:.3f} ± {errors[1]}; "
          f"warnings: {[warning.category.__name__ for warning in said]}")
    assert (errors[1] == errors[2] == 0 and not said) if bounded else (np.isinf(errors).all() and said)
PYTHON
