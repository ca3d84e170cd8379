"""Blocks of lines cleaned here or in processes of their own: the same text, the same effects, no process left."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from palenka.data import clean_blocks, clean_processes
from palenka.data.clean import DOMAINS, Effects, clean_text
from palenka.data.clean_blocks import CleanBlocks, clean_here
from palenka.data.clean_processes import cleaning_processes
from palenka.data.documents import ROW_END
from palenka.data.prepare import prepare
from palenka.util.system_errors import refusal

RAW = [
    "= = = a/b.cha = = =\n", "*MOT:\twhere [points] is it? *CHI: there.\r\n", "\n", "A:\tUh, I,\n", "A:\tmean it.\n",
    "B:\tBye.\n", "A:\tBye-bye.\n", "x\n", "y\n", "z\n", "w\n", "- Who's there? - Me, l think.\n", "[laughs] .\n",
    "a\u2028b ´ ¨ &amp;lt;s&gt; <s> \ufffd ﷺ\n", "\t \n", ROW_END, "[[File:x]] <ref>r</ref> A (; ) [1] ball , .\n",
    "no end" * 100,
]  # fmt: skip


def outcome(domain: str, clean_blocks: CleanBlocks = clean_here, boundaries: tuple[str, ...] = ()) -> Any:
    effects = Effects()
    lines = list(clean_text(domain, RAW * 5, effects, boundaries, clean_blocks))
    return lines, effects, effects.record(), effects.examples, effects.told()


def helpers() -> list[int]:
    """The processes that this one has started, by number."""
    numbers = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(number) for number in numbers if b"help_cleaning" in Path(f"/proc/{number}/cmdline").read_bytes()]


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes for any text, and blocks of a few lines."""
    monkeypatch.setattr(clean_processes, "_cores", lambda: 2)
    monkeypatch.setattr(clean_processes, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(clean_blocks, "BLOCK_CHARACTERS", 50)


@pytest.mark.parametrize("size", [1, 50, 700])
@pytest.mark.parametrize("domain", [*DOMAINS, "mine"])
def test_blocks_of_any_size_give_the_same(domain: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outcome(domain)
    monkeypatch.setattr(clean_blocks, "BLOCK_CHARACTERS", size)
    assert outcome(domain) == whole


@pytest.mark.usefixtures("several")
def test_processes_give_what_one_gives() -> None:
    with cleaning_processes(1) as clean:
        assert clean is not clean_here
        for domain in (*DOMAINS, "mine"):
            assert outcome(domain, clean) == outcome(domain)
            assert outcome(domain, clean, ("<s>",)) == outcome(domain, boundaries=("<s>",))
    assert not helpers()


@pytest.mark.parametrize(("size", "cores"), [(clean_processes.WORTH_PROCESSES - 1, 8), (1 << 40, 1)])
def test_a_small_text_or_one_core_needs_no_process(size: int, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_processes, "_cores", lambda: cores)
    with cleaning_processes(size) as clean:
        assert clean is clean_here


@pytest.mark.usefixtures("several")
def test_a_process_that_is_killed_is_an_error() -> None:
    with cleaning_processes(1) as clean, pytest.raises(BrokenProcessPool) as died:
        outcome("childes", clean)
        os.kill(helpers()[0], signal.SIGKILL)
        outcome("childes", clean)
    found = refusal(died.value)
    assert found and found.code == 69 and "a process that shared the work was killed" in found.message
    assert not helpers()


@pytest.mark.usefixtures("several")
def test_an_interruption_leaves_no_process() -> None:
    with suppress(KeyboardInterrupt), cleaning_processes(1) as clean:
        next(clean("childes", [RAW] * 50))
        raise KeyboardInterrupt
    assert not helpers()


@pytest.mark.usefixtures("several")
def test_prepared_data_has_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = "".join(line for line in RAW if line != ROW_END)
    for domain in DOMAINS:
        for split in ("train", "dev"):
            (tmp_path / f"{domain}.{split}").write_text(raw * 3 + split * (split == "dev"), encoding="utf-8")
    folders = []
    for place, cores in (("one", 1), ("two", 2)):
        monkeypatch.setenv("PALENKA_DATA", str(tmp_path / place))
        monkeypatch.setattr(clean_processes, "_cores", lambda cores=cores: cores)
        folders.append(prepare(tmp_path, tmp_path, None, "small", 300))
    one, two = ({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")} for folder in folders)
    assert len(one) > 30 and one == two


@pytest.mark.usefixtures("several")
def test_an_error_in_a_process_is_that_of_the_rule() -> None:
    with cleaning_processes(1) as clean, pytest.raises(AttributeError, match="rstrip"):
        list(clean("mine", [[1]]))  # type: ignore[list-item]


PROGRAM = """
import os, time
from pathlib import Path
from palenka.data import clean_processes

clean_processes._cores = lambda: 2
with clean_processes.cleaning_processes(1 << 40) as clean:
    next(clean("mine", [["a line\\n"]] * 8))
    print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
    time.sleep(60)
"""


def test_processes_end_with_the_one_that_started_them_however_it_ends(tmp_path: Path) -> None:
    """And a program without a guard may start them."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout
        left = [Path("/proc", number) for number in started.stdout.readline().split()]
        started.kill()
    assert len(left) == 2
    end = time.monotonic() + 30
    while any(map(Path.exists, left)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(Path.exists, left))
