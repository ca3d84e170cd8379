#!/usr/bin/env bash
# transformers 5.23.0 with scipy beside it: what importing a language model brings along.
#   guess   what a Llama needs; whether scipy is installed makes no difference
#   found   scipy.optimize, for losses of object detection that `modeling_utils` imports wherever scipy is installed:
#           the import takes some hundredths longer (1.04 on two busy cores), up to a tenth
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0 numpy==2.4.6 scipy==1.17.1
python - <<'PYTHON'
import resource
import statistics
import subprocess
import sys

WITHOUT, LLAMA = "import sys; sys.modules['scipy'] = None", "import transformers.models.llama.modeling_llama"


def seconds(code):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


pairs = [(seconds(LLAMA), seconds(f"{WITHOUT}; {LLAMA}")) for _ in range(6)][1:]  # the first writes bytecode
ratio = statistics.median(with_it / without for with_it, without in pairs)
code = f"{LLAMA}; import sys; print('scipy.optimize' in sys.modules)"
loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
print(f"scipy.optimize loaded: {loaded}; processor time of the import: {ratio:.2f} of that without scipy")
assert loaded == "True"
PYTHON
