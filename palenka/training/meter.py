"""What a run did since its last record: sums of losses and norms, tokens and seconds."""

import torch
from accelerate import Accelerator
from torch import Tensor


class Meter:
    """Sums of loss, terms and gradient norm since the last record, kept on the device: reading them waits for it."""

    def __init__(self, names: list[str], device: torch.device) -> None:
        self.names = ["loss", *names, "grad_norm"]
        self.sums = torch.zeros(len(self.names), device=device)
        self.restart()

    def restart(self) -> None:
        self.sums.zero_()
        self.steps = self.tokens = 0
        self.seconds = 0.0

    def add(self, losses: Tensor, grad_norm: Tensor, tokens: int, is_bad: Tensor) -> None:
        """One step: this process's shares [loss, *terms], the gradient's norm, tokens over all processes.

        A bad one adds nothing to the sums; its finder counts one step less.
        """
        self.sums += torch.cat([losses, grad_norm.reshape(1)]).masked_fill(is_bad, 0.0)
        self.steps += 1
        self.tokens += tokens

    def totals(self, accelerator: Accelerator) -> Tensor:
        """The sums over all processes."""
        totals = accelerator.reduce(self.sums.clone(), reduction="sum")
        totals[-1] /= accelerator.num_processes  # every process has the same norm
        return totals

    def parts(self, accelerator: Accelerator) -> list[list[float]]:
        """The sums of each process, for a checkpoint: added up in another order they would round to another record."""
        parts: list[list[float]] = accelerator.gather(self.sums.unsqueeze(0)).tolist()
        return parts

    def restore(self, parts: list[list[float]], accelerator: Accelerator) -> None:
        """Resume from `parts`; if they come from another number of processes, with their total in the first."""
        here, count = accelerator.process_index, accelerator.num_processes
        if len(parts) == count:
            self.sums.copy_(torch.tensor(parts[here]))
        elif here == 0:
            self.sums.copy_(torch.tensor(parts).sum(dim=0))
            self.sums[-1] *= count / len(parts)  # every process has the same norm

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over the steps since the last record, by name."""
        return dict(zip(self.names, (self.totals(accelerator) / self.steps).tolist(), strict=True))

    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)
