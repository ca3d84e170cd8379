"""What devices claim: peaks of matrix products, memory and bandwidth, as their makers' datasheets state them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from palenka.util.errors import UserError
from palenka.util.hardware import Precision

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """One accelerator, or this machine.

    low_rate: dense products of bf16 or fp16 with float32 accumulation, FLOP/s.
    full_rate: products of float32, FLOP/s; not TF32, which PyTorch does not use unless told to.
    memory: bytes.
    bandwidth: of its memory, bytes/s.
    """

    name: str
    low_rate: float
    full_rate: float
    memory: float
    bandwidth: float
    source: str
    kind: Literal["cpu", "cuda"] = "cuda"

    def matrix_rate(self, precision: Precision) -> float:
        return self.full_rate if precision == "fp32" else self.low_rate


# Where a datasheet gives a rate "with sparsity", half of it stands here.
DEVICES = (
    Device("A40", 149.7e12, 37.4e12, 48 * GIB, 696e9, "NVIDIA A40 datasheet, specifications"),
    Device("A100-40GB", 312e12, 19.5e12, 40 * GIB, 1555e9, "NVIDIA A100 datasheet, A100 40GB SXM"),
    Device("A100-80GB", 312e12, 19.5e12, 80 * GIB, 2039e9, "NVIDIA A100 datasheet, A100 80GB SXM"),
    Device("H100", 989e12, 67e12, 80 * GIB, 3350e9, "NVIDIA H100 datasheet, H100 SXM"),
    Device("H200", 989e12, 67e12, 141 * GIB, 4800e9, "NVIDIA H200 datasheet, H200 SXM"),
    Device("RTX-3090", 71e12, 35.6e12, 24 * GIB, 936e9, "NVIDIA Ampere GA102 whitepaper V2, appendix A"),
    Device("RTX-4090", 165.2e12, 82.6e12, 24 * GIB, 1008e9, "NVIDIA Ada whitepaper V2, appendix A"),
)
HERE = "here"


def find_devices(names: Sequence[str], here: Device) -> list[Device]:
    """Devices by name, `here` for this machine; all of them where no name is given.

    Raises:
        UserError: an unknown name.
    """
    known = {device.name.lower(): device for device in DEVICES} | {HERE: here}
    for name in names:
        if name.lower() not in known:
            listed = ", ".join([*(device.name for device in DEVICES), HERE])
            raise UserError(f"--device: unknown device {name!r}; known: {listed} (this machine)")
    return [known[name.lower()] for name in names] or list(known.values())
