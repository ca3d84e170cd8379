"""Model folders that lack something, or hold what they should not: evaluated, and taken for a teacher."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torture import damage
from torture.cases import RIGHT, WRONG, Case, Verdict, judge_damage, judge_refusal, shown, unharmed
from torture.damage import change_json, change_tensors
from torture.world import STORIES, World

Change = Callable[[Path], None]
EVALUATED = ("palenka", "evaluate", "teacher", "--tasks", "blimp_filtered")
TEACHERS = ("no head", "no norm", "unknown names", "nan in weights", "inf in weights", "another shape", "no tensors",
            "a cut file", "an index that names files outside", "a masked model", "an adapter beside", "one entry less",
            "no config.json", "an empty tokenizer.json")  # fmt: skip
HARMLESS = ("a cut tokenizer_config.json", "an added token behind the embeddings")
"""What may as well be scored, but then right."""
SECONDS = 60


def without(*parts: str) -> Change:
    """A folder whose weights lack all tensors with one of these in their names."""
    return tensors(lambda arrays: {k: v for k, v in arrays.items() if not any(part in k for part in parts)})


def tensors(change: Callable[[dict[str, Any]], Any]) -> Change:
    return lambda folder: change_tensors(folder / "model.safetensors", change)


def config(change: Callable[[dict[str, Any]], Any]) -> Change:
    return lambda folder: change_json(folder / "config.json", change)


def file(name: str, what: damage.Damage) -> Change:
    return lambda folder: what(folder / name)


def renamed(prefix: str) -> Change:
    return tensors(lambda arrays: {f"{prefix}{name}": array for name, array in arrays.items()})


def with_value(value: float) -> Change:
    def change(arrays: dict[str, Any]) -> None:
        name = next(name for name in sorted(arrays) if "mlp" in name and name.endswith("weight"))
        arrays[name] = arrays[name].copy()
        arrays[name].flat[0] = value

    return tensors(change)


def another_shape(arrays: dict[str, Any]) -> None:
    name = next(name for name in sorted(arrays) if "mlp" in name and name.endswith("weight"))
    arrays[name] = arrays[name][:, :-1].copy()


def as_integers(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: array.astype("int32") for name, array in arrays.items()}


def sharded(*names: str) -> Change:
    """An index that maps every tensor to the given files, one after the other."""

    def change(folder: Path) -> None:
        from safetensors.numpy import load_file

        arrays = sorted(load_file(folder / "model.safetensors"))
        weight_map = {name: names[number % len(names)] for number, name in enumerate(arrays)}
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    return change


def outside(folder: Path) -> None:
    target = folder.parent / "elsewhere.safetensors"
    (folder / "model.safetensors").rename(target)
    change_index = {"metadata": {}, "weight_map": {"transformer.wte.weight": f"../{target.name}"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(change_index), encoding="utf-8")


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def header(content: bytes) -> Change:
    """A safetensors file that begins so."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(content + path.read_bytes()[len(content) :])

    return change


def tokenizer_of(change: Callable[[dict[str, Any]], Any]) -> Change:
    return lambda folder: change_json(folder / "tokenizer.json", change)


def one_entry_more(content: dict[str, Any]) -> None:
    entry = {"id": 9999, "content": "<more>", "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}  # fmt: skip
    content["added_tokens"].append(entry)


def no_merges(content: dict[str, Any]) -> None:
    content["model"]["merges"] = [["a", "nothing"]]


FOLDERS: dict[str, Change] = {
    "no head": config(lambda of: of | {"tie_word_embeddings": False}),
    "no norm": without("ln_f"),
    "no first layer": without("h.0."),
    "no biases": without("bias"),
    "no embeddings": without("wte"),
    "no positions": without("wpe"),
    "a compiled model's names": renamed("_orig_mod."),
    "unknown names": renamed("student."),
    "one unknown tensor": tensors(lambda arrays: arrays | {"extra.weight": arrays["transformer.ln_f.weight"]}),
    "no tensors": tensors(lambda arrays: {}),
    "nan in weights": with_value(float("nan")),
    "inf in weights": with_value(float("inf")),
    "another shape": tensors(another_shape),
    "integers": tensors(as_integers),
    "a cut file": file("model.safetensors", damage.cut),
    "an empty file": file("model.safetensors", damage.empty),
    "no weights": file("model.safetensors", damage.missing),
    "NUL bytes behind the middle": file("model.safetensors", damage.nul_tail),
    "garbage": file("model.safetensors", damage.garbage),
    "bytes behind the end": file("model.safetensors", damage.appended),
    "a folder in the weights' place": file("model.safetensors", damage.a_folder),
    "a pipe in the weights' place": file("model.safetensors", damage.a_pipe),
    "a dangling link": file("model.safetensors", damage.dangling_link),
    "a header of 2^60 bytes": header((2**60).to_bytes(8, "little")),
    "a header that is no JSON": header((64).to_bytes(8, "little") + b"{" * 64),
    "a header that is a Git LFS pointer": header(b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\n"),
    "pickled weights alone": pickle_only,
    "an index that names missing files": sharded(*(f"model-0000{n}-of-00002.safetensors" for n in (1, 2))),
    "an index that names files outside": outside,
    "an adapter beside": adapter,
    "a masked model": config(lambda of: of | {"model_type": "bert", "architectures": ["BertForMaskedLM"]}),
    "an unknown architecture": config(lambda of: of | {"model_type": "goat"}),
    "code of its own": config(lambda of: of | {"model_type": "goat", "auto_map": {"AutoConfig": "goat.GoatConfig"}}),
    "one layer more": config(lambda of: of | {"n_layer": of["n_layer"] + 1}),
    "one layer less": config(lambda of: of | {"n_layer": of["n_layer"] - 1}),
    "heads that do not divide": config(lambda of: of | {"n_head": 7}),
    "one entry less": config(lambda of: of | {"vocab_size": of["vocab_size"] - 1}),
    "more entries in the config": config(lambda of: of | {"vocab_size": of["vocab_size"] + 64}),
    "a vocabulary of 10^12": config(lambda of: of | {"vocab_size": 10**12}),
    "no config.json": file("config.json", damage.missing),
    "an empty config.json": file("config.json", damage.empty),
    "a cut config.json": file("config.json", damage.cut),
    "a config.json of NUL bytes": file("config.json", damage.nul_tail),
    "a list for a config": config(lambda of: [of]),
    "no tokenizer.json": file("tokenizer.json", damage.missing),
    "an empty tokenizer.json": file("tokenizer.json", damage.empty),
    "a cut tokenizer.json": file("tokenizer.json", damage.cut),
    "an added token behind the embeddings": tokenizer_of(one_entry_more),
    "merges of unknown tokens": tokenizer_of(no_merges),
    "a cut tokenizer_config.json": file("tokenizer_config.json", damage.cut),
}


def cases(world: World) -> Iterator[Case]:
    for name in FOLDERS:
        command = " ".join(EVALUATED)
        yield Case("a damaged model folder, evaluated", f"evaluated: {name}", command, partial(evaluated, name))
    for name in TEACHERS:
        judge = partial(taught, name)
        yield Case("a damaged teacher", f"teacher: {name}", shown("distill"), judge)
    yield Case("a damaged model folder, evaluated", "evaluated: an undamaged one", " ".join(EVALUATED), undamaged)


def evaluated(name: str, world: World, folder: Path) -> Verdict:
    place = world.copy("", folder)
    FOLDERS[name](place.runs / "teacher")
    before = place.tree()
    ended = place.run(EVALUATED, seconds=SECONDS)
    if ended.code == 0 and name in HARMLESS and scores(place.runs) == right_scores(world):
        return Verdict(RIGHT)
    return unharmed(judge_refusal(ended, "runs/teacher"), place, before)


def taught(name: str, world: World, folder: Path) -> Verdict:
    place = world.copy("", folder)
    FOLDERS[name](place.runs / "teacher")
    before = place.tree()
    ended = place.run(STORIES["distill"].command, seconds=SECONDS)
    return judge_damage(ended, place, before, world.right("distill"), "runs/student/model", "teacher")


def undamaged(world: World, folder: Path) -> Verdict:
    """The way of judging itself: what is not damaged must be scored."""
    ended = world.copy("", folder).run(EVALUATED)
    return Verdict(RIGHT) if ended.code == 0 else Verdict(WRONG, ended.brief())


def scores(runs: Path) -> list[Any]:
    lines = (runs / "teacher" / "evaluation" / "blimp_filtered.items.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["scores"] for line in lines]


def right_scores(world: World) -> list[Any]:
    """Those of the undamaged folder."""
    place = world.behind("evaluate-teacher")
    return scores(place.runs)
