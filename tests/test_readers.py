"""Texts in rows, files of one's own and the hub: what is read, and how what is wrong with it is named."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pyarrow
import pytest
from pyarrow import parquet

from palenka import cli
from palenka.data import rows as rows_module
from palenka.data.clean import Effects, clean_text
from palenka.data.documents import ROW_END
from palenka.data.prepare import prepare
from palenka.data.readers import RawText, domain_of, find_texts
from palenka.data.rows import TEXT_COLUMN, Columns
from palenka.util.errors import UserError

ROWS = [
    {"text": "Cats sit.\n\nThey sleep.", "source": "news", "id": 1},
    {"text": "*MOT:\thello .", "source": "childes", "id": 2},
    {"text": "Dogs run &amp; bark.", "source": "news", "id": 3},
    {"text": None, "source": "news", "id": 4},
    {"text": "", "source": "news", "id": 5},
]
SOURCE = Columns("text", "source")
SHA = "0123456789abcdef0123456789abcdef01234567"


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    return path


FORMATS: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {"jsonl": write_jsonl, "parquet": write_parquet}
every_format = pytest.mark.parametrize("form", FORMATS)


def lines(text: RawText) -> list[str]:
    """Its lines; those with text must end in a newline."""
    read = list(text.read())
    assert all(line == ROW_END or line.endswith("\n") for line in read)
    return [line.removesuffix("\n") for line in read]


@every_format
def test_each_row_is_a_document(form: str, tmp_path: Path) -> None:
    found = find_texts(FORMATS[form](tmp_path / f"mine.{form}", ROWS), "train", TEXT_COLUMN)
    assert list(found) == ["mine"]
    expected = ["Cats sit.", "They sleep.", "\f", "*MOT:\thello .", "\f", "Dogs run &amp; bark.", "\f", "\f", "\f"]
    assert lines(found["mine"]) == expected
    assert lines(found["mine"]) == expected  # a second time
    assert found["mine"].bytes == sum(len(row["text"] or "") + 1 for row in ROWS)


@every_format
def test_a_column_may_name_the_domains(form: str, tmp_path: Path) -> None:
    found = find_texts(FORMATS[form](tmp_path / f"mine.{form}", ROWS), "train", SOURCE)
    assert list(found) == ["childes", "news"]
    assert lines(found["childes"]) == ["*MOT:\thello .", "\f"]
    assert found["news"].files == found["childes"].files and found["news"].files[0]["name"] == f"mine.{form}"


def test_content_is_the_text_of_the_rows_in_any_format(tmp_path: Path) -> None:
    one = find_texts(write_jsonl(tmp_path / "a.jsonl", ROWS), "train", SOURCE)
    two = find_texts(write_parquet(tmp_path / "b.parquet", ROWS), "train", SOURCE)
    assert {name: text.sha256 for name, text in one.items()} == {name: text.sha256 for name, text in two.items()}
    for change in ({"text": "Dogs run."}, {"text": "Dogs run &amp; bark. "}):
        rows = [*ROWS[:2], ROWS[2] | change, *ROWS[3:]]
        changed = find_texts(write_jsonl(tmp_path / "c.jsonl", rows), "train", SOURCE)
        assert changed["news"].sha256 != one["news"].sha256 and changed["childes"].sha256 == one["childes"].sha256
    joined = [{"text": ROWS[0]["text"] + ROWS[2]["text"], "source": "news"}, ROWS[1]]  # the same characters, other rows
    assert find_texts(write_jsonl(tmp_path / "d.jsonl", joined), "train", SOURCE)["news"].sha256 != one["news"].sha256


def test_the_parts_of_a_folder_are_read_in_order(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS[:3]):
        write_parquet(tmp_path / f"train-0000{number}-of-00003.parquet", [row])
    write_jsonl(tmp_path / "stories.jsonl", [{"text": "Once."}])
    (tmp_path / "letters.txt").write_text("Dear you,\n")
    (tmp_path / "README.md").write_text("about")
    found = find_texts(tmp_path, "train", TEXT_COLUMN)
    assert list(found) == ["letters", "stories", "text"]
    assert [line[:4] for line in lines(found["text"])] == ["Cats", "They", "\f", "*MOT", "\f", "Dogs", "\f"]
    assert [file["name"][:11] for file in found["text"].files] == ["train-00000", "train-00001", "train-00002"]
    assert lines(found["letters"]) == ["Dear you,"]


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("childes.train", "childes"), ("childes.train.txt", "childes"), ("childes.txt", "childes"),
        ("children_stories.dev", "children_stories"), ("mine.test.jsonl", "mine"), ("train.jsonl", "text"),
        ("validation-00000-of-00002.parquet", "text"), ("stories-dev.txt", "stories"), ("dev_news.txt", "news"),
        ("my own (texts).txt", "my_own_texts"), ("trainspotting.txt", "trainspotting"), ("!.txt", "text"),
    ],
)  # fmt: skip
def test_domains_of_files(name: str, domain: str) -> None:
    assert domain_of(Path("folder") / name) == domain


def test_blank_lines_in_the_rows_of_books_stay(tmp_path: Path) -> None:
    """There they part paragraphs, not documents."""
    found = find_texts(write_jsonl(tmp_path / "gutenberg.jsonl", ROWS[:1]), "train", TEXT_COLUMN)
    assert lines(found["gutenberg"]) == ["Cats sit.", "", "They sleep.", "\f"]


def test_halves_of_characters_become_replacement_characters(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"text": "a \\ud83d b \\ud83d\\ude00"}\n')
    assert lines(find_texts(tmp_path / "mine.jsonl", "train", TEXT_COLUMN)["mine"]) == ["a \ufffd b \U0001f600", "\f"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"one\rtwo\rthree", ["one", "two", "three"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\rtwo\r\nthree\nfour\r", ["one", "two", "three", "four"]),
        (b"one\r\r\ntwo\r\r\n\r\r\nthree", ["one", "two", "", "three"]),
        (b"one\r\r\rtwo", ["one", "", "", "two"]),
        (b"\xef\xbb\xbfone\ntwo\n", ["one", "two"]),
        ("one\u2028two\u2029three\x0bfour\x85five\n".encode(), ["one\u2028two\u2029three\x0bfour\x85five"]),
    ],
)
def test_lines_end_in_any_of_the_usual_ways(content: bytes, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(content)
    read = list(find_texts(tmp_path / "mine.txt", "train", TEXT_COLUMN)["mine"].read())
    assert [line.rstrip("\r\n") for line in read] == expected
    assert "".join(read) == content.decode("utf-8-sig")


def test_lines_of_rows_end_so_too(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "mine.jsonl", [{"text": "one\rtwo\r\nthree\r\r\nfour\nfive"}])
    found = lines(find_texts(tmp_path / "mine.jsonl", "train", TEXT_COLUMN)["mine"])
    assert found == ["one", "two", "three", "four", "five", "\f"]


def test_other_breaks_within_a_line_are_spaces() -> None:
    raw = ["one\u2028two\u2029three\x0bfour\x0cfive\x85six\n"]
    assert list(clean_text("mine", raw, Effects())) == ["one two three four five six"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["mine.txt", "mine.jsonl"])
def test_other_encodings_are_named(encoding: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(('{"text": "Once there was a fox."}\n' * 20).encode(encoding))
    spelt = re.sub("-(?=[LB]E)", "", encoding.upper())
    with pytest.raises(UserError, match=f"{name}: expected UTF-8, seems to be {spelt};"):
        find_texts(tmp_path / name, "train", TEXT_COLUMN)


def test_latin_letters_are_a_hint(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes("one\ncafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"line 2 \(byte 7\): not UTF-8 text .*; if it is Windows-1252 or Latin-1"):
        find_texts(tmp_path / "mine.txt", "train", TEXT_COLUMN)


GOOD = '{"text": "good"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", GOOD + '{"text": "bro\n', r"a.jsonl, line 2, column 10: not valid JSON \(Unterminated string"),
        ("a.jsonl", GOOD + '\n{"text": "\xff"}\n', r"a.jsonl, line 3: not valid JSON \('utf-8' codec"),
        ("a.jsonl", GOOD + '["text"]\n', "a.jsonl, line 2: expected an object with named columns, found list"),
        ("a.jsonl", '{"body": "b", "id": 1}\n', "line 1: no column 'text' .--text-column.; there are: body, id"),
        ("a.jsonl", GOOD + '{"text": 3}\n', "line 2: expected text in column 'text', found int"),
        ("a.jsonl", GOOD + '{"text": ["a"]}\n', "line 2: expected text in column 'text', found list"),
        ("a.jsonl", "", "a.jsonl: no row holds text"),
        ("a.jsonl", '{"text": " "}\n{"text": null}\n', "a.jsonl: no row holds text"),
        ("a.parquet", "PAR1 not really", "a.parquet: not a readable Parquet file"),
        ("a.csv", "text\n", "a.csv: expected a .txt, .jsonl or .parquet file, or a folder"),
        ("a.txt", " \n", "a.txt: the file holds no text"),
    ],
)
def test_what_is_wrong_is_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        find_texts(tmp_path / name, "train", TEXT_COLUMN)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (ROWS, Columns("body"), "a.parquet: no column 'body' .--text-column.; there are: text, source, id"),
        (ROWS, Columns("text", "domain"), "no column 'domain' .--domain-column.; there are: text, source, id"),
        (ROWS, Columns("id"), "a.parquet, row 1: expected text in column 'id', found int"),
        (ROWS, Columns("text", "id"), "row 1: expected a name in column 'id', found int"),
        ([*ROWS[:2], ROWS[2] | {"source": None}], SOURCE, "row 3: expected a name in column 'source', found NoneType"),
        (ROWS[3:], TEXT_COLUMN, "a.parquet: no row holds text"),
        ([], TEXT_COLUMN, "no column 'text' .--text-column.; there are: none"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(
    rows: list[dict[str, Any]], columns: Columns, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        find_texts(write_parquet(tmp_path / "a.parquet", rows), "train", columns)


def test_a_column_of_everything_is_no_column_of_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MOST_DOMAINS", 3)
    rows = [{"text": "a", "source": f"s{number}"} for number in range(4)]
    with pytest.raises(UserError, match="more than 3 domains"):
        find_texts(write_jsonl(tmp_path / "a.jsonl", rows), "train", SOURCE)
    assert len(find_texts(write_jsonl(tmp_path / "a.jsonl", rows[:3]), "train", SOURCE)) == 3


def test_text_files_have_no_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(UserError, match="a.txt: has no columns, but --domain-column names one"):
        find_texts(tmp_path / "a.txt", "train", SOURCE)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.train", "b.txt"], "b.txt: expected <domain>.train, as the other files here are named"),
        (["a.txt", "b.csv"], "b.csv: expected <domain>.train, or a .txt, .jsonl or .parquet file"),
        (["a.dev", "b.test"], "no files named <domain>.train"),
        (["a.txt", "train_a.txt"], "train_a.txt: a.txt holds the same domain"),
    ],
)
def test_folders_that_cannot_be_understood(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("text\n")
    with pytest.raises(UserError, match=message):
        find_texts(tmp_path, "train", TEXT_COLUMN)


def test_a_folder_of_one_split_is_read_as_another(tmp_path: Path) -> None:
    """BabyLlama-2 tests on what BabyLM calls dev."""
    for name in ("a.dev", "b.dev"):
        (tmp_path / name).write_text("text\n")
    assert [*find_texts(tmp_path, "test", TEXT_COLUMN)] == ["a", "b"]


@every_format
def test_rows_are_prepared(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    FORMATS[form](tmp_path / f"train.{form}", ROWS)
    (tmp_path / "dev.txt").write_text("Cats run.\n")
    arguments = ["prepare", "--train", tmp_path / f"train.{form}", "--name", "a", "--vocab-size", "300"]
    cli.main([str(argument) for argument in [*arguments, "--dev", tmp_path / "dev.txt"]])
    assert (tmp_path / "data" / "a" / "text" / "train" / "text.txt").read_text() == (
        "Cats sit.\nThey sleep.\n\n*MOT: hello .\n\nDogs run & bark.\n"
    )
    domain = json.loads((tmp_path / "data" / "a" / "prepared.json").read_text())["splits"]["train"]["domains"]["text"]
    assert (domain["documents"], domain["words"], domain["cleaner"]) == (3, 11, "plain")
    (tmp_path / f"train.{form}").write_bytes(FORMATS[form](tmp_path / f"b.{form}", ROWS[:2]).read_bytes())
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in [*arguments, "--dev", tmp_path / "dev.txt"]])
    assert end.value.code == 2 and "train/text: other text" in capsys.readouterr().err


def test_domains_of_rows_are_cleaned_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    train = write_parquet(tmp_path / "train.parquet", ROWS)
    dev = write_jsonl(tmp_path / "dev.jsonl", [{"text": "Cats &amp; dogs.", "source": "news"}])
    folder = prepare(train, dev, None, "a", 300, columns=SOURCE)
    assert (folder / "text" / "train" / "childes.txt").read_text() == "MOT: hello.\n"
    assert (folder / "text" / "dev" / "news.txt").read_text() == "Cats & dogs.\n"


# The hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the repository owner/tales; what is asked of the hub is answered from there."""
    repository = tmp_path / "repository"
    repository.mkdir()
    build = datasets.load_dataset_builder

    def info(_: object, name: str, revision: str | None) -> SimpleNamespace:
        assert name == "owner/tales" and revision in (None, "v1")
        files = [SimpleNamespace(rfilename=file.name) for file in sorted(repository.iterdir())]
        return SimpleNamespace(sha=SHA, siblings=files)

    def snapshot(repo_id: str, repo_type: str, revision: str, allow_patterns: list[str], local_dir: None) -> str:
        assert (repo_id, repo_type, revision) == ("owner/tales", "dataset", SHA)
        assert all((repository / pattern).exists() for pattern in allow_patterns)
        return str(repository)

    def builder(name: str, config: str | None, revision: str, **options: Any) -> Any:
        assert (name, config, revision) == ("owner/tales", None, SHA)
        return build(str(repository), cache_dir=str(tmp_path / "cache"), **options)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr("palenka.data.fetch.hub.check_hashes", lambda folder, **at: None)
    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    datasets.disable_progress_bars()
    return repository


def test_a_dataset_of_the_hub(hub: Path) -> None:
    write_parquet(hub / "train.parquet", ROWS)
    write_parquet(hub / "validation.parquet", ROWS[1:2])
    found = find_texts("hf:owner/tales@v1", "train", TEXT_COLUMN)
    assert list(found) == ["tales"] and lines(found["tales"])[:3] == ["Cats sit.", "They sleep.", "\f"]
    assert found["tales"].files == [
        {"name": "train", "sha256": found["tales"].sha256, "bytes": found["tales"].bytes}
        | {"dataset": "hf:owner/tales", "revision": SHA}
    ]
    local = find_texts(hub / "train.parquet", "train", TEXT_COLUMN)
    assert found["tales"].sha256 == local["text"].sha256
    assert lines(find_texts("hf:owner/tales", "dev", TEXT_COLUMN)["tales"]) == ["*MOT:\thello .", "\f"]
    assert list(find_texts("hf:owner/tales:validation", "train", SOURCE)) == ["childes"]
    with pytest.raises(UserError, match="no split for --test; there are: train, validation; name one as hf:owner/ta"):
        find_texts("hf:owner/tales", "test", TEXT_COLUMN)
    with pytest.raises(UserError, match="no split 'odd'; there are: train, validation"):
        find_texts("hf:owner/tales:odd", "train", TEXT_COLUMN)
    with pytest.raises(UserError, match="hf:owner/tales:train: no column 'body' .*; there are: text, source, id"):
        find_texts("hf:owner/tales", "train", Columns("body"))
    with pytest.raises(UserError, match="hf:owner/tales:train, row 1: expected text in column 'id', found int"):
        find_texts("hf:owner/tales", "train", Columns("id"))


def test_domain_files_on_the_hub_are_read_as_files(hub: Path) -> None:
    (hub / "childes.train.txt").write_text("*MOT:\thello.\n\n*MOT:\tbye.\n")
    (hub / "simple_wiki.dev").write_text("Ball\n")
    (hub / "README.md").write_text("about")
    found = find_texts("hf:owner/tales", "train", TEXT_COLUMN)
    assert lines(found["childes"]) == ["*MOT:\thello.", "", "*MOT:\tbye."]
    assert found["childes"].files[0]["revision"] == SHA and found["childes"].files[0]["name"] == "childes.train.txt"
    assert found["childes"].where == "hf:owner/tales childes.train.txt"
    assert list(find_texts("hf:owner/tales:dev", "train", TEXT_COLUMN)) == ["simple_wiki"]


def test_text_on_the_hub_is_parted_by_blank_lines(hub: Path) -> None:
    (hub / "train.txt").write_text("One line.\nAnother.\n\nA second document.\n")
    assert lines(find_texts("hf:owner/tales", "train", TEXT_COLUMN)["tales"]) == [
        "One line.", "Another.", "\f", "A second document.", "\f",
    ]  # fmt: skip


def test_no_other_formats_are_read_from_the_hub(hub: Path) -> None:
    (hub / "train").mkdir()
    (hub / "train" / "page.xml").write_text("<text>a</text>\n")
    with pytest.raises(UserError, match="its format, xml, is none of arrow, csv, json, parquet, text"):
        find_texts("hf:owner/tales", "train", TEXT_COLUMN)


def test_a_folder_here_is_not_taken_for_the_hub(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(hub / "train.parquet", ROWS)
    (tmp_path / "owner" / "tales").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="owner/tales lies here too"):
        find_texts("hf:owner/tales", "train", TEXT_COLUMN)


@pytest.mark.parametrize("source", ["hf:", "hf:a/b/c", "hf:a b", "hf:a/b:c:d", "hf:../up"])
def test_addresses_that_are_none(source: str) -> None:
    with pytest.raises(UserError, match="expected hf:owner/name"):
        find_texts(source, "train", TEXT_COLUMN)


def test_without_a_network_the_command_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit) as end:
        cli.main(["prepare", "--train", "hf:owner/tales", "--dev-fraction", "0.1", "--name", "a"])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert "hf:owner/tales: cannot be read from the Hugging Face Hub" in said and "give their folder instead" in said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_rows_without_text_are_told(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"text": "One.", "source": "tales"}, {"text": None, "source": "tales"}, {"text": " ", "source": "empty"},
        {"text": None, "source": "tales"}, {"text": "", "source": "empty"},
    ]  # fmt: skip
    write = write_jsonl if form == "jsonl" else write_parquet
    path = write(tmp_path / f"rows.{form}", rows)
    found = find_texts(path, "train", Columns(domain="source"))
    assert list(found) == ["tales"]
    assert [line for line in lines(found["tales"]) if line != "\f"] == ["One."]
    unit = "line" if form == "jsonl" else "row"
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {path}: the 2 rows of empty hold no text; there is no such domain then",
        f"warning: {path}: 2 rows have no text (null), first in {unit} 2; they are left out",
    ]
