"""Which tests are run, and in which order. What they share is in `shared_fixtures.py`.

A test that starts processes asks for the fixture `processes`, one that trains for `fresh_accelerator`. `--fast`, which
`make test-fast` gives, leaves both kinds out, and takes one case of each law.
"""

import gc
from itertools import groupby

import pytest

SLOW = {"processes", "fresh_accelerator", "slow"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="no processes, no trainings, one case of each law")


def pytest_configure(config: pytest.Config) -> None:
    """The process that only hands tests to others imports nothing of what they need, which takes ten seconds."""
    hands_out = config.getoption("numprocesses", None) and not config.option.collectonly
    if hasattr(config, "workerinput") or not hands_out:
        config.pluginmanager.import_plugin("shared_fixtures")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The file that takes longest comes first: workers get a file at a time, and are to end together."""
    items.sort(key=lambda item: item.path.name != "test_slurm.py")
    if config.option.fast:
        kept = [item for item in items if not SLOW & {*item.fixturenames, *item.keywords}]  # type: ignore[attr-defined]
        items[:] = [next(cases) for _, cases in groupby(kept, key=lambda item: item.nodeid.partition("[")[0])]


def pytest_collection_finish() -> None:
    """Trainings collect garbage. What is imported by now is none, and looking through it took most of their time."""
    gc.collect()
    gc.freeze()
    gc.enable()  # as a program does when all is imported
