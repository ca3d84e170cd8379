"""Do every fault to the real program, judge what comes of it, and write the table of docs/reliability.md.

    python tests/torture/run.py                            all of it; `make torture` calls this
    python tests/torture/run.py --only kills files         some families
    python tests/torture/run.py --only kills --like grid   cases with this in their name
    python tests/torture/run.py --list                     what there is

Every result is a line in torture.jsonl at once, so that a run that is broken off goes on where it was; what was tried
on another state of the code is tried again.
"""

import argparse
import datetime
import hashlib
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FAMILIES = ("slurm", "processes", "kills", "files", "disks", "power", "hostile", "together")
"""What takes longest comes first: the processes that try are to end together."""


@dataclass(frozen=True)
class Result:
    """One try, as it is kept in a file."""

    family: str
    fault: str
    case: str
    command: str
    verdict: str
    detail: str
    seconds: float
    code: str

    @property
    def key(self) -> str:
        return f"{self.family}: {self.case}"


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    checkout = arguments.checkout.resolve()
    sys.path[:0] = [str(checkout), str(HERE.parent)]
    os.environ["PYTHONPATH"] = str(checkout)
    started = time.monotonic()
    _say("importing what the commands import, once")
    from torture import fast, programs, table
    from torture.world import World

    programs.preload()
    folder = Path(tempfile.mkdtemp(prefix="palenka-torture-"))
    try:
        _say(f"{time.monotonic() - started:.0f} s; telling each story once without a fault, in {folder}")
        world = World.build(folder, fast.STORIES) if arguments.fast else World.build(folder)
        if arguments.fast:
            fast.check_judges(world)
        else:
            world.tell_all()
        wanted = [
            (family, case.name, number)
            for family in (fast.CHOSEN if arguments.fast else arguments.only)
            for number, case in enumerate(cases_of(family, world))
            if arguments.like in case.name and (not arguments.fast or fast.is_chosen(family, case.name))
        ][:: arguments.every]
        if arguments.list:
            print("\n".join(f"{family}: {name}" for family, name, _ in wanted))
            return
        results = _try_all(world, wanted, arguments.json, arguments.processes, code_state(checkout))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows = table.rows(results)
    print(table.text(rows))
    _say(f"{len(results)} tries in {time.monotonic() - started:.0f} s")
    if arguments.write:
        table.write(rows, header(len(results)))
    sys.exit(any(result.verdict not in ("right", "untried") for result in results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--like", default="", metavar="TEXT", help="only cases with this in their name")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th case")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--json", type=Path, default=HERE.parents[1] / "torture.jsonl", metavar="FILE")
    parser.add_argument("--checkout", type=Path, default=HERE.parents[1], metavar="DIR", help="another state of it")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--fast", action="store_true", help="a few cases, and whether the judges can say no")
    parser.add_argument("--list", action="store_true", help="name the cases, try nothing")
    return parser.parse_args()


def cases_of(family: str, world: Any) -> list[Any]:
    """The cases of a family, always in the same order."""
    return list(importlib.import_module(f"torture.{family}").cases(world))


def _try_all(
    world: Any, wanted: Sequence[tuple[str, str, int]], file: Path, processes: int, code: str
) -> list[Result]:
    """Results of all that is wanted, from the file where they are known."""
    known = {result.key: result for result in _known(file, code)}
    results = [known[f"{family}: {name}"] for family, name, _ in wanted if f"{family}: {name}" in known]
    waiting = [one for one in wanted if f"{one[0]}: {one[1]}" not in known]
    if results:
        _say(f"{len(results)} of {len(wanted)} tries are known from {file}")
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool, file.open("a") as kept:
        tries = [pool.submit(_try, world, family, number, code) for family, _, number in waiting]
        try:
            for done, future in enumerate(as_completed(tries), start=1):
                result = future.result()
                kept.write(json.dumps(asdict(result)) + "\n")
                kept.flush()
                results.append(result)
                detail = f": {result.detail}" if result.verdict != "right" else ""
                _say(f"{done}/{len(waiting)} {result.seconds:5.1f} s {result.verdict:12} {result.key}{detail}")
        except BaseException:
            pool.shutdown(cancel_futures=True)  # those that are being tried come to their end and clean up
            raise
    return results


def _known(file: Path, code: str) -> Iterator[Result]:
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            result = Result(**json.loads(line))
            if result.code == code:
                yield result


_cases: dict[str, list[Any]] = {}


def _try(world: Any, family: str, number: int, code: str) -> Result:
    """One case, in a folder that is gone afterwards; what goes wrong in the judge itself is no verdict."""
    if family not in _cases:
        _cases[family] = cases_of(family, world)
    case = _cases[family][number]
    folder = Path(tempfile.mkdtemp(prefix="case-", dir=world.folder))
    started = time.monotonic()
    try:
        verdict = case.judge(world, folder)
        name, detail = verdict.name, verdict.detail
    except Exception:
        name, detail = "unclear", "the judge: " + " / ".join(traceback.format_exc().splitlines()[-4:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    detail = detail.replace(str(folder), "…")
    return Result(family, case.fault, case.name, case.command, name, detail, time.monotonic() - started, code)


def code_state(checkout: Path) -> str:
    """The commit, and what stands otherwise in the working tree."""
    git = ["git", "-C", str(checkout)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changes = subprocess.run([*git, "diff", "HEAD", "--", "*.py"], capture_output=True, check=True).stdout
    return commit[:12] + (f"+{hashlib.sha256(changes).hexdigest()[:6]}" if changes else "")


def header(tries: int) -> str:
    """When and where the table was made."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    today = datetime.date.today().isoformat()
    commit = code_state(HERE.parents[1]).partition("+")[0]
    cores = len(os.sched_getaffinity(0))
    return f"{tries:,} tries, {today}, on {cores} cores of {processor or platform.machine()}, at commit {commit}."


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
