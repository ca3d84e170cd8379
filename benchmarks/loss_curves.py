"""Loss curves of one training with and without the fast paths, on the same batches of real text.

    python benchmarks/loss_curves.py config/cpu/student-kd-3M.yaml --set data.name=NAME --steps 200 --out curves.png

Trains the config's first steps several times from the same weights: in the plain formulation of benchmarks/step.py and
as the product does, uncompiled and compiled, each in float32 and in bf16. Two more begin at weights that are off by as
much as rounding them to bf16 may be: how far those go tells what a training makes of the slightest difference.
Prints after each training how far its curve is from the plain one of float32, and draws them over each other; the
figures go to the same name with .json. The data has to be prepared and the teachers trained.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from step import plain_step, product_step

from palenka.cli import command
from palenka.models.folder import load_frozen
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig
from palenka.util.hardware import local_device

CURVES = {  # name → precision, compiled; None where the plain formulation is meant
    "plain float32": ("fp32", None),
    "palenka float32": ("fp32", False),
    "palenka float32, compiled": ("fp32", True),
    "plain bf16": ("bf16", None),
    "palenka bf16": ("bf16", False),
    "palenka bf16, compiled": ("bf16", True),
    "plain float32, noise 1": ("fp32", None),
    "plain float32, noise 2": ("fp32", None),
}


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="override keys")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    arguments = parser.parse_args()
    curves: dict[str, list[float]] = {}
    for name in CURVES:
        curves[name] = train(name, arguments)
        record = {"config": str(arguments.config), "overrides": arguments.set, "curves": curves}
        arguments.out.with_suffix(".json").write_text(json.dumps(record) + "\n")
        exact = next(iter(curves.values()))
        off = [abs(ours - plain) for ours, plain in zip(curves[name], exact, strict=True)]
        print(f"{name:26} last loss {curves[name][-1]:.5f}; from the first curve at most {max(off):.2g}, "
              f"{sum(off) / len(off):.2g} on average", flush=True)  # fmt: skip
    draw(curves, arguments.out)


def train(name: str, arguments: argparse.Namespace) -> list[float]:
    """The weighted loss of each step."""
    AcceleratorState._reset_state(reset_partial_state=True)  # it holds one precision for a process
    precision, compiled = CURVES[name]
    keys = [*arguments.set, f"training.precision={precision}", f"training.compile={str(bool(compiled)).lower()}"]
    plan, device = load_plan(arguments.config, keys, DistillConfig), local_device()
    with tempfile.TemporaryDirectory() as folder:
        if compiled is None:
            teachers = [load_frozen(teacher.folder, torch.float32, device) for teacher in plan.teachers]
            take = plain_step(name, plan, plan.windows(), plan.total_steps, teachers, device)
        else:
            take = product_step(plan, Path(folder))
        return [float(take(step)) for step in range(arguments.steps)]


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """Losses above, differences from the first curve below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 7), sharex=True, layout="constrained")
    exact = next(iter(curves.values()))
    for place, (name, curve) in enumerate(curves.items()):
        style = {"label": name, "linewidth": 3.5 - 0.4 * place, "alpha": 0.8}
        above.plot(curve, **style)
        below.plot([ours - plain for ours, plain in zip(curve, exact, strict=True)], **style)
    above.set(ylabel="weighted loss, nats")
    below.set(ylabel=f"less that of {next(iter(curves))}", xlabel="step")
    above.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
