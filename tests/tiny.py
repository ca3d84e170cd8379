"""The smallest things that are still whole: text, models and configurations for tests."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import edited
from pydantic import ValidationError
from transformers import PreTrainedModel

from palenka.data.integrity import sealed
from palenka.data.tokenizer import load_tokenizer, save_tokenizer, tokenizer_sha256
from palenka.models.config import ModelConfig
from palenka.models.huggingface import build_model, quiet_transformers
from palenka.runs.directory import Run
from palenka.training.build import build_loss_module, build_optimizer, find_teachers
from palenka.training.cohort import train_cohorts
from palenka.training.plan import Plan
from palenka.training.session import Session
from palenka.training.trainer import Trainer
from palenka.util.devices import GIB, HERE, Device
from palenka.util.files import read_json, write_json

VOCABULARY = 320
CPU = torch.device("cpu")
GPT2: Mapping[str, Any] = {
    "architecture": "gpt2", "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
LLAMA: Mapping[str, Any] = {
    "architecture": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2,
}  # fmt: skip
TOKEN_IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

MACHINE = Device(HERE, 2e12, 1e12, 16 * GIB, 5e10, "made up", "cpu")

DETERMINERS = ("the", "a", "this", "every", "one")
NOUNS = ("cat", "dog", "child", "teacher", "boat", "garden", "river", "letter", "window", "farmer")
VERBS = ("sees", "likes", "finds", "paints", "follows", "remembers", "watches", "carries")
DOMAINS = {"simple_wiki": 3, "gutenberg": 2}


def model(keys: Mapping[str, Any], seed: int = 0) -> PreTrainedModel:
    """A float32 model on the CPU over `VOCABULARY` tokens."""
    return build_model(ModelConfig(**keys).hugging_face(TOKEN_IDS), seed, CPU)


def problem_of(**keys: Any) -> str:
    """What is said of a model's keys that are not right."""
    with pytest.raises(ValidationError) as caught:
        ModelConfig(**keys)
    (error,) = caught.value.errors()
    return str(error["msg"])


def batch(sequences: int = 3, length: int = 12, ignored: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Random (input_ids, labels); the last `ignored` positions of the first sequence do not count."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, VOCABULARY, (sequences, length + 1), generator=generator)
    labels = tokens[:, 1:].clone()
    if ignored:
        labels[0, -ignored:] = -100
    return tokens[:, :-1].clone(), labels


def train_values(**changes: Any) -> dict[str, Any]:
    """A configuration for train.py over the data `tiny`: 8 steps of 8 sequences."""
    return {
        "name": "baseline",
        "data": {"name": "tiny", "seq_length": 16, "dev_samples": 16},
        "model": dict(LLAMA),
        "training": {
            "lr": 1e-3, "batch_size": 8, "max_steps": 8, "warmup_steps": 2, "eval_steps": 4, "logging_steps": 1,
            "precision": "fp32",
        },
        "seed": 7,
    } | changes  # fmt: skip


def distill_values(**changes: Any) -> dict[str, Any]:
    """A configuration for distill.py: a Llama student of the teacher `teacher`, by all three objectives."""
    values = train_values(name="student")
    values["student"] = values.pop("model")
    values["teachers"] = [{"run": "teacher"}]
    values["objective"] = {"hard_target": {"weight": 1.0}, "logit": {"weight": 0.5}, "hidden_state": {"weight": 0.5}}
    return values | changes


def train(plan: Plan, from_last_good: bool = False) -> Path:
    """A run to its end; its folder."""
    train_cohorts([[plan]], from_last_good)
    return plan.folder


def trainer(plan: Plan, run: Run | None = None) -> Trainer:
    """A run that is opened, and has taken no step yet."""
    session = Session(plan, run or Run(plan.config.name, plan.runs))
    session.open()
    loss = build_loss_module(plan, find_teachers(plan, session.device), session.device)
    return Trainer(session, loss, build_optimizer(plan, loss))


def write_raw_text(folder: Path) -> None:
    """`<domain>.train` and `<domain>.dev` files of a few thousand words."""
    for split, size in (("train", 150), ("dev", 30)):
        (folder / split).mkdir(parents=True)
        for domain, documents in DOMAINS.items():
            text = "\n".join(_document(random.Random(f"{split} {domain} {n}"), n, size) for n in range(documents))
            (folder / split / f"{domain}.{split}").write_text(text, encoding="utf-8")


def _document(chance: random.Random, number: int, sentences: int) -> str:
    lines = [f"= = = {chance.choice(NOUNS).title()} {number} = = =", ""]
    for _ in range(sentences):
        subject, target = (f"{chance.choice(DETERMINERS)} {chance.choice(NOUNS)}" for _ in range(2))
        lines.append(f"{subject.capitalize()} {chance.choice(VERBS)} {target}.")
    return "\n".join([*lines, ""])


def change_prepared(folder: Path, **changes: Any) -> None:
    """Make other prepared data, whole in itself: the files as they are now, and a record with these changes."""
    former = read_json(folder / "prepared.json")
    record = {key: value for key, value in former.items() if key not in ("files", "sha256")}
    write_json(folder / "prepared.json", sealed(folder, record | changes))


def other_vocabulary(data: Path) -> None:
    """Prepare the data anew, with as many entries, but other ones; the key stays, as with another tokenizer library."""

    def swap(tokenizer: dict[str, Any]) -> None:
        vocabulary = tokenizer["model"]["vocab"]
        one, other = (token for token, number in vocabulary.items() if number in (300, 301))
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]

    edited(swap)(data / "tokenizer" / "tokenizer.json")
    change_prepared(data, tokenizer_sha256=tokenizer_sha256(data / "tokenizer"))


def write_finished_run(folder: Path, keys: Mapping[str, Any], tokenizer: Path, seed: int = 1) -> Path:
    """A run directory as training leaves it, holding an untrained model; `tokenizer` is the data's tokenizer folder."""
    loaded = load_tokenizer(tokenizer)
    with quiet_transformers():
        ids = TOKEN_IDS | {"vocab_size": len(loaded)}
        build_model(ModelConfig(**keys).hugging_face(ids), seed, CPU).save_pretrained(folder)
    save_tokenizer(loaded, folder)
    write_json(folder / "identity.json", {"config": {}, "data": "", "teachers": {}})
    write_json(folder / "result.json", {"name": folder.name, "architecture": keys["architecture"]})
    return folder
