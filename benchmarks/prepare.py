"""From clean text to tokens: `palenka prepare` against the usual way with tokenizers and datasets.

    python benchmarks/prepare.py data/strict-small/text/train --out prepare.json

The folder holds a `.txt` file a domain, as a prepared data folder does below text/. The peer does what Hugging Face's
language-modelling examples do: train a BPE tokenizer of the same kind with the tokenizers library, tokenise lines with
`datasets.map` in as many processes as there are threads, and cut the stream into blocks of 128. Ours reads the text as
plain domains, cleans it (there is little left to do), and writes words, lines and documents beside the tokens. Both run
as processes of their own, imports included, and take turns; the numbers of tokens must agree, and the first round is
not timed. Processor time is that of all processes together, peak memory the largest one's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from palenka.cli import command
from palenka.data.tokenizer import NORMALIZER, PRE_TOKENIZER, SPECIAL_TOKENS, load_tokenizer
from palenka.data.tokens import TokenSplit
from palenka.util.errors import UserError
from palenka.util.files import read_json

BLOCK = 128
DEV_FRACTION = 0.01


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--vocab-size", type=int, default=16000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("prepare.json"))
    parser.add_argument("--as-peer", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_peer:
        prepare_plainly(arguments.text, arguments.as_peer, arguments.vocab_size, arguments.threads)
        return
    calls: dict[str, list[dict[str, float]]] = {"palenka": [], "tokenizers + datasets": []}
    for number in range(arguments.rounds + 1):
        for peer, of_peer in calls.items():
            of_peer.append(call(peer, arguments))
            print(json.dumps({"peer": peer, "round": number} | of_peer[-1]), file=sys.stderr, flush=True)
        ours, theirs = (of_peer[-1]["tokens"] for of_peer in calls.values())
        if abs(ours - theirs) > 0.002 * theirs:  # what cleaning drops, and other merges on the text held out
            raise UserError(f"{ours:,} tokens here, {theirs:,} there: not the same work")
    medians = {peer: statistics.median(each["seconds"] for each in timed[1:]) for peer, timed in calls.items()}
    found = {"medians": medians, "threads": arguments.threads, "calls": calls}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    for peer, timed in calls.items():
        seconds = [each["seconds"] for each in timed[1:]]
        ratio = medians["tokenizers + datasets"] / medians[peer]
        print(f"{peer:24}{medians[peer]:8.1f} s ({min(seconds):.1f}-{max(seconds):.1f})"
              f"{timed[-1]['peak_mib']:8.0f} MiB{ratio:7.2f}x")  # fmt: skip


def call(peer: str, arguments: argparse.Namespace) -> dict[str, float]:
    """One whole preparation: seconds, processor seconds, peak memory, tokens."""
    with tempfile.TemporaryDirectory() as folder:
        if peer == "palenka":
            line = ["-m", "palenka", "prepare", "--train", str(arguments.text), "--dev-fraction", str(DEV_FRACTION),
                    "--name", "timed", "--vocab-size", str(arguments.vocab_size)]  # fmt: skip
        else:
            line = [__file__, str(arguments.text), "--as-peer", folder, "--vocab-size", str(arguments.vocab_size),
                    "--threads", str(arguments.threads)]  # fmt: skip
        environment = os.environ | {"PALENKA_DATA": folder, "HF_HOME": folder, "HF_HUB_OFFLINE": "1"}
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *line], env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            raise UserError(f"{peer}: ended with status {status}")
        counted = tokens_of_ours(Path(folder)) if peer == "palenka" else read_json(Path(folder) / "counted.json")
        processor = usage.ru_utime + usage.ru_stime
        return {"seconds": seconds, "processor_seconds": processor, "peak_mib": usage.ru_maxrss / 1024, **counted}


def tokens_of_ours(data: Path) -> dict[str, int]:
    """Tokens of text: without those of ends of lines and documents."""
    loaded = load_tokenizer(data / "timed" / "tokenizer")
    apart = [*loaded("\n", add_special_tokens=False)["input_ids"], loaded.eos_token_id]
    counts = [(~np.isin(TokenSplit.open(data / "timed" / split).tokens, apart)).sum() for split in ("train", "dev")]
    return {"tokens": int(sum(counts))}


def prepare_plainly(text: Path, folder: Path, vocab_size: int, processes: int) -> None:
    """The peer's way: a line is an example; blocks of one stream."""
    from datasets import load_dataset

    files = [str(path) for path in sorted(text.glob("*.txt"))]
    lines = load_dataset("text", data_files=files, split="train", cache_dir=str(folder / "cache"))
    lines = lines.filter(lambda batch: [bool(line.strip()) for line in batch["text"]], batched=True)
    trained = train_plainly((line for batch in lines.iter(4096) for line in batch["text"]), vocab_size)

    def tokenise(batch: dict[str, Any]) -> dict[str, Any]:
        return {"input_ids": trained(batch["text"], add_special_tokens=False)["input_ids"]}

    def group(batch: dict[str, Any]) -> dict[str, Any]:
        stream = [token for ids in batch["input_ids"] for token in ids]
        whole = len(stream) // BLOCK * BLOCK
        return {"input_ids": [stream[start : start + BLOCK] for start in range(0, whole, BLOCK)]}

    tokenised = lines.map(tokenise, batched=True, num_proc=processes, remove_columns=["text"])
    counted = sum(len(ids) for batch in tokenised.iter(4096) for ids in batch["input_ids"])
    tokenised.map(group, batched=True, num_proc=processes).save_to_disk(str(folder / "blocks"))
    (folder / "counted.json").write_text(json.dumps({"tokens": counted}))


def train_plainly(lines: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer like ours, trained by the library on the lines themselves."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer, backend.pre_tokenizer = NORMALIZER, PRE_TOKENIZER
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


if __name__ == "__main__":
    main()
