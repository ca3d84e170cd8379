"""Files that are either whole or not there."""

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from palenka.util.errors import UserError
from palenka.util.files import (
    read_json,
    remove_leftovers,
    replace,
    sha256,
    sync_tree,
    write_bytes,
    write_json,
    write_text,
)


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what has been flushed and renamed, in order."""
    seen: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def spy_rename(self: Path, target: Path) -> Path:
        seen.append(f"{self.name} > {Path(target).name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_rename)
    return seen


def test_a_file_is_flushed_before_it_is_renamed_and_its_folder_after(tmp_path: Path, flushed: list[str]) -> None:
    write_bytes(tmp_path / "a", b"content")
    temporary = flushed[0]
    assert temporary.startswith(".a.") and temporary.endswith(".tmp")
    assert flushed == [temporary, f"{temporary} > a", tmp_path.name]
    assert (tmp_path / "a").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_tree_is_flushed_to_its_last_file_and_folder(tmp_path: Path, flushed: list[str]) -> None:
    (tmp_path / "top" / "below").mkdir(parents=True)
    for name in ("one", "below/two"):
        (tmp_path / "top" / name).touch()
    sync_tree(tmp_path / "top")
    assert sorted(flushed) == ["below", "one", "top", "two"]
    replace(tmp_path / "top", tmp_path / "moved")
    assert flushed[-2:] == ["top > moved", tmp_path.name]


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (b"", "the file is empty"),
        (b"\0" * 20, "holds NUL bytes"),
        (b'{"a": 1', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_damaged_json_is_named(tmp_path: Path, content: bytes, damage: str) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_json(path)
    assert str(raised.value).startswith(f"{path}: damaged: {damage}")


def test_json_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ž": [1, None, 0.1]})
    assert read_json(tmp_path / "a.json") == {"ž": [1, None, 0.1]}
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ž": [1, None, 0.1]}


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 1_000_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_a_file_that_another_writer_takes_for_a_leftover_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of one training write the same card: one has opened its file and not locked it yet."""
    lock, calls = fcntl.flock, 0

    def late(file: Any, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            remove_leftovers(tmp_path)
            assert list(tmp_path.iterdir()) == []
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write_text(tmp_path / "card", "whole")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"card": "whole"}


def test_nothing_is_written_to_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone/card"):
        write_text(tmp_path / "gone" / "card", "whole")
    assert list(tmp_path.iterdir()) == []
