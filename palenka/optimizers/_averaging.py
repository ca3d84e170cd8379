"""An exponential moving average of weights: a second model, which a training leaves beside the one that it trains.

    a <- a + r (w - a),   r = (1 - d) / (1 - d^t)    after the t-th step that was taken

So it is the mean of the weights after each of them, in which those of n steps ago weigh d^n as much as the newest
(Polyak & Juditsky 1992); r is for averages what Adam's correction is for moments: initial weights have no part in it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

STEPS = "steps taken"


class WeightAverage:
    """Average of a model's parameters, on their device.

    Args:
        model: what is trained.
        decay: d, below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = dict(model.named_parameters())
        self._averages = {name: weight.detach().clone() for name, weight in self._weights.items()}
        device = next(iter(self._weights.values())).device
        self._steps = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, is_taken: Tensor) -> None:
        """Take in the weights after a step; `is_taken`, a scalar on the device, says whether there was one."""
        self._steps += is_taken
        rate = is_taken * (1 - self.decay) / (1 - self.decay ** self._steps.clamp(min=1))
        for name, weight in self._weights.items():
            self._averages[name].lerp_(weight, rate.to(weight.dtype))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the model hold the average in place of its weights. Costs nothing: both change places."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, weight in self._weights.items():
            weight.data, self._averages[name] = self._averages[name], weight.data

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by the parameters' names, and the number of steps."""
        return {STEPS: self._steps, **self._averages}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._steps.copy_(state[STEPS])
        for name, average in self._averages.items():
            average.copy_(state[name])
