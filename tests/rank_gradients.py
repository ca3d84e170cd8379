"""One process of several: the gradients of every objective alone after an exchange, written as rank-<n>.safetensors."""

import sys
from pathlib import Path

import terms
import torch
from safetensors.torch import save_file
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from palenka import objectives
from palenka.data.batch import Batch
from palenka.objectives import TokenObjective


def exchanged(name: str, rank: int, processes: int) -> dict[str, Tensor]:
    """The gradients as training forms them: shares of a sum, which the exchange averages."""
    inputs, labels = terms.uneven_batch(2 * processes)
    rows = slice(2 * rank, 2 * rank + 2)
    model = terms.loss_module(name, **terms.ADDITIVE.get(name, {}))
    in_part = not issubclass(objectives.find(name), TokenObjective)
    shared = DistributedDataParallel(model, find_unused_parameters=in_part)
    loss, _ = shared(Batch(inputs[rows], labels[rows]), terms.whole(labels))
    (loss * processes).backward()
    return {f"{name}/{key}": gradient for key, gradient in terms.gradients(model).items()}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    written: dict[str, Tensor] = {}
    for name in objectives.available():
        written |= exchanged(name, rank, processes)
    save_file(written, folder / f"rank-{rank}.safetensors")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
