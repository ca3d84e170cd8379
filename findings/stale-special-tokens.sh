#!/usr/bin/env bash
# transformers 5.23.0, a tokenizer saved into a folder that holds a special_tokens_map.json of an earlier release.
#   guess   save_pretrained replaces or removes the old file, and what was saved is read back
#   found   it leaves the old file there, which wins: the tokenizer comes back with the former bos token
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" transformers==5.23.0 torch==2.13.0 numpy==2.4.6
python - <<'PYTHON'
import json
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "goat": 2}, unk_token="goat"))
Path("folder").mkdir()
Path("folder/special_tokens_map.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
saved = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="</s>", eos_token="</s>")
saved.save_pretrained("folder")
read = AutoTokenizer.from_pretrained("folder")
print(f"bos saved: {saved.bos_token}, read back: {read.bos_token}; files: {sorted(p.name for p in Path('folder').iterdir())}")
assert (saved.bos_token, read.bos_token) == ("</s>", "<s>")
PYTHON
