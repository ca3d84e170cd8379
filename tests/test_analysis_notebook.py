"""The notebook of results: it runs as it stands, and what it shows is what the run folders hold."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from made_runs import write_study
from notebooks import execute, outputs, printed

from palenka.util.paths import ROOT

NOTEBOOK = ROOT / "analyze_results.ipynb"
pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The notebook over a study of five runs, and where it ran."""
    folder = tmp_path_factory.mktemp("analysis")
    write_study(folder / "runs")
    return execute(NOTEBOOK, folder, PALENKA_RUNS=str(folder / "runs")), folder


def shown(notebook: Any, cell: str, kind: str) -> list[str]:
    return [output.data[kind] for output in outputs(notebook, cell) if kind in output.get("data", {})]


def test_it_shows_the_study(executed: tuple[Any, Path]) -> None:
    notebook, _ = executed
    names = printed(notebook, "settings").strip()
    assert names == "teacher-gpt2, teacher-llama, student-control, student-kd, student-dskd"
    assert "student-kd is 2.79 ± 0.52 points ahead" in printed(notebook, "findings")
    (table,) = shown(notebook, "study", "text/markdown")
    assert re.search(r"^\| student-kd \| 56\.26 ± 2\.36 ▽ \| 69\.53 ± 0\.67 \|", table, re.MULTILINE)
    assert len(shown(notebook, "pairs", "text/markdown")) == 3


def test_its_charts_are_drawn(executed: tuple[Any, Path]) -> None:
    notebook, _ = executed
    drawn = {cell: shown(notebook, cell, "image/svg+xml") for cell in ("curves", "phenomena", "own")}
    assert {cell: len(pictures) for cell, pictures in drawn.items()} == {"curves": 1, "phenomena": 3, "own": 1}
    assert "dev cross-entropy, nats/token" in drawn["own"][0] and "words seen" in drawn["curves"][0]


def test_it_writes_the_figures_of_a_paper(executed: tuple[Any, Path]) -> None:
    notebook, folder = executed
    number = int(printed(notebook, "paper").split()[0])
    assert number == len(list((folder / "figures").iterdir())) > 30


def test_it_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
