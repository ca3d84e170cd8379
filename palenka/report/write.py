"""The report of a study: one page and one table, from result files alone."""

from pathlib import Path

from palenka.report.exports import export
from palenka.report.page import page_content, render
from palenka.report.results import Run, read_runs
from palenka.report.searches import without_trials
from palenka.report.tables import terminal_text
from palenka.util.errors import UserError
from palenka.util.files import make_folder, require_writable, write_text
from palenka.util.text import count


def report(runs: list[str], out: Path, protocol: str = "2024", exports: Path | None = None) -> None:
    """Prints the table of the study and writes its page to `out`, and, if a folder is given, charts and tables there.

    Args:
        runs: names or paths of runs; a folder stands for all runs below it.
        out: the HTML file; its folder is made if need be.
        protocol: of the evaluations to show.

    Raises:
        UserError: a name is no run, or none of the runs can be read. Those that cannot are named.
    """
    if exports is not None and exports.exists() and not exports.is_dir():
        raise UserError(f"--export {exports}: is a file; expected a folder for charts and tables")
    found, damages = _read(runs, out, protocol)
    print(terminal_text(without_trials(found)))
    print("".join(f"\n{damage}" for damage in damages))
    content = page_content(found)
    _write(out, render(content, damages))
    print(f"\nReport: {out}")
    if exports is not None:
        written = export(content, exports)
        print(f"{count(len(written), 'file')} of charts and tables: {exports}")


def write_page(runs: list[str], out: Path, protocol: str, reload_seconds: int | None) -> None:
    """Writes the page alone; one that a browser loads again after so many seconds, unless that is None.

    Raises:
        UserError: as `report`.
    """
    found, damages = _read(runs, out, protocol)
    _write(out, render(page_content(found), damages, reload_seconds))


def _read(runs: list[str], out: Path, protocol: str) -> tuple[list[Run], list[str]]:
    """Runs, and what cannot be read of these and others; the place of the page is checked before."""
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; expected a file to write")
    require_writable(out.parent)
    damages: list[str] = []
    found = read_runs(runs, protocol, damages.append)
    return found, damages + [damage for run in found for damage in (*run.damages, *run.broken)]


def _write(out: Path, page: str) -> None:
    make_folder(out.parent)
    write_text(out, page)
