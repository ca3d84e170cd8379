#!/usr/bin/env bash
# pytest 9.2.0, `pytest_plugins = ["fixtures"]` in the conftest.py beside a fixtures.py, the same with another name.
#   guess   the module beside it is the plugin, as for every other name that can be imported
#   found   pytest's own module of that name is taken, without a word: the fixtures of the project are not there, while
#           `from fixtures import …` in a test finds the project's.
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" pytest==9.2.0
for name in fixtures shared_fixtures; do
    mkdir "$name.d"
    echo "pytest_plugins = ['$name']" > "$name.d/conftest.py"
    printf 'import pytest\n\n\n@pytest.fixture\ndef answer():\n    return 42\n' > "$name.d/$name.py"
    printf 'from %s import answer as imported\n\n\ndef test_it(answer):\n    assert answer == 42\n' "$name" > "$name.d/test_it.py"
    said=$(cd "$name.d" && python -m pytest -q -p no:cacheprovider 2>&1 || true)
    echo "$name: $(grep -E "^E +fixture|passed|failed" <<< "$said" | tr -s ' ' | tr '\n' ' ')"
    case $name in
        fixtures) grep -q "fixture 'answer' not found" <<< "$said" ;;
        *) grep -q '1 passed' <<< "$said" ;;
    esac
done
