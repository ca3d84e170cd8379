#!/usr/bin/env bash
# transformers 5.23.0, a folder with code of its own, read with trust_remote_code=True where a class of the same
# model_type is registered.
#   guess   the folder's code is what runs: it was asked for
#   found   the registered class is taken, without a word; the folder's code is not even imported. So an exported model
#           is tested for others only in a process that does not know the architecture
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0 numpy==2.4.6
mkdir folder
cat > folder/modeling_tiny.py <<'PYTHON'
import torch
from transformers import PretrainedConfig, PreTrainedModel

print("the folder's code is imported")


class TinyConfig(PretrainedConfig):
    model_type = "tiny_of_ours"


class Tiny(PreTrainedModel):
    config_class = TinyConfig
    whose = "the folder's"

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.post_init()
PYTHON
cat > read.py <<'PYTHON'
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel


class TinyConfig(PretrainedConfig):
    model_type = "tiny_of_ours"


class Tiny(PreTrainedModel):
    config_class = TinyConfig
    whose = "the registered one's"

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.post_init()


if "save" in sys.argv:
    config = TinyConfig(auto_map={"AutoConfig": "modeling_tiny.TinyConfig", "AutoModelForCausalLM": "modeling_tiny.Tiny"})
    Tiny(config).save_pretrained("folder")
else:
    if "register" in sys.argv:
        AutoConfig.register("tiny_of_ours", TinyConfig)
        AutoModelForCausalLM.register(TinyConfig, Tiny)
    print(AutoModelForCausalLM.from_pretrained("folder", trust_remote_code=True).whose)
PYTHON
python read.py save
alone=$(python read.py | tail -1)
registered=$(python read.py register)
echo "alone: $alone; where a class is registered: $registered"
[ "$alone" = "the folder's" ] && [ "$registered" = "the registered one's" ]
