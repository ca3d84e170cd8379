"""Kinds of evaluation task: found by their folders, and one added as a file."""

import json
import re
from pathlib import Path

import pytest

from palenka.evaluation import tasks
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.items import Choice, Item
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.texts import Text, encode
from palenka.util.errors import UserError
from palenka.util.files import read_json
from palenka.util.paths import ROOT

PAGE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
WORD_ORDER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
SENTENCES = ("The cat sees a dog.", "Every child likes this river.", "One boat follows the farmer.")


@pytest.fixture
def word_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's kind of task, as a file of the door; a folder of its items."""
    (tmp_path / "door").mkdir()
    (tmp_path / "door" / "word_order.py").write_text(WORD_ORDER, encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path / "door")])
    folder = tmp_path / "items" / "backwards"
    folder.mkdir(parents=True)
    (folder / "sentences.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    return folder


def test_a_task_added_as_one_file_is_evaluated_and_known_again(
    word_order: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        evaluate([str(teacher)], word_order.parent, ["backwards"])
        shown = capsys.readouterr()
        assert "backwards, word order" in shown.out
    assert "again" not in shown.err
    path = teacher / "evaluation" / "backwards.json"
    records = [json.loads(line) for line in path.with_suffix(".items.jsonl").read_text(encoding="utf-8").splitlines()]
    scorer = Scorer.load(teacher)
    for sentence, record in zip(SENTENCES, records, strict=True):
        for text, score in zip((sentence, " ".join(sentence.split()[::-1])), record["scores"], strict=True):
            [asked] = encode([Item("", 1, (Choice("", text),))], scorer.tokenizer)
            assert score == pytest.approx(scorer.score([Text(*asked)])[0], rel=1e-6)
    share = sum(one > other for one, other in (record["scores"] for record in records)) / 3
    assert read_json(path)["scores"]["word_order"]["value"] == pytest.approx(share)


def test_a_changed_record_is_measured_again(
    word_order: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate([str(teacher)], word_order.parent, ["backwards"])
    path = teacher / "evaluation" / "backwards.items.jsonl"
    before = path.read_bytes()
    lines = [json.loads(line) for line in before.decode().splitlines()]
    path.write_text("".join(json.dumps(line | {"scores": line["scores"][::-1]}) + "\n" for line in lines))
    evaluate([str(teacher)], word_order.parent, ["backwards"])
    assert "measuring again" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", tasks.DOOR.available())
def test_each_kind_knows_a_folder_that_is_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert not tasks.DOOR.find(name).recognises(tmp_path / "empty")
    with pytest.raises(UserError, match="no .jsonl files in it"):
        tasks.read_task(tmp_path / "empty")
    with pytest.raises(UserError, match="no task 'absent'"):
        tasks.read_task(tmp_path / "absent")
