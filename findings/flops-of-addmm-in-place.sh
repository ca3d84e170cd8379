#!/usr/bin/env bash
# torch 2.13.0, FlopCounterMode (the counter that papers' FLOPs are taken from) over one product of 8 x 16 by 16 x 32.
#   guess   2 x 8 x 16 x 32 = 8,192 FLOPs, however the product is written
#   found   mm, addmm (with out=, too) and baddbmm count; addmm_ and baddbmm_, in place, count nothing
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" torch==2.13.0 numpy==2.4.6
python - <<'PYTHON'
import torch
from torch.utils.flop_counter import FlopCounterMode

left, right, total = torch.ones(8, 16), torch.ones(16, 32), torch.zeros(8, 32)
batch = (torch.zeros(1, 8, 32), left[None], right[None])
ways = {
    "mm": lambda: torch.mm(left, right),
    "addmm": lambda: torch.addmm(total, left, right),
    "addmm, out=": lambda: torch.addmm(total, left, right, out=total),
    "addmm_": lambda: total.addmm_(left, right),
    "baddbmm": lambda: torch.baddbmm(*batch),
    "baddbmm_": lambda: batch[0].baddbmm_(*batch[1:]),
}
for way, product in ways.items():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        product()
    print(f"{way}: {counter.get_total_flops():,} FLOPs")
    assert counter.get_total_flops() == (0 if way.endswith("_") else 8192)
PYTHON
