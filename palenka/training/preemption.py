"""Being told to stop: signals are noted, and training checks for them after each step.

SIGTERM is what `kill` sends, and SLURM to jobs that it preempts or cancels; SIGUSR1 what our jobs pass on before their
time limit.
"""

import signal
import threading
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

from palenka.util.errors import Stopped

EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL of sysexits.h: the same command resumes from the checkpoint that was left."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
STEPS_TO_AGREE = 10  # between checks: asking all processes makes each wait for its device


class Interrupted(Stopped):
    """Training was told to stop, and has left a checkpoint."""

    code = EXIT_INTERRUPTED


class Interruption:
    """A context that notes the signals that arrive within; outside it their handlers are as before."""

    def __init__(self) -> None:
        self.noted = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread handle signals
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted = True

    def is_agreed(self, step: int, accelerator: Accelerator) -> bool:
        """Whether any process was told to stop, asked after a step: all of them get the same answer."""
        if accelerator.num_processes == 1:
            return self.noted
        if step % STEPS_TO_AGREE:
            return False
        noted = torch.tensor([float(self.noted)], device=accelerator.device)
        return accelerator.reduce(noted, reduction="sum").item() > 0
