"""Results on the disk: shown again only where they are of the same model and data, and whole; else measured anew."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from damage import Damage, bit_flip, cut, edited, empty, missing, nul_bytes
from made_items import EWOK, write_lines, write_pairs
from shared_fixtures import Call

from palenka.cli import main
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.scoring import Scorer
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json


@pytest.fixture(scope="module")
def evaluated_once(prepared_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, items and a run `student` that was evaluated."""
    root = tmp_path_factory.mktemp("evaluated")
    data = Path(shutil.copytree(prepared_once, root / "data" / "tiny", ignore=shutil.ignore_patterns("floors")))
    write_pairs(root / "items" / "blimp_filtered")
    write_lines(root / "items" / "ewok_filtered" / "social.jsonl", EWOK)
    run = tiny.write_finished_run(root / "runs" / "student", tiny.LLAMA, data / "tokenizer")
    (run / "config.yaml").write_text(yaml.safe_dump({"name": "student", "data": {"name": "tiny", "seq_length": 16}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_DATA", str(root / "data"))
        patch.setenv("PALENKA_RUNS", str(root / "runs"))
        evaluate(["student"], root / "items")
    return root


@pytest.fixture
def root(evaluated_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which everything points to."""
    folder = Path(shutil.copytree(evaluated_once, tmp_path / "root"))
    for name in ("data", "runs"):
        monkeypatch.setenv(f"PALENKA_{name.upper()}", str(folder / name))
    monkeypatch.setenv("PALENKA_EVAL", str(folder / "items"))
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Filled with the folders of models that are loaded."""
    loaded: list[Path] = []
    load = Scorer.load_each
    monkeypatch.setattr(Scorer, "load_each", lambda folder: loaded.append(folder) or load(folder))
    return loaded


def files(folder: Path) -> dict[str, Any]:
    """Content of all files that are not bytes for bytes the same each time: floats apart."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def first_score(line: str, value: Any) -> str:
    record = json.loads(line)
    record["scores"][0] = value
    return json.dumps(record)


def items_edited(change: Callable[[list[str]], list[str]]) -> Damage:
    return lambda path: path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


RESULT: dict[str, Damage] = {
    "accuracy": edited(lambda found: found.update(accuracy=0.99)),
    "n": edited(lambda found: found.update(n=5)),
    "ties": edited(lambda found: found.update(ties=0)),
    "tie_items": edited(lambda found: found.update(tie_items={})),
    "of a subtask": edited(lambda found: found["subtasks"]["order"].update(accuracy=0.25)),
    "no subtasks": edited(lambda found: found.pop("subtasks")),
    "no identity": edited(lambda found: found.pop("identity")),
    "a text": edited(lambda found: found.update(accuracy="high")),
    "a list": lambda path: path.write_text("[]\n"),
    "cut": cut,
    "emptied": empty,
    "zeroed": nul_bytes,
}
ITEMS: dict[str, Damage] = {
    "a score": items_edited(lambda lines: [first_score(lines[0], 0.0), *lines[1:]]),
    "not a number": items_edited(lambda lines: [first_score(lines[0], None), *lines[1:]]),
    "not finite": items_edited(lambda lines: [first_score(lines[0], float("nan")), *lines[1:]]),
    "a line less": items_edited(lambda lines: lines[:-1]),
    "a line more": items_edited(lambda lines: [*lines, lines[0]]),
    "another order": items_edited(lambda lines: lines[::-1]),
    "no record": items_edited(lambda lines: ["7", *lines[1:]]),
    "cut": cut,
    "emptied": empty,
    "zeroed": nul_bytes,
    "removed": missing,
}
TEXT: dict[str, Damage] = {
    "cross_entropy": edited(lambda found: found["splits"]["dev"].update(cross_entropy=1.0)),
    "bits_per_byte": edited(lambda found: found["splits"]["dev"].update(bits_per_byte=1.0)),
    "of a domain": edited(lambda found: found["splits"]["dev"]["domains"]["gutenberg"].update(cross_entropy=1.0)),
    "tokens": edited(lambda found: found["splits"]["dev"]["domains"]["gutenberg"].update(tokens=7)),
    "no domains": edited(lambda found: found["splits"]["dev"].pop("domains")),
    "no splits": edited(lambda found: found.pop("splits")),
    "none at all": edited(lambda found: found.update(splits={})),
    "cut": cut,
    "zeroed": nul_bytes,
    "a list": RESULT["a list"],
}
BASELINES: dict[str, Damage] = {
    "accuracy": edited(lambda found: found["zipf"].update(accuracy=0.99)),
    "of a subtask": edited(lambda found: found["ngram"]["subtasks"]["order"].update(accuracy=0.77)),
    "n": edited(lambda found: found["ngram"]["subtasks"]["order"].update(n=7)),
    "one kind": edited(lambda found: found.pop("ngram")),
    "of other items": edited(lambda found: found.update(items="0" * 64)),
    "cut": cut,
    "emptied": empty,
    "a list": RESULT["a list"],
}
BROKEN = [
    *(("evaluation/blimp_filtered.json", name, damage) for name, damage in RESULT.items()),
    *(("evaluation/blimp_filtered.items.jsonl", name, damage) for name, damage in ITEMS.items()),
    *(("evaluation/cross_entropy.json", name, damage) for name, damage in TEXT.items()),
    *(("floors", name, damage) for name, damage in BASELINES.items()),
]


def test_what_is_whole_is_shown_again(root: Path, loads: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    before = files(root)
    evaluate(["student"], root / "items")
    assert files(root) == before and loads == []
    assert "measuring again" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "damage"), [pytest.param(n, d, id=f"{Path(n).name} {what}") for n, what, d in BROKEN]
)
def test_a_broken_result_is_measured_anew(
    root: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Damage
) -> None:
    before = files(root)
    [path] = [root / "runs" / "student" / name] if name != "floors" else (root / "data").rglob("floors/blimp*.json")
    damage(path)
    capsys.readouterr()
    evaluate(["student"], root / "items")
    shown = capsys.readouterr()
    assert re.search(rf"{path.with_suffix('').with_suffix('').name}\S*?(, line 1)?: .*; measuring again", shown.err)
    assert files(root) == before
    evaluate(["student"], root / "items")
    again = capsys.readouterr()
    assert "measuring again" not in again.err and again.out == shown.out


TOKENIZER_CHANGES: dict[str, Damage] = {
    "special_tokens_map.json": edited(lambda names: names.update(bos_token="</s>")),
    "tokenizer_config.json": edited(lambda settings: settings.update(bos_token="</s>")),
    "tokenizer.json": edited(lambda content: content["added_tokens"].reverse()),
    "added_tokens.json": lambda path: write_json(path, {"<more>": 319}),
    "vocab.txt": lambda path: path.write_text("a\n"),
    "spiece.model": lambda path: path.write_bytes(b"a"),
    "config.json": edited(lambda keys: keys.update(bos_token_id=2)),
}


@pytest.mark.parametrize("name", TOKENIZER_CHANGES)
def test_every_file_that_decides_ids_counts(root: Path, loads: list[Path], name: str) -> None:
    before = EvaluatedModel.find("student").fingerprint
    TOKENIZER_CHANGES[name](root / "runs" / "student" / name)
    assert EvaluatedModel.find("student").fingerprint != before
    evaluate(["student"], root / "items", ["blimp_filtered"])
    assert len(loads) == 1


@pytest.mark.parametrize("name", ["README.md", "generation_config.json", "chat_template.jinja", "metrics.jsonl"])
def test_other_files_do_not_count(root: Path, name: str) -> None:
    before = EvaluatedModel.find("student").fingerprint
    (root / "runs" / "student" / name).write_text("{}\n")
    assert EvaluatedModel.find("student").fingerprint == before


def test_text_in_another_vocabulary_is_not_measured(root: Path, call: Call) -> None:
    """Ids of one tokenizer mean nothing to a model of another."""
    tiny.other_vocabulary(root / "data" / "tiny")
    code, shown, errors = call(main, ["evaluate", "student", "--tasks", "cross_entropy"])
    assert code == 2 and "Traceback" not in errors
    assert "cannot measure cross_entropy: its data, 'tiny', was prepared again with another vocabulary" in errors
    (root / "runs" / "student" / "result.json").unlink()  # a made-up one, which no model card can be written of
    code, shown, _ = call(main, ["evaluate", "student"])
    assert code == 0
    assert "no simple baselines: its data, 'tiny', was prepared again with another vocabulary" in shown
    assert "nats per token" not in shown
    assert read_json(root / "runs" / "student" / "evaluation" / "blimp_filtered.json")["floors"]["ngram"] is None


@pytest.mark.parametrize("name", ["dev/tokens.bin", "train/tokens.bin", "text/train/gutenberg.txt"])
def test_nothing_is_measured_on_damaged_data(root: Path, name: str) -> None:
    shutil.rmtree(root / "data" / "tiny" / "floors")
    (root / "runs" / "student" / "evaluation" / "cross_entropy.json").unlink()
    bit_flip(root / "data" / "tiny" / name)
    with pytest.raises(UserError, match=f"{name}: other content"):
        evaluate(["student"], root / "items")
    missing(root / "data" / "tiny" / name)
    with pytest.raises(UserError, match=f"{name}: missing"):
        evaluate(["student"], root / "items")


@pytest.mark.parametrize("name", ["blimp_filtered.json", "blimp_filtered.items.jsonl", "cross_entropy.json"])
def test_what_cannot_be_written_over_is_said_before_any_work(root: Path, loads: list[Path], name: str) -> None:
    path = root / "runs" / "student" / "evaluation" / name
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=f"{name}: not a regular file, where a result may have to be written"):
        evaluate(["student"], root / "items")
    assert loads == []
