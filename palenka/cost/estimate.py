"""What a run will cost, estimated from its configuration alone: FLOPs, memory and time.

FLOPs are those of matrix products and convolutions, counted in a forward pass, whatever the architecture: mostly 2 a
token for each weight of a matrix, and 4 · layers · width · context for attention (PaLM, arXiv 2204.02311, appendix B).
Training costs the student three times that (2 forward, 4 backward), each teacher once, but for steps without a paradigm
that all of them learned, a vocabulary head only where an objective needs its logits, and only for tokens that the
paradigm predicts where those are few; objectives say what they add (`Objective.flops`).

Memory, in bytes at the peak of a step, for P trained parameters, n tokens in a micro-batch and vocabulary V:

    students    4 P weights, the optimizer's state (8 P of AdamW), 4 P where processes exchange gradients
                one student's at a time: 4 P gradients (each student's, where a step has several micro-batches), 2 P
                copies in low precision, 4 V d for the gradient of the head
    teachers    2 bytes a parameter in low precision, 4 in float32
    kept        n times what autograd keeps of a token in all layers of one student for backward: counted, whatever the
                architecture (`counting.py`); mostly a d + b f + c h T of width d, inner width f, and where attention is
                no fused kernel h heads of T probabilities each
    outputs     n · 2 d_k of each teacher, of all its layers where hidden states are asked for (4 in float32); and where
                several students share them, n · 2 V of logits
    transient   the largest of: one layer of a teacher; logits, losses and their gradients of one chunk of the head;
                what objectives keep of their projections: input, and twice the output in float32

Time is a prediction: matrix products at MATRIX_SHARE of the device's peak, then everything else at the bandwidth of its
memory, and on a GPU no less than what it takes to launch all those small kernels. docs/scaling.md holds it against
measurements.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from transformers import PretrainedConfig

from palenka.cost.counting import Layer, count_forward, count_layer
from palenka.models.chunked_loss import CHUNK_TOKENS
from palenka.objectives import StateObjective, TokenObjective
from palenka.training.plan import TeacherPlan, Workload
from palenka.training.schema import RunConfig
from palenka.util.devices import GIB, HERE, Device
from palenka.util.hardware import Precision, copy_rate, fast_precision, local_device, matrix_rate, total_memory

Kind = Literal["cpu", "cuda"]
LOSS_ARRAYS = 5  # float32 (chunk, vocabulary) that cross-entropy and its gradient need at one time
DISTILLED_ARRAYS = 4  # further ones of each head that learns from teachers; and one for each teacher
PROCESS = {"cpu": 0.4 * GIB, "cuda": 0.0}  # Python, PyTorch, transformers; a GPU's memory holds none of it
HELD_FREE = {"cpu": 1.5, "cuda": 1.1}  # what allocators hold for each byte of passing arrays
USABLE = 0.9  # of a device's memory

MATRIX_SHARE = {"cpu": 0.9, "cuda": 0.6}  # of the peak, that products of these widths reach
PASSES = 6  # times that a kept byte goes through memory, forward and backward, with its gradient
LOGIT_PASSES = {"cpu": 8, "cuda": 4}  # the same of arrays over the vocabulary; a CPU is slow at exponentials
WEIGHT_BYTES = {"micro-batch": 18, "step": 16}  # traffic per parameter: copies, gradients; clipping
LAUNCH = 6e-6  # seconds to start one kernel from Python

TOKENS_PER_WORD = 1.5  # of BabyLM text with 16,000 tokens: 1.49 measured on 7.2M words
WINDOW_FILL = 0.97  # share of its tokens that a window owns, measured; windows start at lines, where one is near


@dataclass(frozen=True)
class Shared:
    """An amount of which every student costs one part, and the teachers of a whole cohort the other."""

    student: float
    teachers: float

    def of(self, students: int = 1, cohort_size: int = 1) -> float:
        """The amount for so many students in cohorts of at most `cohort_size`."""
        return students * self.student + math.ceil(students / cohort_size) * self.teachers

    def times(self, factor: float) -> "Shared":
        return Shared(self.student * factor, self.teachers * factor)


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a step; the parts are named in the head of this file."""

    students: float
    teachers: float
    kept: float
    outputs: float
    transient: float
    process: float

    @property
    def total(self) -> float:
        return self.students + self.teachers + self.kept + self.outputs + self.transient + self.process


def flops_per_token(work: Workload) -> Shared:
    """Matrix-product FLOPs of one training token."""
    context, share = work.config.data.seq_length, work.config.paradigm_config.logit_share
    student = 3 * forward_flops(work.model, context, share if _token_terms(work) else 0)
    student += sum(term.flops(context) for term in work.built_terms.values())
    seen, predicted = lessons(work)
    of_teachers = predicted / seen if _needs_teacher_logits(work) else 0
    running, bodies = _running_teachers(work), _share_of_bodies(work)
    teachers = (seen * forward_flops(teacher.model, context, of_teachers, bodies) for teacher in running)
    return Shared(student, sum(teachers))


def _share_of_bodies(work: Workload) -> float:
    """Of the tokens that teachers are asked about, those that they run on: of kept states they are heads alone.

    All where it is not known how many epochs there are.
    """
    return 1 / max(1.0, work.epochs or 1.0) if work.config.kept else 1.0


def lessons(work: Workload) -> tuple[float, float]:
    """Of all tokens of the training, those that the teachers are shown, and those that they form logits of."""
    paradigm, taught = work.config.paradigm_config, work.taught
    known = [name for number, name in enumerate(paradigm.part_names) if taught is None or number in taught]
    shown = [(share, stage) for share, stage in paradigm.stages if not set(known).isdisjoint(stage.part_names)]
    return sum(share for share, _ in shown), sum(share * stage.logit_share for share, stage in shown)


def forward_flops(
    model: PretrainedConfig, context: int, logit_share: float = 1, body_share: float = 1
) -> float:  # fmt: skip
    """Matrix-product FLOPs of one token of inference; embeddings are looked up, not multiplied.

    Args:
        logit_share: of the tokens, that go through the head.
        body_share: of the tokens, that go through all before it.
    """
    body, head = count_forward(model, context)
    return body_share * body + logit_share * head


def memory(work: Workload, kind: Kind, students: int = 1) -> Memory:
    """What a cohort of so many students needs on each device, while every process has one of its own."""
    tokens = work.micro_batch_size * work.config.data.seq_length
    size = _size(work, kind)
    trained = work.parameters["total"] + work.owned_parameters
    state = work.state_bytes + (0 if work.processes == 1 else 4 * trained)
    gradients = 4 * trained * (students if _micro_batches(work) > 1 else 1)
    passing = gradients + (2 * trained if size == 2 else 0) + 4 * work.model.vocab_size * work.model.hidden_size
    running, held = _running_teachers(work), HELD_FREE[kind]
    outputs = sum(teacher.shape.hidden_size * _output_layers(work, teacher) for teacher in running)
    outputs += _kept_teacher_logits(work) * work.model.vocab_size if students > 1 else 0
    largest = max(
        tokens * max((_kept_of_layer(t.model, work, kind) for t in running), default=0),
        4 * min(CHUNK_TOKENS[kind], tokens) * work.model.vocab_size * _head_arrays(work),
        tokens * _kept_by_objectives(work, size),
    )
    return Memory(
        students=students * state + passing,
        teachers=size * sum(teacher.parameters["total"] for teacher in work.teachers if not work.config.recorded),
        kept=held * tokens * _kept_of_student(work, kind),
        outputs=held * tokens * size * outputs,
        transient=held * largest,
        process=PROCESS[kind],
    )


def fitting_cohort(work: Workload, kind: Kind, size: float, students: int) -> int:
    """How many of so many students `size` bytes of a device hold side by side; 0 if not even one."""
    room = USABLE * size
    alone, pair, three = (memory(work, kind, count).total for count in (1, 2, 3))
    fitting = 2 + math.floor((room - pair) / (three - pair))
    return min(students, fitting if fitting > 1 else int(alone <= room))


def step_seconds(work: Workload, device: Device, share: float | None = None) -> Shared:
    """Predicted seconds of one optimizer step, with one such device for each process.

    Args:
        share: of the device's peak, that all of training was measured to reach elsewhere; in place of MATRIX_SHARE
            and bandwidth.
    """
    tokens = work.tokens_per_step / work.processes
    flops = flops_per_token(work).times(tokens)
    flops = replace(flops, student=flops.student + work.optimizer.flops())
    rate = device.matrix_rate(precision_on(work, device.kind))
    launches = _launches(work, device.kind)
    if share is not None:
        at_share = flops.times(1 / (share * rate))
        return Shared(max(at_share.student, launches.student), max(at_share.teachers, launches.teachers))
    products = flops.times(1 / (MATRIX_SHARE[device.kind] * rate))
    traffic = _traffic(work, device.kind).times(tokens)
    of_each = _micro_batches(work) * WEIGHT_BYTES["micro-batch"] + WEIGHT_BYTES["step"]
    weights = work.parameters["total"] * of_each + 2 * work.state_bytes
    return Shared(
        max(products.student + (traffic.student + weights) / device.bandwidth, launches.student),
        max(products.teachers + traffic.teachers / device.bandwidth, launches.teachers),
    )


def total_steps(config: RunConfig, words: float, tokens_per_word: float = TOKENS_PER_WORD) -> int:
    """Optimizer steps of a run on a text of so many words."""
    training, data = config.training, config.data
    if training.max_steps is not None:
        return training.max_steps
    assert training.num_epochs is not None
    owned = data.windows.room * (WINDOW_FILL if data.window_start == "line" else 1)
    windows = words * data.fraction * tokens_per_word / owned
    return max(1, int(training.num_epochs * windows / training.mean_batch_size))


def kind_of(device: torch.device) -> Kind:
    return "cuda" if device.type == "cuda" else "cpu"


def this_machine() -> Device:
    """The device this process computes on, with rates that are measured now: about a second on a CPU."""
    device = local_device()
    low: Precision = "fp16" if fast_precision(device) == "fp16" else "bf16"
    return Device(
        HERE, matrix_rate(device, low), matrix_rate(device, "fp32"), total_memory(device), copy_rate(device),
        "measured just now", kind_of(device),
    )  # fmt: skip


def precision_on(work: Workload, kind: Kind) -> Precision:
    """What `auto` means there: bf16 on the GPUs of our table, on a CPU what is fast on this one."""
    return "bf16" if work.config.training.precision == "auto" and kind == "cuda" else work.precision


def _size(work: Workload, kind: Kind) -> int:
    """Bytes of a number that goes into products."""
    return 4 if precision_on(work, kind) == "fp32" else 2


def _token_terms(work: Workload) -> list[TokenObjective]:
    return [term for term in work.built_terms.values() if isinstance(term, TokenObjective)]


def _state_terms(work: Workload) -> list[StateObjective]:
    return [term for term in work.built_terms.values() if isinstance(term, StateObjective)]


def _needs_teacher_logits(work: Workload) -> bool:
    return not work.config.recorded and _wants_teacher_logits(work)


def _wants_teacher_logits(work: Workload) -> bool:
    """Of teachers that run, or of what was recorded of them."""
    return any(term.teacher_logits != "none" for term in _token_terms(work))


def _kept_teacher_logits(work: Workload) -> int:
    """How many logits of each token stay for a cohort's next student: of each teacher, and of their mean."""
    kinds = {term.teacher_logits for term in _token_terms(work)} if not work.config.recorded else set()
    return len(work.teachers) * ("each" in kinds) + ("mean" in kinds)


def _running_teachers(work: Workload) -> list[TeacherPlan]:
    """The teachers, if any objective asks for what they compute."""
    return work.teachers if _state_terms(work) or _needs_teacher_logits(work) else []


def _output_layers(work: Workload, teacher: TeacherPlan) -> int:
    hidden = any(term.needs_hidden_states for term in _state_terms(work))
    return teacher.shape.num_hidden_layers + 1 if hidden else 1


def _micro_batches(work: Workload) -> int:
    return work.config.training.mean_batch_size // (work.processes * work.micro_batch_size)


def _layer(model: PretrainedConfig, work: Workload, kind: Kind) -> Layer:
    return count_layer(model, work.config.data.seq_length, precision_on(work, kind) != "fp32", kind)


def _kept_of_layer(model: PretrainedConfig, work: Workload, kind: Kind) -> float:
    """Bytes that autograd keeps of each token in one layer."""
    return _layer(model, work, kind).kept


def _kept_of_student(work: Workload, kind: Kind) -> float:
    """All layers, and the last norm with the gradient of its states."""
    return work.model.num_hidden_layers * _kept_of_layer(work.model, work, kind) + 12 * work.model.hidden_size


def _head_arrays(work: Workload) -> int:
    """float32 (chunk, vocabulary) at one time: of the token terms together, or of the state term with most heads."""
    distilled = LOSS_ARRAYS + DISTILLED_ARRAYS
    heads = max((term.vocabulary_heads for term in _state_terms(work)), default=0)
    of_states = heads * distilled + len(work.teachers) if heads else 0
    if _wants_teacher_logits(work):
        return max(of_states, distilled + (1 if work.config.recorded else len(work.teachers)))
    return max(of_states, LOSS_ARRAYS if _token_terms(work) else 0)


def _kept_by_objectives(work: Workload, size: int) -> float:
    """Bytes of each token: the input of every owned matrix, and twice its output in float32."""
    owned = [p for term in work.built_terms.values() for p in term.parameters() if p.ndim == 2]
    return sum(size * matrix.shape[1] + 8 * matrix.shape[0] for matrix in owned)


def _traffic(work: Workload, kind: Kind) -> Shared:
    """Bytes that go through memory for each token, beside matrix products: activations, logits."""
    kept = _kept_of_student(work, kind) + _kept_by_objectives(work, _size(work, kind))
    logits = LOGIT_PASSES[kind] * 4 * work.model.vocab_size * _head_arrays(work)
    teachers = sum(t.shape.num_hidden_layers * _kept_of_layer(t.model, work, kind) for t in _running_teachers(work))
    seen, _ = lessons(work)
    return Shared(PASSES * kept + work.config.paradigm_config.logit_share * logits, 2 * seen * teachers)


def _launches(work: Workload, kind: Kind) -> Shared:
    """Seconds that Python takes to start a step's kernels; a CPU runs them as they come."""
    if kind == "cpu":
        return Shared(0, 0)
    count = _micro_batches(work)
    training = _layer(work.model, work, kind).training * work.model.num_hidden_layers
    teachers = _running_teachers(work)
    inference = sum(_layer(t.model, work, kind).inference * t.shape.num_hidden_layers for t in teachers)
    seen, _ = lessons(work)
    return Shared(LAUNCH * count * training, LAUNCH * count * seen * inference)
