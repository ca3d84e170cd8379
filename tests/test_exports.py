"""A report's charts and tables as files for a paper."""

import csv
import io
import re
from pathlib import Path

import pytest
from made_runs import write_study
from shared_fixtures import Call

from palenka.cli import main
from palenka.report.cells import Cell, Column, Row, Table
from palenka.report.exports import comma_separated, latex, markdown

TABLE = Table(
    [Column("pairs", "demo_pairs", "%"), Column("loss", "dev", "nats")],
    [
        Row("a|b", {"pairs": Cell("92.00", spread="0.38", best=True), "loss": Cell("1.453", second="0.508")}),
        Row("50 % & c", {"pairs": Cell("−8.50", below=("5-gram",))}),
    ],
)


def test_markdown_by_hand() -> None:
    assert markdown(TABLE) == (
        "|  | demo_pairs (%) | dev (nats) |\n"
        "| --- | ---: | ---: |\n"
        "| a\\|b | **92.00** ± 0.38 | 1.453 / 0.508 |\n"
        "| 50 % & c | −8.50 ▽ | – |\n"
    )


def test_latex_by_hand() -> None:
    assert latex(TABLE) == "\n".join(
        [
            r"\begin{tabular}{lrr}", r"\toprule", r" & demo\_pairs (\%) & dev (nats) \\", r"\midrule",
            r"a|b & \textbf{92.00} $\pm$ 0.38 & 1.453 / 0.508 \\", r"50 \% \& c & $-$8.50 $\triangledown$ & – \\",
            r"\bottomrule", r"\end{tabular}", "",
        ]
    )  # fmt: skip


def test_comma_separated_by_hand() -> None:
    rows = list(csv.reader(io.StringIO(comma_separated(TABLE))))
    assert rows == [
        ["", "demo_pairs (%)", "demo_pairs (%) ±", "dev (nats)", "dev (nats) (below)"],
        ["a|b", "92.00", "0.38", "1.453", "0.508"],
        ["50 % & c", "-8.50", "", "–", ""],
    ]


@pytest.mark.slow
def test_all_that_the_page_shows_is_written(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALENKA_RUNS", str(tmp_path / "runs"))
    write_study(tmp_path / "runs")
    folder = tmp_path / "paper"
    code, output, _ = call(main, ["report", "demo", "--out", str(tmp_path / "r.html"), "--export", str(folder)])
    files = sorted(folder.iterdir())
    assert code == 0 and f"{len(files)} files of charts and tables: {folder}" in output
    beginnings = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    for kind, beginning in beginnings.items():
        contents = [path.read_bytes() for path in files if path.suffix == f".{kind}"]
        assert len(contents) == 17 and all(content.startswith(beginning) for content in contents)
    drawn = (folder / "dev-cross-entropy-of-all-runs-during-training.svg").read_text(encoding="utf-8")
    assert "#0067a5" in drawn and "var(" not in drawn
    study = (folder / "study.csv").read_text(encoding="utf-8")
    assert re.search(r"^student-kd,56\.26,2\.36,69\.53,0\.67,", study, re.MULTILINE)
    assert (folder / "study.tex").exists() and (folder / "phenomena-blimp_filtered.md").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALENKA_RUNS", str(tmp_path / "runs"))
    write_study(tmp_path / "runs")
    (tmp_path / "taken").write_text("")
    page = tmp_path / "r.html"
    code, _, errors = call(main, ["report", "demo", "--out", str(page), "--export", str(tmp_path / "taken")])
    assert code == 2 and "is a file; expected a folder" in errors and not page.exists()
