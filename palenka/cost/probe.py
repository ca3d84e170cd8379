"""A few training steps of a configuration, measured on this machine: speed, share of the matrix rate, memory.

Neither data nor trained teachers are needed: tokens are random and so are weights, which changes no step's cost. Where
steps take long, a step is measured on fewer sequences, and its part that grows with them is scaled.
"""

import math
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from palenka.cost.estimate import flops_per_token, lessons, step_seconds, this_machine
from palenka.cost.measurement import Measurement
from palenka.data.batch import Batch
from palenka.data.windows import IGNORED
from palenka.teachers.live import NOTHING, TeacherPass
from palenka.training.build import build_loss_module, build_optimizer, random_teachers
from palenka.training.loss_module import LossModule, StepSize
from palenka.training.plan import Workload
from palenka.util.errors import UserError
from palenka.util.hardware import DTYPES, local_device

STEPS = 5
SECONDS = 50  # that all steps together should take at most


def measure_apart(work: Workload) -> Measurement:
    """`measure` in a process of its own, whose memory is the run's alone.

    Raises:
        UserError: the student learns from cached logits, which a probe would have to read.
    """
    if work.config.recorded:
        raise UserError(f"{work.config.name}: --probe runs a student with its teachers; give it cached_logits=null")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, replace(work)).result()


def measure(work: Workload) -> Measurement:
    """Train for a few steps on random tokens."""
    device = local_device()
    here = this_machine()
    context = work.config.data.seq_length
    loss_module = build_loss_module(work, random_teachers(work, device), device)
    optimizer = build_optimizer(work, loss_module)
    sequences = affordable_sequences(work, step_seconds(work, here).of())
    tokens = torch.randint(0, work.model.vocab_size, (sequences, context), device=device)
    scale = work.config.training.mean_batch_size / work.processes / sequences
    seen, _ = lessons(work)
    seconds = [0.0] * STEPS
    for share, teachers in ((seen, None), (1 - seen, NOTHING)):
        taken = [_step(loss_module, optimizer, tokens, work, teachers) for _ in range(1 + STEPS)] if share else []
        for step, (of_batches, of_update) in enumerate(taken[1:]):
            seconds[step] += share * (of_batches * scale + of_update)
    median, trained = statistics.median(seconds), work.tokens_per_step / work.processes
    flops = flops_per_token(work).of() * trained
    return Measurement(
        median, min(seconds), max(seconds), trained / median, here,
        flops / (median * here.matrix_rate(work.precision)), _peak(device), sequences,
    )  # fmt: skip


def affordable_sequences(work: Workload, seconds: float) -> int:
    """As many sequences of a step, predicted to take `seconds`, as all steps have time for, in whole micro-batches."""
    batch = work.config.training.mean_batch_size // work.processes
    affordable = min(batch, max(1, int(batch * SECONDS / (seconds * (1 + STEPS)))))
    return max(affordable // work.micro_batch_size * work.micro_batch_size, min(affordable, work.micro_batch_size))


def _step(
    loss_module: LossModule, optimizer: torch.optim.Optimizer, tokens: Tensor, work: Workload,
    teachers: TeacherPass | None,
) -> tuple[float, float]:  # fmt: skip
    """One optimizer step; seconds of its micro-batches together, and of clipping and the update.

    Teachers are run unless what they say is given.
    """
    started = time.perf_counter()
    size = StepSize(tokens.numel(), len(tokens))
    for micro_batch in tokens.split(work.micro_batch_size):
        with _precision(work, tokens.device):
            loss, _ = loss_module(_batch(micro_batch, work), size, teachers)
        loss.backward()
    _wait(tokens.device)
    between = time.perf_counter()
    nn.utils.clip_grad_norm_(loss_module.parameters(), work.config.training.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    _wait(tokens.device)
    return between - started, time.perf_counter() - between


def _batch(tokens: Tensor, work: Workload) -> Batch:
    """As much as the paradigm predicts, with the attention that it needs."""
    labels, paradigm = tokens.clone(), work.config.paradigm_config
    labels[:, math.ceil(paradigm.logit_share * tokens.shape[1]) :] = IGNORED
    return Batch(tokens, labels, "full" if work.config.sets_attention else "causal").with_places()


def _precision(work: Workload, device: torch.device) -> AbstractContextManager[None]:
    if work.precision == "fp32":
        return nullcontext()
    context: AbstractContextManager[None] = torch.autocast(device.type, DTYPES[work.precision])
    return context


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return (1 if sys.platform == "darwin" else 1024) * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
