# Sourced by each finding: a temporary folder with the pinned packages that are named, removed at the end.
#   . "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0
# Then `python` is an interpreter that has them and nothing of Palenka, and the current folder is the temporary one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset PYTHONPATH
python3 -m venv packages
packages/bin/python -m pip install --quiet --disable-pip-version-check "$@"
PATH="$folder/packages/bin:$PATH"
export TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1
