"""A classifier's training: epochs over a task's items, each followed by a look at those that choose the epoch.

A step computes its items in micro-batches of similar length, so that little of it is padding; its loss is the mean over
all its items. Everything random is drawn from streams named by the seed and the step, and what an epoch leaves is kept
(`checkpoints.py`), so that a training that was killed goes on to the same bits on a CPU.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from palenka import optimizers
from palenka.finetuning.checkpoints import Checkpoints
from palenka.finetuning.classifier import Classifier, Items
from palenka.finetuning.metrics import Metric, count, measure
from palenka.finetuning.schema import FinetuningHyperparameters
from palenka.optimizers._schedules import learning_rate
from palenka.util.errors import UserError
from palenka.util.progress import Bar
from palenka.util.seeds import named_seed

TOKENS_AT_ONCE = {"cpu": 512, "cuda": 16384}
"""Of a micro-batch, with padding. On a CPU, arrays that leave the cache cost more than padding saves."""


@dataclass
class Course:
    """What a training has come to so far; epochs count from 1.

    losses, scores: of each epoch, the mean over its training items, and of the items that choose the epoch.
    epoch: the best one so far, the first of equals.
    predictions: of that epoch, by the name of the items.
    """

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    epoch: int = 0
    predictions: dict[str, list[int]] = field(default_factory=dict)

    @property
    def best(self) -> float:
        return self.scores[self.epoch - 1] if self.epoch else -np.inf

    def waited(self, least_gain: float) -> int:
        """Epochs since a score was better than all before it by more than that."""
        last, best = 0, -np.inf
        for epoch, score in enumerate(self.scores, 1):
            if score > best + least_gain:
                last, best = epoch, score
        return len(self.scores) - last


class Training:
    """A classifier in training.

    Args:
        classifier: with initial weights.
        train: what it learns from.
        choosing: the items that choose the epoch; their name where they are among the reported.
        reported: items that are answered, by name: at the epoch that is chosen.
        metric: that chooses.
        classes: how many labels there are.
        settings: of the training.
        seed: of everything random.
        label: what a bar on the terminal says of it.
    """

    def __init__(
        self, classifier: Classifier, train: Items, choosing: Items | str, reported: dict[str, Items], metric: Metric,
        classes: int, settings: FinetuningHyperparameters, seed: int, label: str = "",
    ) -> None:  # fmt: skip
        self.classifier, self.train, self.choosing, self.reported = classifier, train, choosing, reported
        self.metric, self.classes, self.settings, self.seed, self.label = metric, classes, settings, seed, label
        self.device = next(classifier.parameters()).device
        self.optimizer = optimizers.build(settings, classifier)
        size, whole = settings.batch_size, len(train) // settings.batch_size
        self.steps = max(1, whole) if settings.drop_last else -(-len(train) // size)
        self.course = Course()

    def run(self, checkpoints: Checkpoints) -> Course:
        """Train to the last epoch, or until patience ends.

        Raises:
            UserError: the loss is not finite.
        """
        states = {"optimizer.pt": self.optimizer}
        if found := checkpoints.resume(self.classifier, states):
            self.course = Course(**found)
        bar = Bar(self.label, self.steps * self.settings.num_epochs, "steps", enabled=bool(self.label))
        while not self._is_done:
            epoch = len(self.course.losses)
            bar.reach(epoch * self.steps)
            self._train_epoch(epoch, bar)
            self._judge()
            checkpoints.save(epoch + 1, self.classifier, states, asdict(self.course))
        bar.close()
        return self.course

    @property
    def _is_done(self) -> bool:
        settings, course = self.settings, self.course
        is_tired = settings.patience is not None and course.waited(settings.least_gain) >= settings.patience
        return is_tired or len(course.losses) == settings.num_epochs

    def _train_epoch(self, epoch: int, bar: Bar) -> None:
        self.classifier.train()
        batches = self.batches(epoch)
        total = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches):
            total += self.step(epoch * self.steps + number, batch) * len(batch)
            bar.advance()
        loss = float(total) / sum(map(len, batches))
        if not np.isfinite(loss):
            raise UserError(f"{self.label}: the loss of epoch {epoch + 1} is {loss}; lower training.lr")
        self.course.losses.append(loss)

    def batches(self, epoch: int) -> list[list[int]]:
        """Numbers of the items of each of an epoch's steps."""
        order = np.random.default_rng(named_seed(self.seed, "finetuning", "order", epoch)).permutation(len(self.train))
        size = self.settings.batch_size
        return [order[start * size :][:size].tolist() for start in range(self.steps)]

    def step(self, number: int, batch: list[int]) -> torch.Tensor:
        """Take a step, counted from 0, on the items of these numbers; their mean loss, on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(number, group.setdefault("peak", group["lr"]))
        total = torch.zeros((), device=self.device)
        for place, rows in enumerate(micro_batches(self.train, batch, self.device)):
            torch.manual_seed(named_seed(self.seed, "finetuning", "step", number, place))
            tokens, lengths, labels = self.train.tensors(rows, self.device)
            with self._precision():
                logits = self.classifier(tokens, lengths)
            loss = F.cross_entropy(logits.float(), labels, reduction="sum") / len(batch)
            loss.backward()
            total += loss.detach()
        if self.settings.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.classifier.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def _learning_rate(self, step: int, peak: float) -> float:
        settings, steps = self.settings, self.steps * self.settings.num_epochs
        return learning_rate(step, peak, settings.warmup_steps, steps, settings.schedule, settings.min_lr_ratio)

    def _precision(self) -> AbstractContextManager[Any]:
        low = self.settings.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if low else nullcontext()

    def _judge(self) -> None:
        """Score the epoch that has ended; where it is the best so far, it answers what is reported."""
        course = self.course
        choosing = self.reported[self.choosing] if isinstance(self.choosing, str) else self.choosing
        found = self.predict(choosing)
        score = measure(self.metric, count(choosing.labels, found, self.classes))
        is_best = score > course.best
        course.scores.append(score)
        if not is_best:
            return
        known = {self.choosing: found} if isinstance(self.choosing, str) else {}
        course.epoch = len(course.scores)
        course.predictions = {name: known.get(name) or self.predict(items) for name, items in self.reported.items()}

    @torch.inference_mode()
    def predict(self, items: Items) -> list[int]:
        """The likeliest label of each item; the first of equals."""
        self.classifier.eval()
        found = torch.zeros(len(items), dtype=torch.int64)
        for rows in micro_batches(items, range(len(items)), self.device):
            tokens, lengths, _ = items.tensors(rows, self.device)
            with self._precision():
                found[rows] = self.classifier(tokens, lengths).argmax(-1).cpu()
        return found.tolist()


def micro_batches(items: Items, numbers: Sequence[int], device: torch.device) -> Iterator[list[int]]:
    """Items in groups of similar length, the longest first, of at most TOKENS_AT_ONCE tokens (or one item)."""
    most, group = TOKENS_AT_ONCE[device.type], list[int]()
    for number in sorted(numbers, key=lambda number: -len(items.tokens[number])):
        if group and len(items.tokens[group[0]]) * (len(group) + 1) > most:
            yield group
            group = []
        group.append(number)
    yield group
