"""GlobalPIQA's tables as the challenge's pipeline of 2026 writes them: `eng_latn.jsonl`, an item a line."""

import csv
import json
from pathlib import Path

from palenka.util.errors import UserError

COLUMNS = ("prompt", "solution0", "solution1", "label", "example_id")


def write_items(table: Path, folder: Path) -> None:
    """Write `<language>.jsonl` into a folder, from a table of tab-separated values, `<kind>_<language>.tsv`.

    Raises:
        UserError: a table without what an item needs.
    """
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for number, row in enumerate(rows, 2):
        if missing := [name for name in COLUMNS if not row.get(name)]:
            raise UserError(f"{table}, row {number}: has no {', '.join(missing)}")
    items = [{name: value or None for name, value in row.items()} | {"label": int(row["label"])} for row in rows]
    lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in items]
    (folder / f"{table.stem.partition('_')[2]}.jsonl").write_text("".join(lines), encoding="utf-8")
