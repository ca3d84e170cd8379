"""Cleaning in several processes, where that pays: blocks of lines go to them, and come back in their order.

They are plain programs that read blocks from a pipe until it is closed, which it is, too, when whoever started them is
killed. Those of `multiprocessing` would import the program that prepares once more: a script without a guard would
prepare within itself, and wait for itself.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from types import TracebackType

from palenka.data.clean_blocks import Block, CleanBlocks, clean_block, clean_here

WORTH_PROCESSES = 1 << 22
"""Bytes of text, two seconds' work, from which on it is worth starting processes."""
MOST_PROCESSES = 8
"""Reading, parting and writing text take one process an eighth of the time that cleaning takes."""


@contextmanager
def cleaning_processes(size: int) -> Iterator[CleanBlocks]:
    """As many processes as there are cores for a text of so many bytes; none but this one for a small text.

    If one of them dies, a block that it should clean raises BrokenProcessPool.
    """
    count = min(_cores(), MOST_PROCESSES)
    if size < WORTH_PROCESSES or count < 2:
        yield clean_here
        return
    with ExitStack() as stack:
        idle: SimpleQueue[_Helper] = SimpleQueue()
        for _ in range(count):
            idle.put(stack.enter_context(_Helper()))
        threads = ThreadPoolExecutor(count)
        stack.callback(threads.shutdown, cancel_futures=True)  # before the helpers are told to end
        yield partial(_clean_in, threads, idle, 2 * count)


class _Helper:
    """A process that cleans."""

    def __enter__(self) -> "_Helper":
        program = f"import sys; sys.path[:] = {sys.path!r}; from {__spec__.name} import help_cleaning; help_cleaning()"
        self.process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(BrokenPipeError):
            self.process.communicate()

    def clean(self, domain: str, raw: list[str]) -> Block:
        assert self.process.stdin and self.process.stdout
        try:
            pickle.dump((domain, raw), self.process.stdin)
            self.process.stdin.flush()
            found = pickle.load(self.process.stdout)
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            raise BrokenProcessPool(f"a process that cleans text has ended ({self.process.wait()})") from None
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Block)
        return found


def _clean_in(
    threads: ThreadPoolExecutor, idle: "SimpleQueue[_Helper]", most: int, domain: str, blocks: Iterable[list[str]]
) -> Iterator[Block]:
    """Keep `most` blocks on their way at most: all that is held of a text."""
    waiting: deque[Future[Block]] = deque()
    for block in blocks:
        waiting.append(threads.submit(_clean_with, idle, domain, block))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _clean_with(idle: "SimpleQueue[_Helper]", domain: str, block: list[str]) -> Block:
    helper = idle.get()
    try:
        return helper.clean(domain, block)
    finally:
        idle.put(helper)


def help_cleaning() -> None:
    """Clean the blocks that come in, until there are no more. Interruption is for the process that sends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, BrokenPipeError):
        while True:
            domain, raw = pickle.load(sys.stdin.buffer)
            found: Block | Exception
            try:
                found = clean_block(domain, raw)
            except Exception as error:
                found = error
            pickle.dump(found, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
