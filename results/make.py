"""Makes every table and figure of the study from results/study/*.json: `make results`.

Tables go between `<!-- made: NAME -->` and `<!-- made -->` in results/STUDY.md and README.md, figures to
results/figures/. With `--check` nothing is written; the exit code is 1 where a file is not what its data make.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from arms import HERE, Records, read_records
from figures import DRAWINGS
from tables import TABLES

ROOT = HERE.parent
TEXTS = (HERE / "STUDY.md", ROOT / "README.md")
FIGURES = HERE / "figures"
WIDTH = 720  # CSS pixels


def main() -> int:
    contents = dict(made(read_records()))
    stale = [path for path, text in contents.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        name = path.relative_to(ROOT)
        if "--check" in sys.argv[1:]:
            print(f"{name}: not what its data make (make results)")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(contents[path], encoding="utf-8")
            print(name)
    return int("--check" in sys.argv[1:] and bool(stale))


def made(records: Records) -> Iterator[tuple[Path, str]]:
    """Every text with its tables, and every figure."""
    for path in TEXTS:
        yield path, filled(path.read_text(encoding="utf-8"), records)
    for name, draw in DRAWINGS.items():
        if found := draw(records):
            yield FIGURES / f"{name}.svg", found.svg(WIDTH) + "\n"


def filled(text: str, records: Records) -> str:
    """A text whose marked tables are those of the records."""

    def table(found: re.Match[str]) -> str:
        return f"<!-- made: {found[1]} -->\n\n{TABLES[found[1]](records)}\n\n<!-- made -->"

    return re.sub(r"<!-- made: (\S+) -->.*?<!-- made -->", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
