"""What this machine can do: device, precision, and its measured matrix rate."""

import functools
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

Precision = Literal["bf16", "fp16", "fp32"]
DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

CORE_WATTS = 12.0
"""Of any core, if nothing is known of it: the calculator of *Green Algorithms* (10.1002/advs.202100707), "Any"."""

# By the controller's name, which version 2 of control groups leaves out: folder, limit, what cannot be dropped.
CGROUP_FILES = {
    "": (Path("/sys/fs/cgroup"), "memory.max", "anon"),
    "memory": (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "total_rss"),
}


def local_device() -> torch.device:
    """The device this process computes on: its own GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def available_memory(device: torch.device) -> int:
    """Bytes that this process may still take: of a GPU's memory, or of the machine's and its job's share of it.

    Processes that torchrun started on one machine share its memory, in equal parts.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not Path("/proc/meminfo").exists():  # no Linux
        return total_memory(device)
    free = _figure(Path("/proc/meminfo"), "MemAvailable:")
    return min([free * 1024, *_left_in_groups()]) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def total_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory, or of the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def description(device: torch.device, processes: int) -> dict[str, Any]:
    """For a run's record: `device`, `processes` that have one each, and the rated `watts` of all of them."""
    watts = rated_watts(device)
    return {"device": device_name(device), "processes": processes, "watts": watts and watts * processes}


def device_name(device: torch.device) -> str:
    """What a GPU or processor is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    path = Path("/proc/cpuinfo")
    told = path.read_text(encoding="utf-8") if path.exists() else ""
    named = re.search(r"^model name\s*: (.+)$", told, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def rated_watts(device: torch.device) -> float | None:
    """Power of the device at full load: a GPU's limit, or `CORE_WATTS` for each thread; None where it is not told."""
    if device.type == "cpu":
        return CORE_WATTS * torch.get_num_threads()
    one = f"--id=GPU-{torch.cuda.get_device_properties(device).uuid}"
    asked = ["nvidia-smi", one, "--query-gpu=power.limit", "--format=csv,noheader,nounits"]
    try:
        return float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):  # not there, or not of a part of a GPU: [N/A]
        return None


def _left_in_groups() -> Iterator[int]:
    """Bytes left in each control group around this process that has a limit: a SLURM job's, a container's."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in CGROUP_FILES:
            continue
        root, limit, used = CGROUP_FILES[controllers]
        for group in (root / path[1:], *(root / path[1:]).parents):
            if (group / limit).exists() and (text := (group / limit).read_text(encoding="utf-8").strip()) != "max":
                yield max(0, int(text) - _figure(group / "memory.stat", used))


def _figure(path: Path, name: str) -> int:
    """The number after a name in one of the kernel's files."""
    found = re.search(rf"^{name} +(\d+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return int(found[1]) if found else 0


def fast_precision(device: torch.device) -> Precision:
    """bf16 where the hardware multiplies it fast, fp16 on older GPUs, else fp32; never fp16 on a CPU."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    fast_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if fast_bf16 else "fp32"


@functools.cache
def compiler_problem(device: torch.device) -> str | None:
    """Why `torch.compile` does not work here, in a line; None where it does. Tried on a small function, in seconds."""
    try:
        torch.compile(_small, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # a missing C++ compiler, Triton or header fails in many ways
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return None


def _small(values: torch.Tensor) -> torch.Tensor:
    return values.sin() + 1


def matrix_rate(device: torch.device, precision: Precision) -> float:
    """Measured rate of matrix products in FLOP/s: the best of three, a fraction of a second in all."""
    emulated = device.type == "cpu" and precision not in ("fp32", fast_precision(device))
    size = 8192 if device.type == "cuda" else 256 if emulated else 1024  # emulated ones are hundreds of times slower
    a, b = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    times = []
    for _ in range(4):
        start = time.perf_counter()
        product = a @ b
        product[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times[1:])


def copy_rate(device: torch.device) -> float:
    """Measured rate at which arrays too large for a cache are read and written, bytes/s: the best of three."""
    source = torch.ones(2**28 if device.type == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        target.copy_(source)
        target[0].item()  # waits for the device
        times.append(time.perf_counter() - start)
    return 2 * source.nbytes / min(times[1:])
