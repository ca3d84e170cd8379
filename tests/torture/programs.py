"""The real commands as real processes, started in milliseconds.

To import PyTorch and transformers takes seconds, and a fault costs two or three starts. So this process imports all of
Palenka once, computes nothing (no thread may be there when it forks), and forks for each start a child that becomes
the command: its own process group, arguments, environment, folder and output, its main(), its exit code. What kills it
is a real signal, from outside or from itself at a chosen moment.
"""

import atexit
import gc
import importlib
import os
import pkgutil
import resource
import runpy
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

SECONDS = 300  # of patience with a busy machine
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink")
LIBRARIES = (
    "torch._dynamo", "transformers.models.gpt2.modeling_gpt2", "transformers.models.llama.modeling_llama",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto", "matplotlib.pyplot",
    "torch.distributed.run",
)  # fmt: skip
Fault = Callable[[], None]
"""What is done in the child before its command begins."""


def preload() -> None:
    """Import what the commands import, once."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    import palenka

    own = (found.name for found in pkgutil.walk_packages(palenka.__path__, "palenka."))
    for name in (*LIBRARIES, *own):
        if not name.endswith("__main__"):
            with suppress(ImportError):  # what is optional
                importlib.import_module(name)
    with suppress(ImportError, AttributeError):  # a second of regular expressions, compiled at the first save
        importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")
    gc.collect()
    gc.freeze()  # a training collects garbage, and what is imported is none
    assert threading.active_count() == 1, "a thread would be missing in every child"


@dataclass
class Ended:
    """How a command ended: exit code as the shell gives it to Python (negative: a signal), and all it printed."""

    code: int
    output: str
    seconds: float

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.output

    def brief(self) -> str:
        """The last lines, for people."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return f"exit {self.code}: " + " / ".join(lines[-3:])[-600:]


@dataclass
class Program:
    """A command in its own process group."""

    pid: int
    log: Path
    started: float = field(default_factory=time.monotonic)
    code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = SECONDS) -> Ended:
        """Wait for its end; one that does not end in time is killed, and its code is that of a timeout, 124."""
        if self.poll() is None:
            handle = os.pidfd_open(self.pid)
            ready, _, _ = select.select([handle], [], [], seconds)
            os.close(handle)
            if not ready:
                self.kill()
                os.waitpid(self.pid, 0)
                self.code = 124
        code = self.poll()
        assert code is not None
        self.kill()
        return Ended(code, self.output(), time.monotonic() - self.started)


def start(arguments: Sequence[str | Path], environment: Mapping[str, str], folder: Path, log: Path,
          faults: Sequence[Fault] = ()) -> Program:  # fmt: skip
    """Fork a child that is `python ARGUMENTS`: `[FILE.py, …]` or `["-m", MODULE, …]`."""
    command = list(map(str, arguments))
    return fork(lambda: _become(command), environment, folder, log, faults)


def fork(work: Callable[[], None], environment: Mapping[str, str], folder: Path, log: Path,
         faults: Sequence[Fault] = ()) -> Program:  # fmt: skip
    """Fork a child that does this work with another environment, and exits as Python does."""
    sys.stdout.flush()
    sys.stderr.flush()
    log.touch()  # a child that is killed at once has said nothing
    pid = os.fork()
    if not pid:
        _be_child(work, environment, folder, log, faults)
    return Program(pid, log)


def _be_child(work: Callable[[], None], environment: Mapping[str, str], folder: Path, log: Path,
              faults: Sequence[Fault]) -> NoReturn:  # fmt: skip
    code = 1
    try:
        os.setsid()
        atexit._clear()  # what the parent does at its end, to its temporary folders for example, is not the child's
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
        for fault in faults:
            fault()
        code = _exit_code(work)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _exit_code(work: Callable[[], None]) -> int:
    """Run as the interpreter does, down to the threads it waits for."""
    try:
        work()
        code: Any = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    return int(code or 0)


def _become(command: list[str]) -> None:
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        sys.path.insert(0, str(Path(command[0]).parent))
        runpy.run_path(command[0], run_name="__main__")


# Faults


def at_change(number: int, below: Path, do: Callable[[], None]) -> Fault:
    """Before the `number`-th change (from 1) of the disk below a folder, do this."""
    seen = 0

    def count(label: str) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            do()

    return lambda: watch(below, count)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def noted(below: Path, file: Path) -> Fault:
    """Write down each change of the disk, a line each."""

    def install() -> None:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        watch(below, lambda label: os.write(handle, f"{label}\n".encode()))

    return install


def watch(below: Path, tell: Callable[[str], Any]) -> None:
    """Tell of each change of the disk below a folder, before it happens, as Python's audit events know it."""
    root = f"{below}/"
    is_busy = threading.local()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & WRITING:
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if getattr(is_busy, "now", False) or isinstance(path, int):
            return
        is_busy.now = True
        try:
            folder = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
            full = _full_path(path, folder)
            if full.startswith(root):
                tell(f"{event.removeprefix('os.')} {full.removeprefix(root)}")
        finally:
            is_busy.now = False

    flush = os.fsync

    def flushed(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        full = str(Path(f"/proc/self/fd/{number}").readlink())
        if full.startswith(root):
            tell(f"fsync {full.removeprefix(root)}")
        flush(number)

    os.fsync = flushed
    sys.addaudithook(hook)


def _full_path(path: Any, folder: Any) -> str:
    has_folder = isinstance(folder, int) and folder >= 0
    base = Path(f"/proc/self/fd/{folder}").readlink() if has_folder else Path.cwd()
    return os.path.normpath(base / os.fsdecode(path))


def in_the_middle_of_a_write(size: int) -> Fault:
    """Be killed by the kernel when a file would grow beyond `size` bytes: what came before is on the disk."""

    def install() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return install


def no_larger_files(size: int) -> Fault:
    """Every write beyond `size` bytes of a file fails with EFBIG, as a quota's fails with EDQUOT."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
