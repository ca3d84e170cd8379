"""One pass of the teachers over a run's windows, kept for the students to come: `palenka cache-logits`."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palenka.data.integrity import verify
from palenka.models.chunked_loss import CHUNK_TOKENS, Logits
from palenka.objectives._teachers import combined_log_probs, divergence
from palenka.objectives.logit import Logit
from palenka.teachers.cached import CachedLogits, Records, compress
from palenka.teachers.live import Teachers
from palenka.teachers.replay import CachedTeachers
from palenka.training.build import load_teachers
from palenka.training.plan import Plan
from palenka.util.errors import UserError
from palenka.util.hardware import DTYPES, local_device
from palenka.util.seeds import named_seed

BATCH = 32
MEASURED_WINDOWS = 32  # the last ones
TIMINGS = 3

Predictions = Iterator[tuple[Tensor, Tensor]]
"""Log-probabilities (tokens, vocabulary) and whether each position counts (tokens,), chunk by chunk."""


def cache_logits(plan: Plan) -> None:
    """Record what is missing of the teacher logits that the plan's run will read, and say how good and fast they are.

    Raises:
        UserError: the plan asks for no cached logits, its data is damaged, or the disk is too full for it.
    """
    cached = plan.cached_logits
    if cached is None:
        raise UserError("the config has no cached_logits, so that its students run the teachers; add, for example, "
                        "cached_logits: {top_k: 128}")  # fmt: skip
    verify(plan.data_folder)
    recorder = Recorder(plan, cached)
    with cached.writing(lambda: _say("waiting for another process that caches these logits")):
        recorder.write_missing()
    _say(f"{cached.folder}: {recorder.measure().describe(plan)}")


class Recorder:
    """The teachers of a plan, and the cache that is made of them."""

    def __init__(self, plan: Plan, cache: CachedLogits) -> None:
        self.plan, self.cache, self.device = plan, cache, local_device()
        self.config = cast(Logit.Config, plan.config.terms["logit"])
        self.shares = [teacher.shape.share for teacher in plan.teachers]
        self.windows = plan.windows()
        self.teachers = load_teachers(plan, self.device)
        self.teachers.require(False, [()] * len(self.shares))

    def write_missing(self) -> None:
        """Write the shards that are missing or damaged; a killed recording resumes where it stopped."""
        self._remove_damaged()
        cache, missing = self.cache, self.cache.missing(self.plan.total_windows)
        self._check_space(len(missing))
        for done, shard in enumerate(missing, start=1):
            started = time.perf_counter()
            windows = cache.shard_windows(shard)
            cache.write_shard(shard, self._records(windows))
            rate = len(windows) * cache.seq_length / (time.perf_counter() - started)
            _say(f"shard {done} of {len(missing)}: {rate:,.0f} tokens/s")

    def _records(self, windows: range) -> Iterator[Records]:
        """Of consecutive windows, chunk by chunk."""
        done = 0
        starts = torch.from_numpy(np.concatenate([self._starts(window) for window in windows]))
        for log_probs, _ in self.predictions(self.teachers, self.shares, windows):
            of_chunk = starts[done : (done := done + len(log_probs))]
            yield compress(log_probs, self.cache.record, of_chunk if self.cache.samples else None)

    def _starts(self, window: int) -> NDArray[np.float64]:
        """Where drawing begins at each of a window's positions: the same however often its recording was killed."""
        seed = named_seed(self.plan.config.data_seed, "cached logits", window)
        return np.random.default_rng(seed).random(self.cache.seq_length)

    def _remove_damaged(self) -> None:
        for path in self.cache.damaged(self.plan.total_windows):
            _say(f"{path}: damaged: other content than was recorded (sha256); recording it again")
            path.unlink()

    def _check_space(self, shards: int) -> None:
        """Say what is to come, and refuse it where the disk has no room."""
        needed, free = shards * self.cache.shard_bytes, shutil.disk_usage(self.cache.folder).free
        _say(
            f"{self.cache.folder}: {self.plan.total_windows:,} windows at {self.cache.record.itemsize:,} bytes a "
            f"token; {shards} shards to record, {needed / 1e9:.2f} GB ({free / 1e9:.0f} GB are free)"
        )
        if needed > free:
            raise UserError(
                f"{self.cache.folder}: {needed:,} bytes are to come, but only {free:,} are free on that disk; a "
                "smaller cached_logits.top_k needs less, and paths.signals or PALENKA_SIGNALS is another disk"
            )

    @torch.no_grad()
    def predictions(self, teachers: Teachers, shares: Sequence[float], windows: range) -> Predictions:
        """What teachers predict together at the temperature of `logit`; a recorded tail is flat here."""
        for first in range(windows.start, windows.stop, BATCH):
            batch = range(first, min(first + BATCH, windows.stop))
            shown = self.plan.paradigm.window_batch(self.windows, batch).to(self.device)
            sources = teachers.run(shown, batch).each_logits
            counts = shown.counts.flatten()
            for start in range(0, len(counts), CHUNK_TOKENS[self.device.type]):
                rows = slice(start, min(start + CHUNK_TOKENS[self.device.type], len(counts)))
                yield self._combined(sources, shares, rows), counts[rows]

    def _combined(self, sources: Sequence[Logits], shares: Sequence[float], rows: slice) -> Tensor:
        flat = torch.zeros(rows.stop - rows.start, self.plan.model.vocab_size, device=self.device)
        logits = [source.logits(rows, DTYPES[self.plan.precision], flat).float() for source in sources]
        return combined_log_probs(logits, shares, self.config.temperature, self.config.combine)

    def measure(self) -> "Measured":
        """Compare what is read with what the teachers say; of a tail, nothing but its mass."""
        windows = self.cache.shard_windows(self.cache.shards(self.plan.total_windows)[-1])[-MEASURED_WINDOWS:]
        live = partial(self.predictions, self.teachers, self.shares, windows)
        read = partial(self.predictions, CachedTeachers(self.cache, self.device), [1.0], windows)
        flat = partial(self.predictions, CachedTeachers(self.cache, self.device, as_drawn=False), [1.0], windows)
        sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        for (true, counts), (stored, _) in zip(live(), flat(), strict=True):
            true, stored = true[counts], stored[counts]
            tail = 1 - true.topk(self.cache.top_k, dim=-1).values.exp().sum(dim=-1)
            agree = true.argmax(dim=-1) == stored.argmax(dim=-1)
            sums += torch.stack([counts.sum(), divergence(true, stored).sum(), tail.sum(), agree.sum()])
        tokens, *means = sums.tolist()
        positions = len(windows) * self.cache.seq_length
        seconds = [_best_seconds(predictions) / positions for predictions in (live, read)]
        return Measured(*(value / tokens for value in means), *seconds)


@dataclass(frozen=True)
class Measured:
    """Cached logits beside their teachers: means per token, and seconds per position."""

    divergence: float
    tail: float
    agreement: float
    live_seconds: float
    read_seconds: float

    def describe(self, plan: Plan) -> str:
        positions = plan.total_windows * plan.config.data.seq_length
        saved = (self.live_seconds - self.read_seconds) * positions
        verdict = f"saves {saved:,.0f} s" if saved > 0 else f"costs {-saved:,.0f} s: run the teachers instead"
        recorded = plan.config.recorded
        drawn = f"; {recorded.samples} tokens are drawn of each tail" if recorded and recorded.samples else ""
        return (
            f"mean tail mass {self.tail:.4f}, same likeliest token {self.agreement:.2%}, "
            f"KL(teachers || cached logits with a flat tail) {self.divergence:.4f} nats a token{drawn}\n"
            f"a prediction takes the teachers {1e6 * self.live_seconds:.1f} µs, and reading "
            f"{1e6 * self.read_seconds:.1f} µs: over a student's {positions:,} positions it {verdict}, on this machine"
        )


def _best_seconds(predictions: Callable[[], Predictions]) -> float:
    """The shortest of a few passes."""
    taken = []
    for _ in range(TIMINGS):
        started = time.perf_counter()
        for log_probs, _ in predictions():
            log_probs[0, 0].item()  # waits for the device
        taken.append(time.perf_counter() - started)
    return min(taken)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
