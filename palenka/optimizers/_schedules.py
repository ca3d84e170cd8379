"""Learning rates over a training: pure functions of the step, which counts from 0.

    rate(step) = peak (step + 1) / warmup                                        during the warm-up
    rate(step) = peak (floor + (1 - floor) shape(x)),   x = (step - warmup) / (total - warmup)    after it
    the same times (total - step) / cooldown                                      in the last `cooldown` steps

    cosine    shape(x) = (1 + cos(pi x)) / 2                             Loshchilov & Hutter 2017, arXiv 1608.03983
    linear    shape(x) = 1 - x
    wsd       shape(x) = 1,  and 1 - sqrt((x - 0.8) / 0.2) in the last fifth

wsd is warm-up, stable, decay (MiniCPM, arXiv 2404.06395), with the decay that Hägele et al. 2024 (arXiv 2405.18392)
find best. While it is stable nothing depends on where the training ends. GPT-BERT (arXiv 2410.24159) has cosine, a
floor of 0.1, and 1.6 % of all steps each for warm-up and cool-down.
"""

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "wsd"]
DECAY = 0.2  # of the steps after the warm-up, in wsd


def learning_rate(
    step: int, peak: float, warmup_steps: float, total_steps: int, schedule: Schedule = "cosine", floor: float = 0.0,
    cooldown_steps: float = 0,
) -> float:  # fmt: skip
    """The rate of a step.

    Args:
        step: from 0.
        peak: the highest rate.
        warmup_steps: a number of steps, or a share of all, below 1; `cooldown_steps` likewise.
        total_steps: of the training.
        schedule: the shape between warm-up and end.
        floor: the share of the peak that the shape ends at.
    """
    warmup, cooldown = (whole_steps(steps, total_steps) for steps in (warmup_steps, cooldown_steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    left = min(1.0, (total_steps - step) / cooldown) if cooldown else 1.0
    return peak * (floor + (1 - floor) * _shape(schedule, done)) * left


def whole_steps(steps: float, total_steps: int) -> int:
    """A number of steps as it is, a share of all of them rounded."""
    return round(steps * total_steps) if steps < 1 else int(steps)


def _shape(schedule: Schedule, done: float) -> float:
    """What is left of the peak, 1 to 0, after the share `done` of the steps that follow the warm-up."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return 1 - done
    return 1 - math.sqrt(max(0.0, done - (1 - DECAY)) / DECAY)
