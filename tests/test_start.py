"""What starts at once: commands that only read results load none of the packages that take seconds to import."""

import subprocess
import sys

import pytest

from palenka.util.paths import ROOT

SECONDS = {"torch", "transformers", "accelerate", "datasets", "scipy", "pandas"}
SOME = SECONDS | {"numpy", "matplotlib", "jinja2"}
PACKAGES = "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
HELP = "from palenka import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass"


def imported_by(code: str) -> set[str]:
    """Packages that a fresh process has loaded after it."""
    line = [sys.executable, "-c", code + PACKAGES]
    process = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(process.stdout.splitlines()[-1].split())


def command(name: str) -> str:
    """All that a command imports is imported with its module: no function of ours imports anything."""
    return f"from palenka import commands; commands.find({name!r})"


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import palenka", SOME | {"pydantic", "yaml", "rich"}),
        (HELP, SOME | {"pydantic", "yaml", "rich"}),
        (command("status"), SOME),
        (command("compare"), SECONDS | {"matplotlib", "jinja2"}),
        (command("report"), SECONDS),
    ],
    ids=["import", "help", "status", "compare", "report"],
)
def test_what_is_to_start_at_once_imports_nothing_slow(code: str, absent: set[str]) -> None:
    assert imported_by(code) & absent == set()
