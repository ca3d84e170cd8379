"""Learning rates over a training: pure functions of the step, which counts from 0.

    rate(step) = peak (step + 1) / warmup                                        during the warm-up
    rate(step) = peak (floor + (1 - floor) shape(x)),   x = (step - warmup) / (total - warmup)    after it

    cosine    shape(x) = (1 + cos(pi x)) / 2                             Loshchilov & Hutter 2017, arXiv 1608.03983
    linear    shape(x) = 1 - x
    wsd       shape(x) = 1,  and 1 - sqrt((x - 0.8) / 0.2) in the last fifth

wsd is warm-up, stable, decay (MiniCPM, arXiv 2404.06395), with the decay that Hägele et al. 2024 (arXiv 2405.18392)
find best. While it is stable nothing depends on where the training ends.
"""

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "wsd"]
DECAY = 0.2  # of the steps after the warm-up, in wsd


def learning_rate(
    step: int, peak: float, warmup_steps: int, total_steps: int, schedule: Schedule = "cosine", floor: float = 0.0
) -> float:
    """The rate of a step; `floor` is the share of the peak that it ends at."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * (floor + (1 - floor) * _shape(schedule, done))


def _shape(schedule: Schedule, done: float) -> float:
    """What is left of the peak, 1 to 0, after the share `done` of the steps that follow the warm-up."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return 1 - done
    return 1 - math.sqrt(max(0.0, done - (1 - DECAY)) / DECAY)
