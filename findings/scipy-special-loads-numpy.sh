#!/usr/bin/env bash
# scipy 1.17.1, numpy 2.4.6: importing the special functions.
#   guess   `import scipy.special` loads compiled functions, and of numpy what `import numpy` has loaded already
#   found   it loads all of numpy that is loaded on demand: numpy.f2py, a compiler of Fortran wrappers, numpy.testing and
#           others, by cloning the whole namespace for the array API: more than half of the time it takes
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" scipy==1.17.1 numpy==2.4.6
python - <<'PYTHON'
import sys
import time

import numpy  # noqa: F401

before = set(sys.modules)
started = time.perf_counter()
import scipy.special  # noqa: E402, F401

took = time.perf_counter() - started
loaded = set(sys.modules) - before
parts = sorted({name.split(".")[1] for name in loaded if name.startswith("numpy.")})
print(f"import scipy.special after numpy: {len(loaded)} modules in {took:.2f} s, of numpy {', '.join(parts)}")
assert {"f2py", "testing"} <= set(parts)
assert "numpy.f2py.crackfortran" in loaded
PYTHON
