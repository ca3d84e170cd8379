"""Cohorts: the students of a grid, trained side by side on one teacher pass, one cohort after the other."""

import gc
from collections.abc import Iterable, Sequence

import torch

from palenka.training.batches import Batches
from palenka.training.build import build_loss_module, build_optimizer, find_teachers
from palenka.training.display import CohortDisplay
from palenka.training.loop import Judge, Loop, last_training
from palenka.training.plan import Plan
from palenka.training.preemption import Interruption
from palenka.training.session import Diverged, Session, begin_all
from palenka.training.trainer import Trainer
from palenka.util.processes import check_processes


def train_cohorts(
    cohorts: Iterable[Sequence[Plan]], from_last_good: bool = False, judge: Judge | None = None
) -> None:
    """Train cohorts one after the other; students that are finished or have diverged already are left as they are.

    Args:
        cohorts: the plans of each are alike but for names, objective weights and `seed`. The next cohort is asked for
            when the last one has been trained.
        from_last_good: students that diverged resume from their last checkpoints.
        judge: ends students early.

    Raises:
        UserError: a name is another run's, another process is training it, or no launcher started this process with
            the others that the environment names.
        Interrupted: a signal told this process to stop; the same call resumes from there.
        Diverged: students whose loss is no longer finite, now or in an earlier start; all others are finished.
    """
    check_processes()  # before the first cohort is asked for: a grid agrees on it with the other processes
    diverged = []
    with last_training() as interruption:
        for plans in cohorts:
            diverged += _train_together(plans, from_last_good, interruption, judge)
    if diverged:
        raise Diverged("\n".join(diverged))


def _train_together(
    plans: Sequence[Plan], from_last_good: bool, interruption: Interruption, judge: Judge | None
) -> list[str]:
    """Train one cohort; returns what to say of each student that diverged."""
    sessions, diverged = begin_all(plans, from_last_good)
    if sessions:
        diverged += side_by_side(sessions, interruption, judge).run_to_end()
        gc.collect()  # modules that point at themselves: another cohort may need the memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return diverged


def side_by_side(
    sessions: Sequence[Session], interruption: Interruption | None = None, judge: Judge | None = None
) -> Loop:
    """The loop of students around one set of teachers, in run directories that are opened for it."""
    plan, device = sessions[0].plan, sessions[0].device
    first = min(session.first_step for session in sessions)
    batches = Batches(plan.windows(), plan.paradigm, plan.course, first)
    teachers = find_teachers(plan, device)
    names = [session.run.name for session in sessions]
    display = CohortDisplay(names, plan.total_steps) if len(names) > 1 else None
    losses = [build_loss_module(session.plan, teachers, device) for session in sessions]
    trainers = []
    for session, loss in zip(sessions, losses, strict=True):
        optimizer = build_optimizer(session.plan, loss)
        session.open(display)
        trainers.append(Trainer(session, loss, optimizer))
    return Loop(trainers, batches, interruption, display, judge)
