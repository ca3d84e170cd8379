"""What a probe measures of a configuration."""

from dataclasses import dataclass

from palenka.util.devices import Device


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    seconds: of one optimizer step as configured, by median; fastest and slowest: their spread.
    tokens_per_second: in training.
    device: this machine, with the rates measured beside the steps.
    share: of its matrix rate that the steps reached.
    memory: bytes at the peak: of the process on a CPU, of PyTorch's allocations on a GPU.
    sequences: on which a step was measured; fewer than a batch where that takes long.
    """

    seconds: float
    fastest: float
    slowest: float
    tokens_per_second: float
    device: Device
    share: float
    memory: int
    sequences: int
