"""Reading items: every shape, and every way a file can be wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from palenka.evaluation.items import Choice, Item
from palenka.evaluation.tasks.choices import Choices
from palenka.util.errors import UserError

PAIR = {"sentence_good": "Dogs run.", "sentence_bad": "Dogs runs."}
EWOK = {"Context1": "Ali is a boy.", "Target1": "He is male.", "Target2": "He is female.", "Context2": "unused"}
BOXES = {"input_prefix": "Box 0 holds", "options": [" the cup", " a hat", "."], "numops": 3, "sample_id": 7}
WUG = {"sentences": "It ricked.\tIt rack.", "ratio": 0.25}


def write(folder: Path, name: str, records: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_task_is_a_folder_and_a_file_is_a_subtask(tmp_path: Path) -> None:
    folder = tmp_path / "some_task"
    write(folder, "b", [PAIR, {**PAIR, "sentence_good": "A: Who?\nB: Me."}])
    write(folder, "a", [EWOK])
    (folder / "notes.txt").write_text("not items")
    task = Choices.read(folder)
    assert task.name == "some_task"
    assert [(item.subtask, item.line, item.choices) for item in task.items] == [
        ("a", 1, (("Ali is a boy.", " He is male."), ("Ali is a boy.", " He is female."))),
        ("b", 1, (("", "Dogs run."), ("", "Dogs runs."))),
        ("b", 2, (("", "A: Who?\nB: Me."), ("", "Dogs runs."))),
    ]
    assert not task.has_ratios


def test_twins_of_ewok_are_a_cluster_and_other_items_are_none(tmp_path: Path) -> None:
    twin = {"Context1": "unused", "Context2": "Ali is a boy.", "Target1": "He is female.", "Target2": "He is male."}
    write(tmp_path, "a", [EWOK, twin, {**EWOK, "Target1": "He is old."}, PAIR])
    one, other, third, fourth = (item.cluster for item in Choices.read(tmp_path).items)
    assert one == other != third
    assert fourth is None


def test_entity_tracking(tmp_path: Path) -> None:
    folder = tmp_path / "entity_tracking"
    write(folder, "regular", [{**BOXES, "numops": 0}, BOXES])
    items = Choices.read(folder).items
    assert [item.subtask for item in items] == ["regular_0_ops", "regular_3_ops"]
    assert items[1].choices == tuple(Choice("Box 0 holds", option) for option in (" the cup", " a hat", "."))


def test_comps(tmp_path: Path) -> None:
    record = {"prefix_acceptable": "A cat", "prefix_unacceptable": "A car", "property_phrase": "has whiskers."}
    write(tmp_path, "comps_wugs_dist-before", [record])
    [item] = Choices.read(tmp_path).items
    assert item.subtask == "wugs_dist_before"
    assert item.choices == (("A cat ", "has whiskers."), ("A car ", "has whiskers."))


def test_wug(tmp_path: Path) -> None:
    write(tmp_path, "wug", [WUG])
    task = Choices.read(tmp_path)
    assert task.has_ratios
    assert task.items == [Item("wug", 1, (Choice("", "It ricked."), Choice("", "It rack.")), ratio=0.25)]


def test_a_task_has_ratios_in_all_items_or_none(tmp_path: Path) -> None:
    path = write(tmp_path, "mixed", [WUG, PAIR])
    with pytest.raises(UserError, match=f"{path}, line 2: has a different shape"):
        Choices.read(tmp_path)


def test_labels_are_what_all_items_of_a_subtask_agree_on(tmp_path: Path) -> None:
    named = {**PAIR, "linguistics_term": "agreement", "field": "syntax"}
    write(tmp_path, "one", [named, {**named, "field": "semantics"}])
    write(tmp_path, "none", [PAIR])
    assert Choices.read(tmp_path).labels == {"one": {"phenomenon": "agreement"}, "none": {}}


def test_a_field_has_one_spelling(tmp_path: Path) -> None:
    for name, field in (("a", "syntax_semantics"), ("b", "syntax/semantics")):
        write(tmp_path, name, [{**PAIR, "field": field}])
    assert Choices.read(tmp_path).labels == {name: {"field": "syntax/semantics"} for name in "ab"}


def test_only_newlines_end_an_item(tmp_path: Path) -> None:
    write(tmp_path, "a", [{**PAIR, "sentence_good": "one\u2028two\x85three"}, PAIR])
    assert [item.line for item in Choices.read(tmp_path).items] == [1, 2]
    assert Choices.read(tmp_path).items[0].choices[0].text == "one\u2028two\x85three"


def test_the_digest_follows_the_items_alone(tmp_path: Path) -> None:
    write(tmp_path / "x", "a", [PAIR])
    write(tmp_path / "y", "a", [{**PAIR, "comment": "another field"}])
    write(tmp_path / "z", "a", [{**PAIR, "sentence_bad": "Dog run."}])
    write(tmp_path / "w", "b", [PAIR])
    digests = [Choices.read(tmp_path / name).digest for name in "xyzw"]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"sentence_good": "Only one."}, ["sentence_bad", "is missing"]),
        ({**PAIR, "sentence_bad": 3}, ["sentence_bad", "3", "expected a text"]),
        ({**PAIR, "sentence_bad": " "}, ["sentence_bad", "expected a text"]),
        ({**EWOK, "Target2": None}, ["Target2", "None"]),
        ({"Context1": "c", "Target1": "t"}, ["Target2", "is missing"]),
        ({"question": "?", "label": 1}, ["question, label", "sentence_good", "Context1"]),
        (["a", "list"], ["expected a JSON object"]),
        ({**BOXES, "options": [" one"]}, ["options", "list of two or more texts"]),
        ({**BOXES, "options": [" one", 2]}, ["options", "list of two or more texts"]),
        ({**BOXES, "numops": -1}, ["numops", "-1", "a count"]),
        ({"input_prefix": "Box 0 holds", "options": [" a", " b"]}, ["numops", "is missing"]),
        ({"prefix_acceptable": "A cat", "property_phrase": "has fur."}, ["prefix_unacceptable", "is missing"]),
        ({**WUG, "sentences": "It ricked."}, ["sentences", "two texts separated by a tab"]),
        ({**WUG, "sentences": "It ricked.\t "}, ["sentences", "two texts separated by a tab"]),
        ({**WUG, "ratio": 1.5}, ["ratio", "1.5", "a number from 0 to 1"]),
        ({**WUG, "ratio": True}, ["ratio", "True", "a number from 0 to 1"]),
    ],
)
def test_an_item_that_cannot_be_used_is_named(tmp_path: Path, record: Any, words: list[str]) -> None:
    path = write(tmp_path, "broken", [PAIR, record])
    with pytest.raises(UserError) as error:
        Choices.read(tmp_path)
    for word in [f"{path}, line 2", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("tail", [b'{"sentence_good": "Dogs r', b"\n" + json.dumps(PAIR).encode(), b'{"a": "\xff"}'])
def test_a_line_that_is_cut_off_empty_or_not_utf8_is_named(tmp_path: Path, tail: bytes) -> None:
    path = write(tmp_path, "broken", [PAIR])
    path.write_bytes(path.read_bytes() + tail)
    with pytest.raises(UserError, match="broken.jsonl, line 2: not a JSON object"):
        Choices.read(tmp_path)


def test_folders_and_files_without_items(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task 'absent': looked for the folder .*absent"):
        Choices.read(tmp_path / "absent")
    with pytest.raises(UserError, match="no .jsonl file"):
        Choices.read(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match="empty.jsonl: the file is empty"):
        Choices.read(tmp_path)
