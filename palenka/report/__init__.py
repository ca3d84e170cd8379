"""The report of a study: one page and one table, from result files alone."""

from pathlib import Path


def report(runs: list[str], out: Path, convention: str = "2024") -> None:
    """Prints the table of the study and writes its page to `out`.

    Args:
        runs: names or paths of runs; a folder stands for all runs below it.
        out: the HTML file; its folder is made if need be.
        convention: of the evaluations to show.

    Raises:
        UserError: a name is no run, or a result file cannot be read.
    """
    from palenka.files import make_folder, write_text
    from palenka.report.page import render
    from palenka.report.results import read_runs
    from palenka.report.tables import terminal_text

    found = read_runs(runs, convention)
    print(terminal_text(found))
    page = render(found)
    make_folder(out.parent)
    write_text(out, page)
    print(f"\nReport: {out}")
