#!/usr/bin/env bash
# accelerate 1.15.0, Accelerator(mixed_precision="fp16", cpu=True).
#   guess   an error, or products in float16
#   found   accepted without a warning and reported as fp16, but there is neither scaler nor autocast: all is float32
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
python -W error - <<'PYTHON'
import torch
from accelerate import Accelerator

accelerator = Accelerator(mixed_precision="fp16", cpu=True)
layer = accelerator.prepare(torch.nn.Linear(4, 4))
with accelerator.autocast():
    product = torch.ones(2, 4) @ torch.ones(4, 4)
print(f"mixed_precision {accelerator.mixed_precision}, scaler {accelerator.scaler}, product in {product.dtype}, "
      f"output in {layer(torch.ones(1, 4)).dtype}")
assert accelerator.mixed_precision == "fp16" and accelerator.scaler is None and product.dtype == torch.float32
PYTHON
