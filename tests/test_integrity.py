"""Prepared data that is not what `prepare` left: named, before anything is trained or measured on it."""

import gc
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from damage import OF_CONTENT, SHORTER_OR_LONGER, Damage, bit_flip, cut, edited, empty, missing, name_of, nul_bytes
from killing import Killed, kill_at
from shared_fixtures import Call, WriteConfig

from palenka.cli import main
from palenka.data.integrity import read_prepared, verify
from palenka.data.prepare import prepare
from palenka.data.tokens import TokenSplit
from palenka.training.loop import Loop
from palenka.training.plan import make_plan
from palenka.training.schema import TrainConfig
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

Train = Callable[[], tuple[int, str, str]]


@pytest.fixture
def train(
    data: Path, runs_folder: Path, write_config: WriteConfig, call: Call, monkeypatch: pytest.MonkeyPatch
) -> Train:
    """train() starts train.py on the data; returns exit code, output and errors."""
    config = write_config(tiny.train_values())

    def start() -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(config)])
        try:
            return call(runpy.run_path, str(ROOT / "train.py"), run_name="__main__")
        finally:
            gc.collect()  # a run's lock goes with what holds it

    return start


def turned_round(path: Path) -> None:
    """Not sorted any more, in the same size."""
    path.write_bytes(np.fromfile(path, "<i8")[::-1].tobytes())


def beyond_the_vocabulary(path: Path) -> None:
    tokens = np.fromfile(path, "<u2")
    tokens[7] = tiny.VOCABULARY
    tokens.tofile(path)


def swapped_with_dev(path: Path) -> None:
    other = path.parents[1] / "dev" / path.name
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


ARRAYS = [f"{split}/{name}.bin" for split in ("train", "dev") for name in ("tokens", "words", "lines", "documents")]
INDICES = ["train/index.json", "dev/index.json"]
TOKENIZER = [f"tokenizer/{name}.json" for name in ("tokenizer", "tokenizer_config", "special_tokens_map")]
TEXTS = ["text/train/simple_wiki.txt", "text/dev/gutenberg.txt"]
FILES = [*ARRAYS, *INDICES, *TOKENIZER, *TEXTS]


def domain(number: int, **values: int) -> Damage:
    return edited(lambda index: index["domains"][number].update(values))


EDITS: dict[str, Damage] = {
    "a range": domain(0, end=40),
    "overlapping domains": domain(1, start=5),
    "words": domain(0, words=3),
    "bytes": domain(1, bytes=10),
    "out of order": edited(lambda index: index["domains"].reverse()),
    "a domain less": edited(lambda index: index["domains"].pop()),
    "NUL": nul_bytes,
}
PREPARED: dict[str, Damage] = {
    "key": edited(lambda record: record.update(key="0" * 64)),
    "vocab_size": edited(lambda record: record.update(vocab_size=300)),
    "a checksum": edited(lambda record: record["files"]["dev/tokens.bin"].update(sha256="0" * 64)),
    "a size": edited(lambda record: record["files"]["dev/tokens.bin"].update(bytes=2)),
    "no files": edited(lambda record: record.pop("files")),
    "no checksum": edited(lambda record: record.pop("sha256")),
    "a list": lambda path: path.write_text("[]\n") and None,
    **{name_of(damage): damage for damage in (bit_flip, cut, nul_bytes, empty)},
}


def fails(result: tuple[int, str, str], *expected: str) -> None:
    code, _, errors = result
    assert code == 2 and "Traceback" not in errors and errors.count("error:") == 1
    for text in expected:
        assert text in errors


def damages() -> list[Any]:
    """Every damage to every file that it is possible for."""
    made = [(damage, name) for name in FILES for damage in OF_CONTENT]
    made += [(turned_round, f"{split}/{name}.bin") for split in ("train", "dev") for name in ("lines", "documents")]
    made += [(beyond_the_vocabulary, f"{split}/tokens.bin") for split in ("train", "dev")]
    made += [(swapped_with_dev, f"train/{Path(name).name}") for name in [*ARRAYS[:4], INDICES[0]]]
    return [pytest.param(damage, name, id=f"{name} {name_of(damage)}") for damage, name in made]


@pytest.mark.parametrize(("damage", "name"), damages())
def test_every_damage_is_named_with_its_file(data: Path, damage: Damage, name: str) -> None:
    damage(data / name)
    with pytest.raises(UserError) as error:
        verify(data)
    assert f"\n  {name}: " in str(error.value) and "prepare the same text again" in str(error.value)
    if damage in SHORTER_OR_LONGER or not name.endswith((".bin", ".txt")):
        with pytest.raises(UserError, match=name):
            read_prepared(data)
        with pytest.raises(UserError, match=name):
            TokenSplit.open(data / "train")


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("split", ["train", "dev"])
def test_an_edited_index_is_named(data: Path, edit: str, split: str) -> None:
    EDITS[edit](data / split / "index.json")
    with pytest.raises(UserError, match=rf"{split}/index\.json: "):
        read_prepared(data)


@pytest.mark.parametrize("edit", PREPARED)
def test_an_edited_record_is_named(data: Path, edit: str) -> None:
    PREPARED[edit](data / "prepared.json")
    with pytest.raises(UserError, match=r"tiny/prepared\.json: "):
        read_prepared(data)


def test_a_file_too_many_is_named(data: Path) -> None:
    (data / "text" / "train" / "more.txt").write_text("It would count.\n")
    (data / "text" / "train" / ".hidden").write_text("This would not.\n")
    with pytest.raises(UserError, match=r"text/train/more\.txt: not made by prepare") as error:
        read_prepared(data)
    assert "hidden" not in str(error.value)


def test_what_is_whole_passes_and_a_part_can_be_looked_at_alone(data: Path) -> None:
    verify(data)
    bit_flip(data / "train" / "tokens.bin")
    verify(data, "dev", "tokenizer")
    with pytest.raises(UserError, match=r"train/tokens\.bin"):
        verify(data, "train")


FIRST_STARTS: dict[str, tuple[str, Damage]] = {
    "a bit of the tokens": ("train/tokens.bin", bit_flip),
    "an id beyond the vocabulary": ("dev/tokens.bin", beyond_the_vocabulary),
    "words of nothing": ("train/words.bin", nul_bytes),
    "lines that are not sorted": ("train/lines.bin", turned_round),
    "arrays of dev": ("train/documents.bin", swapped_with_dev),
    "a domain's range": ("train/index.json", domain(0, end=40)),
    "a word count": ("dev/index.json", domain(0, words=3)),
    "a bit of the text": ("text/train/gutenberg.txt", bit_flip),
    "prepared.json": ("prepared.json", empty),
    "no array": ("train/tokens.bin", missing),
}


@pytest.mark.parametrize("case", FIRST_STARTS)
def test_no_training_begins_on_damaged_data(data: Path, train: Train, runs_folder: Path, case: str) -> None:
    name, damage = FIRST_STARTS[case]
    damage(data / name)
    fails(train(), name)
    assert not any(runs_folder.iterdir())


@pytest.fixture(scope="module")
def started_once(prepared_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed behind its first checkpoint."""
    runs = tmp_path_factory.mktemp("started")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_DATA", str(prepared_once.parent))
        patch.setenv("PALENKA_RUNS", str(runs))
        kill_at(patch, Loop, "step", 6)
        with pytest.raises(Killed):
            tiny.train(make_plan(TrainConfig.model_validate(tiny.train_values()), "test"))
    gc.collect()
    assert (runs / "baseline" / "checkpoint-4").is_dir()
    return runs / "baseline"


@pytest.fixture
def started(started_once: Path, runs_folder: Path) -> Path:
    return Path(shutil.copytree(started_once, runs_folder / "baseline"))


@pytest.mark.parametrize("damage", [*SHORTER_OR_LONGER, bit_flip])
@pytest.mark.parametrize("name", ["train/words.bin", "dev/index.json", "tokenizer/tokenizer.json", "prepared.json"])
def test_no_training_goes_on_with_damaged_data(
    data: Path, train: Train, started: Path, name: str, damage: Damage
) -> None:
    damage(data / name)
    before = (started / "metrics.jsonl").read_bytes()
    fails(train(), name if name != "prepared.json" or damage != missing else "no prepared data there")
    assert (started / "metrics.jsonl").read_bytes() == before


def test_a_damaged_record_of_the_data_says_how_to_go_on(data: Path, train: Train, started: Path) -> None:
    record = started / "data.json"
    whole = record.read_bytes()
    record.write_bytes(whole[:40])
    fails(train(), f"{record}: damaged")
    fails(train(), "remove it, if the data is certain to be what the run began with")
    record.unlink()
    assert train()[0] == 0
    assert record.read_bytes() == whole


def test_a_run_goes_on_with_the_very_data_that_it_began_with(data: Path, train: Train, started: Path) -> None:
    tiny.other_vocabulary(data)
    fails(train(), "baseline: began with other data", "tokenizer/tokenizer.json")


def test_a_run_whose_data_was_prepared_anew_and_came_out_the_same_goes_on(
    data: Path, train: Train, started: Path
) -> None:
    shutil.rmtree(data)
    raw = data.parent / "raw"
    tiny.write_raw_text(raw)
    prepare(raw / "train", raw / "dev", None, "tiny", tiny.VOCABULARY)
    assert train()[0] == 0


def test_a_run_without_a_record_of_its_data_goes_on(train: Train, started: Path) -> None:
    (started / "data.json").unlink()  # begun by an earlier version
    assert train()[0] == 0
    assert (started / "data.json").exists()


def test_damaged_data_is_not_already_prepared(data: Path, tmp_path: Path, call: Call) -> None:
    tiny.write_raw_text(tmp_path / "raw")
    arguments = ["prepare", "--train", tmp_path / "raw" / "train", "--dev", tmp_path / "raw" / "dev", "--name", "tiny",
                 "--vocab-size", tiny.VOCABULARY]  # fmt: skip

    def again() -> tuple[int, str, str]:
        return call(main, list(map(str, arguments)))

    assert "already prepared" in again()[2]
    bit_flip(data / "dev" / "lines.bin")
    fails(again(), "dev/lines.bin", "Remove that folder")
    shutil.rmtree(data)
    assert again()[0] == 0 and "already prepared" in again()[2]


def test_data_of_an_earlier_version_is_refused_in_a_sentence(data: Path, train: Train) -> None:
    edited(lambda record: [record.pop(key) for key in ("files", "sha256")])(data / "prepared.json")
    fails(train(), "tiny/prepared.json: holds no checksums", "earlier version", "prepare the same text again")


def test_logits_are_not_cached_from_damaged_data(
    data: Path, teacher: Path, write_config: WriteConfig, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(data.parent))
    monkeypatch.setenv("PALENKA_SIGNALS", str(tmp_path / "signals"))
    values = tiny.distill_values(cached_logits={"top_k": 4}, objective={"logit": {"weight": 1.0}})
    bit_flip(data / "train" / "tokens.bin")
    fails(call(main, ["cache-logits", "--config", str(write_config(values))]), "train/tokens.bin")
    assert not (tmp_path / "signals").exists()
