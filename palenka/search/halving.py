"""Successive halving: at shares of a training only the best go on (Jamieson and Talwalkar 2016, arXiv 1502.07943).

It is asynchronous, as in ASHA (Li et al. 2020, arXiv 1810.05934): a trial is held against all that have come as far by
then, and nothing waits for others; but none is taken up again. Trials that are trained side by side get there together,
and are all counted before any is judged.

    runs/<search>/<trial>/rungs.json     dev cross-entropy at each share that it has reached
    runs/<search>/<trial>/pruned.json    in place of a result; config and records stay, checkpoints go
"""

import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from palenka.runs.directory import Run
from palenka.training.plan import Plan
from palenka.util.files import read_object, write_json
from palenka.util.section import Section

RUNGS = "rungs.json"


class HalvingConfig(Section):
    """Successive halving by dev loss: at shares of the training, only the best go on."""

    first: float = Field(default=0.25, gt=0, lt=1, description="share of its training at which a trial is judged first")
    factor: int = Field(
        default=2, ge=2, description="one in so many goes on, until its training is so many times as long"
    )

    @property
    def shares(self) -> list[float]:
        """Of a training, at which a trial is judged."""
        count = math.ceil(-math.log(self.first, self.factor) - 1e-9)
        return [self.first * self.factor**rung for rung in range(count)]


class Halving:
    """What a loop asks of its students.

    Args:
        config: how many go on, and when.
        folder: of the search.
    """

    def __init__(self, config: HalvingConfig, folder: Path) -> None:
        self.config, self.folder = config, folder

    def _share_at(self, plan: Plan, step: int) -> float | None:
        """The share at which a run is judged after a step: that of the first evaluation which has got so far."""
        if step % plan.eval_steps or step >= plan.total_steps:
            return None
        since = (step - plan.eval_steps) / plan.total_steps
        return max((share for share in self.config.shares if since < share <= step / plan.total_steps), default=None)

    def is_due(self, plan: Plan, step: int) -> bool:
        """Whether a run is judged after a step: a trial, for finalists are trained to their end."""
        return plan.folder.parent == self.folder and self._share_at(plan, step) is not None

    def judge(self, plans: Sequence[Plan], step: int) -> dict[str, str]:
        """Of runs that are due, those that end here, by their names, each with what to say of it."""
        reached = {plan.config.name: self._note(plan, step) for plan in plans}
        verdicts = {}
        for plan in plans:
            share, loss = reached[plan.config.name]
            losses = sorted(rungs[str(share)] for rungs in self._all() if str(share) in rungs)
            place = losses.index(loss) + 1
            if place > math.ceil(len(losses) / self.config.factor):
                said = f"dev {loss:.4f} is number {place} of {len(losses)} at {share:.0%} of the training"
                record = {"step": step, "share": share, "loss": loss, "place": place, "of": len(losses)}
                write_json(plan.folder / Run.PRUNED, record)
                verdicts[plan.config.name] = f"pruned at step {step}: {said}"
        return verdicts

    def _note(self, plan: Plan, step: int) -> tuple[float, float]:
        """Record the dev loss of a run at the share that it has reached; both."""
        share, path = self._share_at(plan, step), plan.folder / RUNGS
        assert share is not None
        records = Run(plan.config.name, plan.runs).read_log().records
        loss = next(float(each["loss"]) for each in reversed(records) if each["split"] == "dev")
        write_json(path, (read_object(path) if path.exists() else {}) | {str(share): loss})
        return share, loss

    def _all(self) -> list[dict[str, float]]:
        return [read_object(path) for path in self.folder.glob(f"*/{RUNGS}")]
