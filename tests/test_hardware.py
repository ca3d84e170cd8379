"""What this machine is called, and the power that it is rated at."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from palenka.util.hardware import description, device_name, rated_watts

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_a_processor_has_a_name_and_twelve_watts_a_thread() -> None:
    assert device_name(CPU).strip()
    assert rated_watts(CPU) == 12 * torch.get_num_threads()
    assert description(CPU, 4) == {
        "device": device_name(CPU), "processes": 4, "watts": 4 * 12 * torch.get_num_threads()
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "expected"),
    [("echo 700.00", 700.0), ("echo '[N/A]'", None), ("echo no such device; exit 6", None), (None, None)],
    ids=["limit", "part of a GPU", "fails", "not installed"],
)
def test_a_gpu_is_rated_at_its_power_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, expected: float | None
) -> None:
    asked = tmp_path / "asked"
    if told:
        (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\necho "$@" > {asked}\n{told}\n')
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12ab-34"))
    assert rated_watts(GPU) == expected
    if told:
        assert "--id=GPU-12ab-34 --query-gpu=power.limit" in asked.read_text()
