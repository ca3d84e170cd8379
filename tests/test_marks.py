"""Marks of other corpora: named where met, and the ends of documents where asked for."""

import json
from pathlib import Path

import pytest

from palenka import cli
from palenka.data.clean import BOUNDARY, DOMAINS, Effects, clean_text
from palenka.data.documents import ROW_END
from palenka.data.effects import Mark
from palenka.data.prepare import prepare
from palenka.util.errors import UserError


def documents(domain: str, text: str, *boundaries: str) -> list[list[str]]:
    effects = Effects()
    found: list[list[str]] = [[]]
    for line in clean_text(domain, text.splitlines(keepends=True), effects, boundaries):
        if line == BOUNDARY:
            found.append([])
        else:
            found[-1].append(line)
    assert effects.bytes_in == effects.bytes_out + sum(effects.removed.values())
    assert effects.documents == len(found)
    return found


@pytest.mark.parametrize("domain", [*DOMAINS, "mine"])
@pytest.mark.parametrize("mark", ["<|endoftext|>", "</s>", "[SEP]", "<eos>", "<doc>"])
@pytest.mark.parametrize(
    "text", ["One goat.\n{}\nTwo.\n", "One goat.{}\nTwo.\n", "One goat.\n{}Two.\n", "One goat.{}Two.\n"]
)
def test_documents_end_at_a_mark_wherever_it_stands(domain: str, mark: str, text: str) -> None:
    assert documents(domain, text.format(mark), mark) == [["One goat."], ["Two."]]


@pytest.mark.parametrize("mark", ["-----", "===", "* * *", "%%%%"])
def test_a_mark_without_letters_is_a_whole_line(mark: str) -> None:
    assert documents("mine", f"A {mark} B\n{mark}\nC\n", mark) == [[f"A {mark} B"], ["C"]]


def test_a_tag_may_have_attributes_and_several_marks_are_taken() -> None:
    text = '<doc id="1" title="A">\nA goat.\n\nIt ran.\n</doc>\n<doc id="2">\nA hen.\n</doc>\n'
    assert documents("mine", text, "<doc>", "</doc>") == [["A goat.", "It ran."], ["A hen."]]


def test_blank_lines_part_documents_only_where_no_mark_does() -> None:
    assert documents("mine", "A\n\nB\n<|endoftext|>\nC\n") == [["A"], ["B", "<|endoftext|>", "C"]]
    assert documents("mine", "A\n\nB\n<|endoftext|>\nC\n", "<|endoftext|>") == [["A", "B"], ["C"]]


@pytest.mark.parametrize(
    ("domain", "line", "mark"),
    [
        ("mine", "a<|endoftext|>b", "<|endoftext|>"),
        ("childes", "a <|im_end|>", "<|im_end|>"),
        ("gutenberg", "</s> a", "</s>"),
        ("mine", "<s>", "<s>"),
        ("mine", "a [SEP] b", "[SEP]"),
        ("mine", "[CLS] a", "[CLS]"),
        ("mine", "<EOS>", "<EOS>"),
        ("simple_wiki", '<doc id="7" url="u">', "<doc>"),
        ("mine", "</doc>", "</doc>"),
        ("mine", "------", "------"),
        ("mine", " ===  ", "==="),
        ("gutenberg", "------", None),
        ("mine", "a --- b", None),
        ("mine", "-- ", None),
        ("mine", "<b>a</b> [sic] <section> <a|b>", None),
    ],
)
def test_marks_are_found(domain: str, line: str, mark: str | None) -> None:
    effects = Effects()
    list(clean_text(domain, ["first\n", f"{line}\n", ROW_END, "x\n", f"{line}\n"], effects))
    assert effects.marks == ({mark: Mark(count=2, line=2, row=1)} if mark else {})


STORIES = [f"Once upon a time a goat number {n} found a bell.\nIt rang the bell and went home.\n" for n in range(400)]


@pytest.fixture
def stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    (tmp_path / "stories-train.txt").write_text("<|endoftext|>\n".join(STORIES))
    (tmp_path / "stories-valid.txt").write_text("<|endoftext|>\n".join(STORIES[:40]))
    return tmp_path


def prepare_by_command(stories: Path, *options: str) -> dict[str, object]:
    files = ["--train", str(stories / "stories-train.txt"), "--dev", str(stories / "stories-valid.txt")]
    cli.main(["prepare", *files, "--name", "stories", "--vocab-size", "400", *options])
    record: dict[str, object] = json.loads((stories / "data" / "stories" / "prepared.json").read_text())
    return record


def test_a_mark_that_was_not_asked_for_is_named(stories: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = prepare_by_command(stories)
    said = capsys.readouterr().err
    assert "warning: train/stories (stories-train.txt): <|endoftext|> occurs 399 times, first in line 3" in said
    assert "--boundary='<|endoftext|>'" in said
    assert "boundaries" not in record["identity"]  # type: ignore[operator]


def test_what_the_warning_says_to_do_parts_the_documents(stories: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = prepare_by_command(stories, "--boundary=<|endoftext|>")
    assert record["splits"]["train"]["documents"] == 400 and record["splits"]["dev"]["documents"] == 40  # type: ignore[index]
    assert record["identity"]["boundaries"] == ["<|endoftext|>"]  # type: ignore[index]
    text = (stories / "data" / "stories" / "text" / "train" / "stories.txt").read_text()
    assert text == "\n".join(STORIES)
    assert "--boundary" not in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        prepare_by_command(stories)
    assert end.value.code == 2 and "boundaries: only in that folder" in capsys.readouterr().err


@pytest.mark.parametrize("mark", ["", " ", "a\nb", " a", "<|endof|>"])
def test_marks_that_cannot_be_meant_are_refused_before_any_work(stories: Path, mark: str) -> None:
    with pytest.raises(UserError, match="--boundary"):
        prepare(stories / "stories-train.txt", stories / "stories-valid.txt", None, "a", 400, boundaries=[mark])
    assert not (stories / "data").exists()
