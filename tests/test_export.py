"""What `palenka export` writes is the same model, for others: with the code that transformers 4.51 and 5 run."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from read_with_code import read_folder
from shared_fixtures import Call
from torch import Tensor

from palenka import cli
from palenka.data.tokenizer import load_tokenizer
from palenka.models.folder import load_frozen
from palenka.util.files import read_json

HERE = Path(__file__).parent
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
         "initializer_range": 0.5}  # fmt: skip
LEARNED = {"ltg_bert": "masked", "gpt_bert": "causal", "llama": "mntp", "gpt2": "masked"}
FORMS = {
    "causal": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM", "states": "AutoModel",
    "classes": "AutoModelForSequenceClassification",
}  # fmt: skip
TIME = 40
IDS = torch.randint(4, tiny.VOCABULARY, (2, TIME), generator=torch.Generator().manual_seed(0))
MASK = torch.ones(2, TIME, dtype=torch.long)
MASK[0, 30:] = 0
MASK[1, :7] = 0


def export(call: Call, runs: Path, prepared: Path, name: str) -> Path:
    """The folder that a finished run is exported into."""
    tiny.write_finished_run(runs / name, {"architecture": name, **SIZES}, prepared / "tokenizer")
    (runs / name / "config.yaml").write_text(f"paradigm: {LEARNED[name]}\n")
    code, output, errors = call(cli.main, ["export", name, "--with-code"])
    assert code == 0, errors
    assert output == f"written: {runs / name / 'export'}\n"
    return runs / name / "export"


@torch.no_grad()
def ours(folder: Path, name: str) -> dict[str, Tensor]:
    """What our own model computes from additive masks: logits of tokens and of classes, and states."""
    model = load_frozen(folder, torch.float32, tiny.CPU)
    least = torch.finfo(torch.float32).min
    seen = MASK[:, None, None].bool()
    ahead = torch.ones(TIME, TIME, dtype=torch.bool).triu(1)
    masks = {
        "causal": None, "causal, padded": torch.zeros(2, 1, TIME, TIME).masked_fill(ahead | ~seen, least),
        "masked": torch.zeros(1, 1, TIME, TIME),
        "masked, padded": torch.zeros(2, 1, TIME, TIME).masked_fill(~seen, least),
    }  # fmt: skip
    positions = {"": torch.arange(TIME)[None], ", padded": (MASK.cumsum(-1) - 1).clamp(min=0)}
    found = {}
    for form, mask in masks.items():
        kind, padding = form.removesuffix(", padded"), form[6:]
        output = model(
            IDS, attention_mask=mask, position_ids=positions[padding], output_hidden_states=True, use_cache=False
        )
        found[form] = output.logits
        if kind == ("causal" if LEARNED[name] == "causal" else "masked"):
            states = output.hidden_states[-1]
            found[f"states{padding}"] = states
            ends = {"causal": ([39, 39], [29, 39]), "masked": ([0, 0], [0, 7])}[kind][bool(padding)]
            weight = torch.linspace(-1, 1, 2 * states.shape[-1]).view(2, -1)
            found[f"classes{padding}"] = states[[0, 1], ends] @ weight.T
    return found


def assert_same(found: dict[str, Any], folder: Path, tokenizer: Path) -> None:
    expected = ours(folder, folder.name)
    assert len(expected) == 8
    for name, values in expected.items():
        if name in found:
            assert torch.allclose(torch.tensor(found[name]), values, rtol=1e-4, atol=1e-4), name
    encode = load_tokenizer(tokenizer)
    one, cat, dog = (encode(text)["input_ids"] for text in ("The cat.", "A cat.", "A dog."))
    assert found["one"] == [1, *one, 2]
    assert found["two"] == [1, *cat, 2, *dog, 2]


def classes_of(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The classes of the code; AutoModel would prefer those that Palenka made known to it."""
    auto_map = read_json(folder / "config.json")["auto_map"]
    specification = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, name, module)
    specification.loader.exec_module(module)
    forms = {form: auto_map[key] for form, key in FORMS.items() if key in auto_map}
    return {form: getattr(module, path.removeprefix(f"{name}.")) for form, path in forms.items()}


@pytest.mark.parametrize("name", LEARNED)
def test_its_code_computes_the_same(
    name: str, call: Call, runs_folder: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(call, runs_folder, prepared, name)
    classes = classes_of(folder, name, monkeypatch)
    assert FORMS.keys() - classes.keys() == ({"causal"} if name in ("llama", "gpt2") else set())
    found = read_folder(str(folder), IDS, MASK, classes)
    assert_same(found, runs_folder / name, prepared / "tokenizer")
    assert torch.tensor(found["masked, padded"]).isfinite().all()


@pytest.mark.slow
def test_a_text_is_the_same_with_padding_on_either_side(
    call: Call, runs_folder: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, pad = IDS[:1, :20], torch.zeros(1, 6, dtype=torch.long)
    ids = torch.cat([torch.cat([text, pad], 1), torch.cat([pad, text], 1)])
    seen = torch.cat([torch.cat([pad * 0 + 1, text * 0 + 1], 1).flip(1)] * 2)
    seen[0, 20:], seen[1, :6] = 0, 0
    for name in LEARNED:
        classes = classes_of(export(call, runs_folder, prepared, name), name, monkeypatch)
        found = read_folder(str(runs_folder / name / "export"), ids, seen, classes)
        right, left = torch.tensor(found["states, padded"])
        assert torch.allclose(right[:20], left[6:], rtol=1e-4, atol=1e-4)
        right, left = torch.tensor(found["classes, padded"])
        assert torch.allclose(right, left, rtol=1e-4, atol=1e-4)


def test_palenka_reads_it_by_its_own_code(call: Call, runs_folder: Path, prepared: Path) -> None:
    folder = export(call, runs_folder, prepared, "gpt_bert")
    (folder / "gpt_bert.py").write_text("raise SystemExit('code of a folder')")
    found, expected = ours(folder, "gpt_bert"), ours(runs_folder / "gpt_bert", "gpt_bert")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.usefixtures("processes")
def test_both_releases_of_transformers_load_it_without_palenka(
    call: Call, runs_folder: Path, prepared: Path, tmp_path: Path
) -> None:
    python = os.environ.get("PALENKA_TRANSFORMERS_4")
    folders = {name: export(call, runs_folder, prepared, name) for name in LEARNED}
    inputs = tmp_path / "inputs.json"
    inputs.write_text(json.dumps({"ids": IDS.tolist(), "mask": MASK.tolist()}), encoding="utf-8")
    for release, interpreter in {"5.": sys.executable, "4.51.": python}.items():
        if not interpreter:
            pytest.skip("PALENKA_TRANSFORMERS_4 names no Python with transformers 4.51")
        read = {name: folder for name, folder in folders.items() if release == "5." or name != "gpt2"}
        command = [interpreter, str(HERE / "read_with_code.py"), str(inputs), *map(str, read.values())]
        places = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, env=os.environ | places, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        answer = json.loads(ended.stdout)
        assert answer["version"].startswith(release) and not answer["palenka"]
        for name, found in zip(read, answer["folders"], strict=True):
            if name in ("llama", "gpt2"):
                del found["causal, padded"]  # a class of transformers, with padding in its own way
            assert_same(found, runs_folder / name, prepared / "tokenizer")


def test_what_transformers_knows_is_copied(call: Call, teacher: Path, tmp_path: Path) -> None:
    (teacher / "metrics.jsonl").write_text("")
    (teacher / "config.yaml").write_text("name: teacher\n")
    code, _, errors = call(cli.main, ["export", "teacher", "--out", str(tmp_path / "copy")])
    assert code == 0, errors
    expected = {"config.json", "config.yaml", "generation_config.json", "model.safetensors", "special_tokens_map.json",
                "tokenizer.json", "tokenizer_config.json"}  # fmt: skip
    assert {path.name for path in (tmp_path / "copy").iterdir()} - {"README.md"} == expected
    assert all((tmp_path / "copy" / name).read_bytes() == (teacher / name).read_bytes() for name in expected)


def test_what_is_refused(call: Call, teacher: Path, runs_folder: Path, prepared: Path, tmp_path: Path) -> None:
    tiny.write_finished_run(runs_folder / "own", {"architecture": "ltg_bert", **SIZES}, prepared / "tokenizer")
    for arguments, expected in {
        ("own",): "transformers does not know the architecture ltg_bert; add --with-code",
        ("teacher", "--with-code"): "transformers knows a causal gpt2 without code; leave --with-code out",
        ("teacher", "--out", str(tmp_path)): f"{tmp_path}: is there already; name another folder with --out",
        ("nobody",): "no run 'nobody'",
    }.items():
        code, _, errors = call(cli.main, ["export", *arguments])
        assert code == 2 and expected in errors
    assert sorted(path.name for path in runs_folder.iterdir()) == ["own", "teacher"]
