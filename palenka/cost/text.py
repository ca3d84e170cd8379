"""The cost of runs and grids as a person reads it in the terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from palenka.cost.estimate import MATRIX_SHARE, USABLE, Shared, memory
from palenka.cost.forecast import Estimate, Length, tokens_per_word
from palenka.runs.ledger import Account, ledger_of
from palenka.training.plan import Plan, TeacherPlan, Workload
from palenka.training.recipes import find_recipe
from palenka.util.devices import GIB, HERE, Device
from palenka.util.tables import text_table
from palenka.util.text import NOTHING, WIDTH, count, duration, wrapped

DAY = 86400


def terminal_text(found: Estimate, devices: Sequence[Device]) -> str:
    """One configuration: its models, its length, then memory and time on each device."""
    lines = [
        _student(found.work),
        f"  {found.where}",
        *_others(found.work, with_layers=False),
        f"  {_per_token(found.flops)}; {_batch(found.work)}",
        *(f"  {line}" for line in _how_long(found)),
    ]
    parts = ["\n".join(lines), text_table(_rows(found, devices), width=WIDTH)]
    if found.trials > 1:
        parts.append(text_table(_grid_rows(found, devices), width=WIDTH))
    return "\n\n".join([*parts, "\n".join(wrapped(note) for note in _notes(found))])


def plan_text(plan: Plan, devices: Sequence[Device]) -> str:
    """A checked run: its resolved configuration, what it will do, then memory and time on each device."""
    found = Estimate(plan.config.name, plan, [Length("time", plan.total_steps)])
    data, windows = plan.config.data, plan.windows()
    words = windows.words(range(plan.total_windows)) if plan.milestones.points else None
    unset = ", ".join(f"{key} {size:,}" for key, size in plan.config.trained_model.default_sizes.items())
    lines = [
        _student(plan),
        *([f"  sizes that are not set, and so what the architecture has by default: {unset}"] if unset else []),
        *_others(plan, with_layers=True),
        *([_cache_line(plan)] if plan.config.recorded else []),
        *([_states_line(plan)] if plan.config.kept else []),
        f"  data {data.name}: {windows.epoch_size(0):,} windows of {data.seq_length} tokens an epoch, "
        f"{len(plan.dev_windows()):,} dev windows",
        *_lengths(plan),
        f"  {plan.total_steps:,} steps of {_sizes(plan)} sequences "
        f"({plan.processes} process(es), micro-batches of {plan.micro_batch_size}); "
        f"dev evaluation every {plan.eval_steps}, checkpoint every {plan.checkpoint_steps}",
        *(f"  {line}" for line in _account(plan, words).lines),
        *(plan.milestones.describe(words, plan.parameters["total"]) if words is not None else []),
        f"  {_per_token(found.flops)}, {_total(found, plan.total_steps)} in all, in {plan.precision} here",
    ]
    config = yaml.safe_dump(plan.resolved, sort_keys=False)
    notes = "\n".join(wrapped(note) for note in _notes(found))
    return "\n".join([config, *lines, "", text_table(_rows(found, devices), width=WIDTH), "", notes])


def _account(plan: Plan, words: int | None) -> Account:
    """Of a run to be: its teachers may be untrained; words that nobody counted come from those of an epoch."""

    def untrained(run: str) -> dict[str, Any] | None:
        recipe = find_recipe(run, plan.config.data.name)
        return recipe.values if recipe else None

    windows = plan.windows()
    epochs = windows.epochs_before(plan.total_windows)
    seen = round(epochs * windows.words_in_epoch) if words is None else words
    return Account(ledger_of(plan.resolved, untrained), seen, round(epochs, 4))


def _student(work: Workload) -> str:
    return f"{work.config.name}: {work.model.model_type}, {_parameters(work.parameters)}"


def _others(work: Workload, with_layers: bool) -> Iterator[str]:
    for teacher in work.teachers:
        layers = f", layers (teacher, student) {list(teacher.shape.layer_pairs)}" if with_layers else ""
        yield f"  teacher {teacher.name}: {_parameters(teacher.parameters)}{layers}{_untrained(teacher)}"
    if work.owned_parameters:
        yield f"  objectives: {work.owned_parameters:,} parameters of their own"


def _parameters(counted: dict[str, int]) -> str:
    return f"{counted['total']:,} parameters ({counted['non_embedding']:,} outside the embeddings)"


def _cache_line(plan: Plan) -> str:
    if any(teacher.recipe for teacher in plan.teachers):
        return "  cached logits: to be recorded when the teachers are trained"
    assert plan.cached_logits is not None
    missing = len(plan.cached_logits.missing(plan.total_windows))
    state = f"{missing * plan.cached_logits.shard_bytes / 1e9:.2f} GB to record" if missing else "recorded"
    return f"  cached logits {plan.cached_logits.folder}: {plan.cached_logits.record.itemsize:,} bytes a token, {state}"


def _states_line(plan: Plan) -> str:
    if any(teacher.recipe for teacher in plan.teachers):
        return "  teachers' states: kept when the teachers are trained"
    kept = plan.kept_states
    assert kept is not None
    some = "all" if kept.room == kept.windows else f"{kept.room:,} of {kept.windows:,} (teacher_cache.max_gib)"
    size = _gib(kept.room * kept.window_bytes)
    return f"  teachers' states {kept.folder}: {kept.token_bytes:,} bytes a token, {some} windows, {size}; " + (
        f"{kept.present():,} are there"
    )


def _untrained(teacher: TeacherPlan) -> str:
    return f"; not trained yet: python train.py --config {teacher.recipe}" if teacher.recipe else ""


def _per_token(flops: Shared) -> str:
    teachers = f", {flops.teachers / flops.of():.0%} of them the teachers'" if flops.teachers else ""
    return f"{flops.of():.3g} FLOPs a token{teachers}"


def _sizes(work: Workload) -> str:
    training = work.config.training
    first = f"{training.initial_batch_size} to " if training.initial_batch_size else ""
    return f"{first}{training.batch_size}"


def _lengths(plan: Plan) -> Iterator[str]:
    """A line for each length of shorter windows, in whose steps there are as many times as many of them."""
    ends = [*(phase.first_step for phase in plan.course.phases[1:]), plan.total_steps]
    for phase, end in zip(plan.course.phases, ends, strict=True):
        if len(ends) > 1:
            longest, steps = plan.config.data.seq_length, f"{phase.first_step + 1:,} to {end:,}"
            length = longest // phase.multiple
            yield f"  steps {steps}: windows of {length} tokens, {phase.multiple} for each of {longest}"


def _batch(work: Workload) -> str:
    return (
        f"steps of {_sizes(work)} x {work.config.data.seq_length} tokens in micro-batches of "
        f"{work.micro_batch_size}"
    )


def _total(found: Estimate, steps: int) -> str:
    return f"{found.flops.of() * found.tokens_per_step * steps:.3g} FLOPs"


def _how_long(found: Estimate) -> Iterator[str]:
    training = found.work.config.training
    for length in found.lengths:
        if training.max_steps is not None:
            yield f"{length.steps:,} steps, whatever the number of words: {_total(found, length.steps)}"
        else:
            epochs = f"{training.num_epochs:g} epochs"
            yield f"{length.label}, {epochs}: {length.steps:,} steps, {_total(found, length.steps)}"


def _rows(found: Estimate, devices: Sequence[Device]) -> list[list[str]]:
    rows = [["device", "memory needed", "of", "tokens/s", *(length.label for length in found.lengths)]]
    for device in devices:
        needed = memory(found.work, device.kind).total
        step = found.seconds(device).of()
        fits = needed <= USABLE * device.memory
        times = [_duration(step * length.steps) if fits else "too large" for length in found.lengths]
        speed = f"{found.tokens_per_step / step:,.0f}"
        rows.append([_named(device), _gib(needed), _gib(device.memory), speed, *times])
    return rows


def _grid_rows(found: Estimate, devices: Sequence[Device]) -> list[list[str]]:
    heads = (f"{length.label}{what}" for length in found.lengths for what in ("", ", apart"))
    rows = [[f"{found.trials} trials", "cohorts of", "memory needed", *heads]]
    for device in devices:
        cohort, step = found.cohort_on(device), found.seconds(device)
        times = (_duration(step.of(found.trials, size) * length.steps) if size else NOTHING
                 for length in found.lengths for size in (cohort, min(cohort, 1)))  # fmt: skip
        needed = _gib(memory(found.work, device.kind, cohort).total) if cohort else NOTHING
        rows.append([_named(device), str(cohort) if cohort else "too large", needed, *times])
    return rows


def _notes(found: Estimate) -> Iterator[str]:
    work, measured = found.work, found.measured
    processes = "" if work.processes == 1 else f", {work.processes} of each"
    if measured is None:
        of_gpu, of_cpu = MATRIX_SHARE["cuda"], MATRIX_SHARE["cpu"]
        yield (
            f"Time: predicted{processes}, products at {of_gpu:.0%} of a GPU's peak ({of_cpu:.0%} of a CPU's measured "
            "rate), the rest at its memory's bandwidth; without dev evaluation. How far off that is: docs/scaling.md. "
            "`palenka cost --probe` measures here."
        )
    else:
        rate = measured.device.matrix_rate(work.precision)
        yield (
            f"Measured here, {work.precision}: {measured.tokens_per_second:,.0f} tokens/s ({measured.seconds:.3g} s a "
            f"step, {measured.fastest:.3g} to {measured.slowest:.3g}, on {count(measured.sequences, 'sequence')}), "
            f"{measured.share:.0%} of {rate / 1e12:.3g} TFLOP/s, {_gib(measured.memory)} at the peak."
        )
        yield f"Time: predicted{processes}, every device at that share of its peak; without dev evaluation."
    if found.trials > 1:
        yield "Apart: every trial with a teacher pass of its own, instead of one for each cohort."
    if work.config.training.max_steps is None:
        yield f"{tokens_per_word(work):.2f} tokens a word."


def _named(device: Device) -> str:
    return "this machine" if device.name == HERE else device.name


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def _duration(seconds: float) -> str:
    return duration(seconds) if seconds < 3 * DAY else f"{seconds / DAY:.1f} days"
