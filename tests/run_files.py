"""What a run left on the disk, in a form that tests compare."""

import json
from pathlib import Path
from typing import Any

from palenka.util.files import read_json

TIMINGS = ("seconds", "tokens_per_second")


def records(run: Path, split: str | None = None) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if split in (None, record["split"])]


def outcome(run: Path) -> dict[str, Any]:
    """All that a finished run is, but for its name and its timings."""
    result = {key: value for key, value in read_json(run / "result.json").items() if key not in ("name", *TIMINGS)}
    metrics = [{key: value for key, value in record.items() if key not in TIMINGS} for record in records(run)]
    files = sorted(path.name for path in run.iterdir())
    return {"weights": (run / "model.safetensors").read_bytes(), "metrics": metrics, "result": result, "files": files}


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of each file in a folder, but for locks: to take one is no change."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
