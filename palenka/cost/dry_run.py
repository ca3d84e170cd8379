"""What `--dry-run` shows of a checked run."""

from palenka.cost.estimate import this_machine
from palenka.cost.text import plan_text
from palenka.training.plan import Plan
from palenka.util.devices import find_devices


def describe(plan: Plan) -> str:
    """The resolved configuration of a checked run and what it will cost, for people."""
    return plan_text(plan, find_devices([], this_machine()))
