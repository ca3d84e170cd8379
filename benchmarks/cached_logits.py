"""What cached teacher logits lose, by k, temperature and shape of the tail: in prediction, and in gradient.

    python benchmarks/cached_logits.py --config config/cpu/student-kd-3M.yaml untrained cpu/control-3M

For each temperature, student, k and shape of the tail one JSON line, from training windows behind the config's own:

    tail           mean mass outside the top k
    kl             KL(teachers || cached logits), nats a token
    gradient       ||g' - g|| / ||g|| of the gradients with respect to logits, over all tokens
    cosine         of these, mean over tokens
    head_gradient  ||G' - G|| / ||G|| of the gradient of the student's head: errors that the tokens do not average out

Shapes: `flat`; `mean`, the teachers' mean tail on other windows; `student`, the one that palenka uses without samples,
which is also a divergence over k + 1 outcomes; `drawn`, of as many samples as k. `own` shows how far the student is
from its teachers: KL(teachers || student), beside which their error has to be small. `untrained` is a student with
initial weights.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from palenka.cli import command
from palenka.data.batch import Batch
from palenka.models.folder import load_frozen
from palenka.models.forward import run_model
from palenka.models.huggingface import build_model
from palenka.objectives._teachers import combined_log_probs, divergence
from palenka.runs.directory import find_run
from palenka.teachers.cached import draw
from palenka.teachers.live import Teachers
from palenka.teachers.replay import CachedOutput
from palenka.training.build import load_teachers
from palenka.training.plan import Plan, load_plan
from palenka.training.schema import DistillConfig
from palenka.util.hardware import DTYPES, local_device

BATCH, CHUNK = 32, 256
SHAPES = ("flat", "mean", "student", "drawn")


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="data and teachers")
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="override keys of the config")
    parser.add_argument("--top-k", nargs="*", type=int, default=[16, 64, 128, 256, 512])
    parser.add_argument("--temperature", nargs="*", type=float, default=[1.0, 2.0])
    parser.add_argument("--batches", type=int, default=1, help=f"of {BATCH} windows, to measure on")
    parser.add_argument("--mean-batches", type=int, default=8, help="the same, for the mean tail")
    parser.add_argument("students", nargs="+", metavar="RUN")
    arguments = parser.parse_args()
    plan = load_plan(arguments.config, arguments.set, DistillConfig)
    bench = Bench(plan)
    for temperature in arguments.temperature:
        means = bench.mean_tails(temperature, arguments.top_k, arguments.mean_batches)
        for name in arguments.students:
            for (k, shape), comparison in bench.measure(name, temperature, means, arguments.batches).items():
                given = {"temperature": temperature, "student": name, "k": k, "shape": shape}
                print(json.dumps(given | comparison.figures()), flush=True)


class Bench:
    """Teachers of a plan, and students beside them."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.device, self.dtype = plan, local_device(), DTYPES[plan.precision]
        self.shares = [teacher.shape.share for teacher in plan.teachers]
        self.teachers: Teachers = load_teachers(plan, self.device)
        self.teachers.require(False, [()] * len(self.shares))
        self.windows = plan.windows()
        self.first = plan.total_windows  # behind what students were trained on

    def inputs(self, batch: int) -> tuple[range, Batch, Tensor]:
        windows = range(self.first + batch * BATCH, self.first + (batch + 1) * BATCH)
        shown = self.plan.paradigm.window_batch(self.windows, windows).to(self.device)
        return windows, shown, shown.counts.flatten()

    @torch.no_grad()
    def predictions(self, batch: int, temperature: float) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows of the batch, the teachers' log-probabilities of those that count, and which these are."""
        windows, shown, counts = self.inputs(batch)
        sources = self.teachers.run(shown, windows).each_logits
        for start in range(0, len(counts), CHUNK):
            rows = slice(start, start + CHUNK)
            logits = [source.logits(rows, self.dtype, torch.empty(0)) for source in sources]
            yield rows, combined_log_probs(logits, self.shares, temperature, "logits")[counts[rows]], counts[rows]

    def mean_tails(self, temperature: float, top_k: list[int], batches: int) -> dict[int, Tensor]:
        """k → log-shares of tokens in the mean tail (vocabulary,), from windows behind the measured ones."""
        sums = {k: torch.zeros(self.plan.model.vocab_size, dtype=torch.float64, device=self.device) for k in top_k}
        for batch in range(100, 100 + batches):
            for _, log_probs, _ in self.predictions(batch, temperature):
                top = log_probs.topk(max(top_k), dim=-1).indices
                for k, total in sums.items():
                    total += log_probs.exp().scatter_(1, top[:, :k], 0.0).sum(dim=0, dtype=torch.float64)
        return {k: (total / total.sum()).clamp_min(1e-9).log().float() for k, total in sums.items()}

    def student_states(self, name: str, batches: int) -> Iterator[tuple[int, Tensor, torch.nn.Linear]]:
        if name == "untrained":
            model = build_model(self.plan.model, self.plan.config.seed, self.device).eval()
        else:
            model = load_frozen(find_run(name, self.plan.runs), torch.float32, self.device)
        for batch in range(batches):
            output = run_model(model, self.inputs(batch)[1])
            yield batch, output.final.flatten(0, 1), output.head

    @torch.no_grad()
    def measure(
        self, name: str, temperature: float, means: dict[int, Tensor], batches: int
    ) -> "dict[tuple[int, str], Comparison]":
        """By k and shape; `means` are the mean tails."""
        found = {(k, shape): Comparison() for k in means for shape in SHAPES}
        for batch, states, head in self.student_states(name, batches):
            for rows, true, counts in self.predictions(batch, temperature):
                here = states[rows][counts]
                logits = head(here)
                own = F.log_softmax(logits / temperature, dim=-1)
                for k, mean in means.items():
                    top = true.topk(k, dim=-1)
                    rest = true.exp().scatter_(1, top.indices, 0.0).sum(dim=-1, keepdim=True)
                    values, tail = (tensor.half().float() for tensor in (top.values, rest.log()))
                    recorded = CachedOutput(top.indices, values, tail, temperature)
                    others = true.exp().scatter_(1, top.indices, 0.0)
                    drawn = replace(recorded, drawn=draw(others, torch.rand(len(others)), k))
                    tails = (torch.zeros_like(logits), mean.expand_as(logits) * temperature, logits, logits)
                    for shape, like in zip(SHAPES, tails, strict=True):
                        of = drawn if shape == "drawn" else recorded
                        stored = of.logits(slice(None), self.dtype, like) / temperature
                        found[k, shape].add(true, F.log_softmax(stored, dim=-1), own, here, rest)
        return found


class Comparison:
    """Sums over tokens of what a student would feel of the true and of the stored prediction."""

    def __init__(self) -> None:
        self.tokens = 0
        self.sums = torch.zeros(6, dtype=torch.float64)
        self.true_head = self.stored_head = torch.zeros(())

    def add(self, true: Tensor, stored: Tensor, own: Tensor, states: Tensor, tail: Tensor) -> None:
        gradient, other = own.exp() - true.exp(), own.exp() - stored.exp()
        values = [
            tail.sum(), divergence(true, stored).sum(), divergence(true, own).sum(),
            (other - gradient).square().sum(), gradient.square().sum(), F.cosine_similarity(gradient, other).sum(),
        ]  # fmt: skip
        self.tokens += len(true)
        self.sums += torch.stack(values).double().cpu()
        self.true_head, self.stored_head = self.true_head + gradient.T @ states, self.stored_head + other.T @ states

    def figures(self) -> dict[str, float]:
        tail, kl, own, error, size, cosine = self.sums.tolist()
        head = float((self.stored_head - self.true_head).norm() / self.true_head.norm())
        figures = {
            "tail": tail / self.tokens, "kl": kl / self.tokens, "own": own / self.tokens,
            "gradient": (error / size) ** 0.5, "cosine": cosine / self.tokens, "head_gradient": head,
        }  # fmt: skip
        return {key: round(value, 4) for key, value in figures.items()}


if __name__ == "__main__":
    main()
