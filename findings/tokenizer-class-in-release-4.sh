#!/usr/bin/env bash
# A tokenizer saved by transformers 5.23.0 as PreTrainedTokenizerFast, read by transformers 4.51.3.
#   guess   its tokenizer_config.json names that class, which both releases have, and AutoTokenizer of both reads it
#   found   it names TokenizersBackend, which release 4 does not have: AutoTokenizer refuses the folder there, though
#           tokenizer.json is the same, and PreTrainedTokenizerFast itself reads it
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 numpy==2.4.6
python - <<'PYTHON'
import json
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

backend = Tokenizer(models.WordLevel({"<s>": 0, "goat": 1}, unk_token="goat"))
PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>").save_pretrained("folder")
named = json.loads(Path("folder/tokenizer_config.json").read_text())["tokenizer_class"]
print(f"the saved class: {named}")
assert named == "TokenizersBackend"
PYTHON
python -m pip install --quiet --disable-pip-version-check transformers==4.51.3
python - <<'PYTHON'
from transformers import AutoTokenizer, PreTrainedTokenizerFast

assert PreTrainedTokenizerFast.from_pretrained("folder").bos_token == "<s>"
try:
    AutoTokenizer.from_pretrained("folder")
except ValueError as error:
    print(f"release 4: {error}")
    assert "TokenizersBackend" in str(error)
else:
    raise AssertionError("release 4 reads it")
PYTHON
