#!/usr/bin/env bash
# torch 2.13.0 and safetensors 0.8.0, writing a file that the system does not let grow (a limit of 64 kB stands for a
# disk that is full).
#   guess   an OSError that names the file
#   found   torch.save to a path: a RuntimeError of its zip writer, without errno or OSError behind it, and a part of the
#           file is left; safetensors: a SafetensorError, which is no OSError and names no file
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
python - <<'PYTHON'
import resource
from pathlib import Path

import torch
from safetensors.torch import save_file

resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
tensors = {"a": torch.zeros(1000, 1000)}
for name, save in (("torch.save", torch.save), ("safetensors", save_file)):
    path = f"{name}.file"
    try:
        save(tensors, path)
    except Exception as error:
        chain = [error]
        while chain[-1].__cause__ or chain[-1].__context__:
            chain.append(chain[-1].__cause__ or chain[-1].__context__)
        print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}; left: {Path(path).exists()}")
        assert not any(isinstance(each, OSError) for each in chain) and path not in str(error)
    else:
        raise SystemExit(f"{name}: no error")
PYTHON
