"""What `benchmarks/gpu.sh` measured, beside what was predicted, as Markdown: `python benchmarks/gpu_table.py OUT`."""

import json
import sys
from pathlib import Path
from typing import Any

from palenka.util.devices import DEVICES, Device

GIB = 2**30


def main() -> None:
    folder = Path(sys.argv[1])
    [step], [cost] = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("step.json", "cost.json"))
    print(table(step, cost))
    if (evaluated := folder / "evaluate.txt").exists():
        print(f"\n```\n{evaluated.read_text(encoding='utf-8').rstrip()}\n```")


def table(step: dict[str, Any], cost: dict[str, Any]) -> str:
    """A row for each way to take the step, and one for what `palenka cost` predicts of ours on this device."""
    gpu = find_device(step["machine"]["gpu"])
    name = step["machine"]["gpu"] or "no GPU: these figures say nothing"
    lines = [
        f"`{step['config']}`, {step['tokens']:,} tokens and {step['flops'] / 1e12:.2f} TFLOP a step, {step['rounds']} "
        f"rounds in turns; {name}, torch {step['machine']['torch']}",
        "",
        "| | s, median (range) | tokens/s | share of the datasheet's rate | of the measured rate | peak, GiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for peer, found in step["peers"].items():
        spread = f"{found['seconds']:.3f} ({found['fastest']:.3f}–{found['slowest']:.3f})"
        share = utilisation(step["flops"] / found["seconds"], gpu)
        lines.append(
            f"| {peer} | {spread} | {found['tokens_per_second']:,.0f} | {share} | {found['share_of_matrix_rate']:.0%} "
            f"| {found['peak_gib']:.2f} |"
        )
    if gpu and gpu.name in cost["devices"]:
        predicted = cost["devices"][gpu.name]
        seconds, memory = sum(predicted["seconds_per_step"].values()), sum(predicted["memory"].values()) / GIB
        share = utilisation(step["flops"] / seconds, gpu)
        lines.append(f"| *predicted* | {seconds:.3f} | {step['tokens'] / seconds:,.0f} | {share} | | {memory:.2f} |")
    return "\n".join(lines)


def find_device(gpu: str | None) -> Device | None:
    """The datasheet of a device by the name that CUDA gives it, such as `NVIDIA H200` or `NVIDIA A100-SXM4-80GB`."""
    words = (gpu or "").replace("-", " ").split()
    fitting = [device for device in DEVICES if device.name.split("-")[-1 if "RTX" in device.name else 0] in words]
    return next((each for each in fitting if each.name.split("-")[-1] in words), fitting[0] if fitting else None)


def utilisation(rate: float, gpu: Device | None) -> str:
    """MFU (PaLM, arXiv 2204.02311): FLOPs of matrix products in a second, as a share of what the device claims."""
    return f"{rate / gpu.low_rate:.0%}" if gpu else "–"


if __name__ == "__main__":
    main()
