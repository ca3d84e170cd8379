"""What `palenka export` writes is the same model, for others: with the code that transformers 4.51 and 5 run."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from conftest import Call
from read_with_code import read_folder
from torch import Tensor

from palenka import cli
from palenka.data.tokenizer import load_tokenizer
from palenka.models.folder import load_frozen
from palenka.util.files import read_json

HERE = Path(__file__).parent
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
         "initializer_range": 0.5}  # fmt: skip
MODELS: dict[str, Mapping[str, Any]] = {
    "ltg_bert": {"architecture": "ltg_bert", **SIZES}, "gpt_bert": {"architecture": "gpt_bert", **SIZES},
}  # fmt: skip
TIME = 40
IDS = torch.randint(4, tiny.VOCABULARY, (2, TIME), generator=torch.Generator().manual_seed(0))
MASK = torch.ones(2, TIME, dtype=torch.long)
MASK[0, 30:] = 0
MASK[1, :7] = 0


def export(call: Call, runs: Path, prepared: Path, name: str) -> Path:
    """The folder that a finished run is exported into."""
    tiny.write_finished_run(runs / name, MODELS[name], prepared / "tokenizer")
    code, output, errors = call(cli.main, ["export", name, "--with-code"])
    assert code == 0, errors
    assert output == f"written: {runs / name / 'export'}\n"
    return runs / name / "export"


@torch.no_grad()
def ours(folder: Path) -> dict[str, Tensor]:
    """Logits as our own architecture computes them from additive masks."""
    model = load_frozen(folder, torch.float32, tiny.CPU)
    least = torch.finfo(torch.float32).min
    seen = MASK[:, None, None].bool()
    ahead = torch.ones(TIME, TIME, dtype=torch.bool).triu(1)
    masks = {
        "causal": None, "causal, padded": torch.zeros(2, 1, TIME, TIME).masked_fill(ahead | ~seen, least),
        "masked": torch.zeros(1, 1, TIME, TIME),
        "masked, padded": torch.zeros(2, 1, TIME, TIME).masked_fill(~seen, least),
    }  # fmt: skip
    return {name: model(IDS, attention_mask=mask).logits for name, mask in masks.items()}


def assert_same(found: dict[str, Any], folder: Path, tokenizer: Path) -> None:
    for name, logits in ours(folder).items():
        assert torch.allclose(torch.tensor(found[name]), logits, rtol=1e-4, atol=1e-4), name
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
    forms = {"causal": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM"}
    return {form: getattr(module, auto_map[key].removeprefix(f"{name}.")) for form, key in forms.items()}


@pytest.mark.parametrize("name", MODELS)
def test_its_code_computes_the_same(
    name: str, call: Call, runs_folder: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(call, runs_folder, prepared, name)
    found = read_folder(str(folder), IDS, MASK, classes_of(folder, name, monkeypatch))
    assert_same(found, runs_folder / name, prepared / "tokenizer")
    padded, causal = (torch.tensor(found[key]) for key in ("causal, padded", "causal"))
    assert torch.allclose(padded[0, :30], causal[0, :30], rtol=1e-4, atol=1e-4)
    assert padded.isfinite().all()


def test_palenka_reads_it_by_its_own_code(call: Call, runs_folder: Path, prepared: Path) -> None:
    folder = export(call, runs_folder, prepared, "gpt_bert")
    (folder / "gpt_bert.py").write_text("raise SystemExit('code of a folder')")
    found, expected = ours(folder), ours(runs_folder / "gpt_bert")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.usefixtures("processes")
def test_both_releases_of_transformers_load_it_without_palenka(
    call: Call, runs_folder: Path, prepared: Path, tmp_path: Path
) -> None:
    python = os.environ.get("PALENKA_TRANSFORMERS_4")
    folders = {name: export(call, runs_folder, prepared, name) for name in MODELS}
    inputs = tmp_path / "inputs.json"
    inputs.write_text(json.dumps({"ids": IDS.tolist(), "mask": MASK.tolist()}), encoding="utf-8")
    for release, interpreter in {"5.": sys.executable, "4.51.": python}.items():
        if not interpreter:
            pytest.skip("PALENKA_TRANSFORMERS_4 names no Python with transformers 4.51")
        command = [interpreter, str(HERE / "read_with_code.py"), str(inputs), *map(str, folders.values())]
        places = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, env=os.environ | places, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        answer = json.loads(ended.stdout)
        assert answer["version"].startswith(release) and not answer["palenka"]
        for name, found in zip(folders, answer["folders"], strict=True):
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
    tiny.write_finished_run(runs_folder / "own", MODELS["ltg_bert"], prepared / "tokenizer")
    for arguments, expected in {
        ("own",): "transformers does not know the architecture ltg_bert; add --with-code",
        ("teacher", "--with-code"): "transformers knows gpt2 without code; leave --with-code out",
        ("teacher", "--out", str(tmp_path)): f"{tmp_path}: is there already; name another folder with --out",
        ("nobody",): "no run 'nobody'",
    }.items():
        code, _, errors = call(cli.main, ["export", *arguments])
        assert code == 2 and expected in errors
    assert sorted(path.name for path in runs_folder.iterdir()) == ["own", "teacher"]
