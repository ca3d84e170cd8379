"""Where results cannot be written this is said before the work, and `evaluate --out` writes them elsewhere."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_items import PAIRS, write_pairs
from run_files import snapshot
from shared_fixtures import Call

from palenka.cli import main
from palenka.evaluation.evaluate import Evaluator
from palenka.evaluation.scoring import Scorer
from palenka.util.files import read_json, require_writable


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """A folder of evaluation data with three pairs of BLiMP."""
    return write_pairs(tmp_path / "items" / "blimp_filtered", {"agreement": PAIRS["agreement"]}).parent


def palenka(call: Call, *arguments: Any) -> tuple[int, str, str]:
    return call(main, [str(argument) for argument in arguments])


def never(*arguments: Any, **options: Any) -> None:
    raise AssertionError("a model was loaded, though there is no place for its results")


def test_a_file_where_the_results_belong_is_said_before_scoring(
    teacher: Path, items: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (teacher / "evaluation").write_text("")
    monkeypatch.setattr(Scorer, "load_each", never)
    code, _, errors = palenka(call, "evaluate", "teacher", "--data", items, "--tasks", "blimp_filtered")
    assert code == 73
    assert f"{teacher / 'evaluation'}: not a directory; nothing was scored; --out DIR writes the results" in errors


@pytest.fixture
def read_only(teacher: Path, processes: None) -> Iterator[Path]:
    """The teacher's folder, mounted read-only, where root allows."""
    mounted = subprocess.run(["mount", "--bind", teacher, teacher], check=False, capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "-o", "remount,ro,bind", teacher], check=True)
    yield teacher
    subprocess.run(["umount", "--lazy", teacher], check=True)


def test_a_shared_model_that_is_read_only(
    read_only: Path, items: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("evaluate", read_only, "--data", items, "--tasks", "blimp_filtered")
    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "load_each", never)
        code, _, errors = palenka(call, *command)
    assert code == 73
    assert f"{read_only / 'evaluation'}: read-only file system; nothing was scored; --out DIR" in errors
    assert palenka(call, *command, "--out", tmp_path / "out")[0] == 0
    assert read_json(tmp_path / "out" / "teacher" / "evaluation" / "blimp_filtered.json")["n"] == 3
    shutil.copytree(tmp_path / "out" / "teacher", tmp_path / "out" / "other")
    assert palenka(call, *command, "--out", tmp_path / "out")[0] == 0  # shown again


def test_results_elsewhere_are_read_by_the_other_commands(
    teacher: Path, items: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, out = snapshot(teacher), tmp_path / "out"
    command = ("evaluate", "teacher", "--data", items, "--tasks", "blimp_filtered", "--protocol", "2025")
    assert palenka(call, *command, "--out", out)[0] == 0
    assert snapshot(teacher) == before
    assert read_json(out / "teacher" / "model.json") == {"model": str(teacher.resolve())}
    code, shown, errors = palenka(
        call, "submission", out / "teacher", "--format", "2025", "--data", items, "--out", tmp_path / "sent"
    )
    assert code == 0, errors
    assert list((tmp_path / "sent").rglob("predictions.json"))
    monkeypatch.setattr(Scorer, "load_each", never)  # the results are known
    assert palenka(call, *command[:1], out / "teacher", *command[2:])[0] == 0
    shutil.copytree(out / "teacher", out / "again")
    code, shown, errors = palenka(call, "compare", out / "teacher", out / "again", "--protocol", "2025")
    assert code == 0, errors
    assert "blimp_filtered" in shown
    assert snapshot(teacher) == before


def test_two_models_of_one_name_do_not_share_a_folder(
    teacher: Path, items: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(teacher, tmp_path / "other" / "teacher"))
    monkeypatch.setattr(Scorer, "load_each", never)
    models = ("evaluate", "teacher", other, "--data", items, "--tasks", "blimp_filtered")
    code, _, errors = palenka(call, *models, "--out", tmp_path / "out")
    assert code == 2
    assert f"holds the results of {teacher.resolve()}, not of {other.resolve()}; give another --out" in errors


def test_what_cannot_be_written_is_said_before_anything_is_read(
    tmp_path: Path, runs_folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for arguments in (
        ("report", "nobody", "--out", file / "page.html"),
        ("compare", "nobody", "nobody", "--out", file / "found.json"),
        ("submission", "nobody", "--format", "2025", "--out", file / "folder"),
        ("cost", "--config", "none.yaml", "--json", file / "cost.json"),
    ):
        code, _, errors = palenka(call, *arguments)
        assert (code, "not a directory" in errors) == (73, True), errors
    monkeypatch.setenv("PALENKA_DATA", str(file / "data"))
    code, _, errors = palenka(call, "prepare", "--train", "nowhere", "--dev", "nowhere", "--name", "x")
    assert (code, "not a directory" in errors) == (73, True), errors


def test_the_check_leaves_nothing(tmp_path: Path) -> None:
    require_writable(tmp_path / "not" / "there")
    assert not list(tmp_path.iterdir())


def test_what_was_scored_before_a_full_disk_is_kept(
    teacher: Path, items: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(items / "blimp_filtered", items / "again")
    score, names = Evaluator.score_choices, []

    def full(self: Evaluator, task: Any, label: str) -> Any:
        names.append(task.name)
        if task.name == "again":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return score(self, task, label)

    command = ("evaluate", "teacher", "--data", items, "--tasks", "blimp_filtered,again")
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "score_choices", full)
        for _ in range(2):
            code, _, errors = palenka(call, *command)
            assert (code, "no space left" in errors.lower()) == (73, True)
    assert names == ["blimp_filtered", "again", "again"]
    assert palenka(call, *command)[0] == 0
