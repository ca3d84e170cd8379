"""Downloads: what arrives is whole and right or not there at all, whatever server and archive do.

The server is a real one on this machine (`faulty_server.py`); the catalogue is the real one too, only its addresses and
the files behind them are made up.
"""

import errno
import hashlib
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faulty_server as faults
import huggingface_hub.constants
import pooch
import pytest
from faulty_server import FaultyServer
from shared_fixtures import Call

from palenka import cli
from palenka.data import published
from palenka.data.catalog import CATALOGUE, DOMAINS, HubFiles, OsfFile, OsfFolder
from palenka.data.fetch import archives, ewok, global_piqa, hub, places
from palenka.data.fetch import download as downloads
from palenka.data.fetch.archives import unpack
from palenka.evaluation import models
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.tasks.choices import Choices
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

TOKEN = "hf_secretsecret"
OSF, HUB = "babylm-2024-10M", "babylm-2026-10M"
ON_OSF = "/download/ad7qg/text_data/train_10M.zip"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    faulty = FaultyServer()
    yield faulty
    faulty.close()


@pytest.fixture
def run(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> Run:
    """run(*arguments) calls `palenka download`; everything comes from the server, goes below tmp_path."""
    for variable, value in environment(server, tmp_path).items():
        monkeypatch.setenv(variable, value)
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    at = huggingface_hub.constants
    monkeypatch.setattr(at, "ENDPOINT", server.url)
    monkeypatch.setattr(at, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(at, "HF_HUB_CACHE", str(tmp_path / "nobody" / "hub"))
    monkeypatch.setattr(at, "HF_TOKEN_PATH", str(tmp_path / "nobody" / "token"))
    monkeypatch.setattr(at, "HF_HUB_DOWNLOAD_TIMEOUT", 0.4)
    monkeypatch.setattr(places, "_TIMEOUT", 0.4)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the attempts of the libraries

    def download(*arguments: str) -> tuple[int, str, str]:
        code, output, errors = call(cli.main, ["download", *arguments])
        assert "Traceback" not in errors
        assert TOKEN not in output + errors
        assert code == 0 or sum(line.startswith("error: ") for line in errors.splitlines()) == 1
        return code, output, errors

    return download


def environment(server: FaultyServer, tmp_path: Path) -> dict[str, str]:
    return {
        **dict.fromkeys(("PALENKA_OSF", "PALENKA_GITHUB", "HF_ENDPOINT"), server.url),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1"),
        "PALENKA_CORPORA": str(tmp_path / "corpora"),
        "PALENKA_EVAL": str(tmp_path / "evals"),
        "HF_HOME": str(tmp_path / "nobody"),
        "PYTHONPATH": str(ROOT),
    }


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def text_archives(words: str = "10M") -> dict[str, bytes]:
    """What OSF holds of a text: three archives of a folder each."""
    folders = {f"train_{words}": "train", "dev": "dev", "test": "test"}
    return {
        f"text_data/{folder}.zip": zipped(
            {f"{folder}/{domain}.{split}": f"{domain} {split}\n".encode() for domain in DOMAINS}
        )
        for folder, split in folders.items()
    }


def hub_path(part: int, name: str, item: str = HUB) -> str:
    place = CATALOGUE[item].parts[part].places[0]
    assert isinstance(place, HubFiles)
    return f"/datasets/{place.dataset}/resolve/{place.revision}/{f'{place.folder}/' if place.folder else ''}{name}"


def texts(server: FaultyServer, item: str) -> str:
    """Put a text where the catalogue has it; returns the path of one of its files."""
    if item == OSF:
        server.osf("ad7qg", text_archives() | {"text_data/train_10M.zip": zipped({"a.train": os.urandom(100_000)})})
        return ON_OSF
    for part in CATALOGUE[item].parts:
        (place,) = part.places
        assert isinstance(place, HubFiles)
        files = {name: f"{name}\n".encode() * 5000 for name in place.names}
        server.hub(place.dataset, place.revision, files, large=tuple(files)[:3])
    return hub_path(0, "gutenberg.train.txt")


def folder_of(tmp_path: Path, item: str) -> Path:
    return tmp_path / "corpora" / item / CATALOGUE[item].parts[0].folder


# --- what a server may do


@pytest.mark.parametrize("item", [OSF, HUB])
@pytest.mark.parametrize(
    "fault",
    [faults.truncated(30_000), faults.stalled(30_000), faults.status(429, Retry_After="7"), faults.redirect("/moved")],
)  # fmt: skip
def test_a_passing_fault_is_survived(
    server: FaultyServer, run: Run, tmp_path: Path, item: str, fault: faults.Fault
) -> None:
    path = texts(server, item)
    server.files["/moved"] = server.files[path]
    server.fault(path, fault)
    code, _, errors = run(item)
    assert code == 0, errors
    folder = folder_of(tmp_path, item)
    if item == OSF:
        assert [file.stat().st_size for file in folder.iterdir()] == [100_000]
    else:
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
            f"{domain}.train.txt": server.files[hub_path(0, f"{domain}.train.txt")].body for domain in DOMAINS
        }
    assert not list(folder.parent.glob(".*.partial"))


LASTING = {
    "truncated": (faults.truncated(30_000),) * 2,
    "reset": (faults.reset(30_000),) * 2,
    "404": (faults.status(404),) * 2,
    "403": (faults.status(403),) * 2,
    "401": (faults.status(401),) * 2,
    "503": (faults.status(503),) * 2,
    "page": (faults.web_page,) * 2,
    "bytes": (faults.other_bytes,) * 2,
    "size": (faults.one_byte_less,) * 2,
    "circle": (faults.redirect(ON_OSF), faults.redirect(hub_path(0, "gutenberg.train.txt"))),
    "file": (faults.redirect("file:///etc/passwd"),) * 2,
}


@pytest.mark.parametrize("item", [OSF, HUB])
@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_is_reported_and_nothing_half_written_stays(
    server: FaultyServer, run: Run, tmp_path: Path, item: str, fault: str
) -> None:
    path = texts(server, item)
    server.fault(path, *[LASTING[fault][item == HUB]] * 200)
    code, _, errors = run(item)
    assert code == 2
    assert "The same command tries again" in errors or "does not match" in errors or "not the right files" in errors
    folder = folder_of(tmp_path, item)
    assert not folder.exists()
    whole = [file.body for file in server.files.values()]
    assert all(file.read_bytes() in whole for file in folder.parent.glob(".*.partial/*") if file.is_file())
    server.faults.clear()
    code, _, errors = run(item)
    assert code == 0 and folder.exists(), errors
    assert len(server.asked(hub_path(0, "childes.train.txt"))) <= 2


def test_pieces_of_two_versions_are_never_put_together(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    path = texts(server, HUB)
    server.fault(path, faults.truncated(30_000), faults.other_bytes)
    code, _, errors = run(HUB)
    assert code == 2 and "gutenberg.train.txt: sha256" in errors and "the hub says" in errors
    assert not folder_of(tmp_path, HUB).exists()
    assert run(HUB)[0] == 0


def test_the_environments_proxy_is_asked(server: FaultyServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("PALENKA_OSF", "http://far.invalid")
    server.add("http://far.invalid/v2/nodes/ad7qg/files/osfstorage/", b'{"data": [], "links": {}}')
    assert "no file 'train_10M.zip' there" in run(OSF)[2]


@pytest.mark.parametrize("item", [OSF, HUB])
def test_a_full_disk_leaves_nothing_half_written(
    server: FaultyServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str
) -> None:
    texts(server, item)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(pooch.core.shutil, "move", full)
        code, _, errors = run(item)
    folder = folder_of(tmp_path, item)
    assert code == os.EX_CANTCREAT and f"error: {folder.parent}: no space left on device" in errors
    assert not [file for file in folder.parent.rglob("*") if file.is_file() and file.stat().st_size > 1000]
    assert run(item)[0] == 0 and folder.exists()


# --- archives


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
    return info


def archive_of(path: Path, *entries: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("harmless.txt", "harmless")
        for info, content in entries:
            archive.writestr(info, content)
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [("../out.txt", 0o100644), ("a/../../out.txt", 0o100644), ("/tmp/out.txt", 0o100644), ("..\\out.txt", 0o100644),
     ("C:/out.txt", 0o100644), ("link", 0o120777), ("pipe", 0o010644)],
)  # fmt: skip
def test_no_entry_leaves_the_folder_or_is_anything_but_a_file(tmp_path: Path, name: str, mode: int) -> None:
    folder = unpack(archive_of(tmp_path / "a.zip", (entry(name, mode), b"/etc/passwd")), tmp_path / "new")
    found = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert len(found) == 3 and all(path.is_file() and not path.is_symlink() for path in found)
    assert all(path.is_relative_to(folder) for path in found if path.suffix != ".zip")
    assert not Path("/tmp/out.txt").exists()


def patched(archive: Path, offset: int, code: str, value: int) -> Path:
    """Write a number into the central directory's last header."""
    data = bytearray(archive.read_bytes())
    struct.pack_into(f"<{code}", data, data.rindex(b"PK\x01\x02") + offset, value)
    archive.write_bytes(data)
    return archive


def cut(archive: Path, keep: int) -> Path:
    archive.write_bytes(archive.read_bytes()[:keep])
    return archive


def damaged(archive: Path) -> Path:
    data = bytearray(archive.read_bytes())
    data[1000] ^= 1
    archive.write_bytes(data)
    return archive


NOISE = (entry("b.txt"), os.urandom(5000))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: archive_of(path, (entry("a.txt"), b"x"), (entry("a.txt"), b"y")), "two entries have one name"),
        (lambda path: archive_of(path, (entry("a.txt"), b"x"), (entry("../a.txt"), b"y")), "two entries have one name"),
        (lambda path: archive_of(path, (entry("zeros"), bytes(10_000_000))), "more than such an archive may hold"),
        (lambda path: patched(archive_of(path, NOISE), 24, "I", 10), "cannot be unpacked: Bad CRC-32"),
        (lambda path: patched(archive_of(path, (entry("zeros"), bytes(10_000_000))), 24, "I", 10), "Bad CRC-32"),
        (lambda path: patched(archive_of(path, NOISE), 24, "I", 1 << 31), "more than such an archive may hold"),
        (lambda path: patched(archive_of(path, NOISE), 8, "H", 1), "is encrypted"),
        (lambda path: patched(archive_of(path, NOISE), 10, "H", 12), "cannot be unpacked"),
        (lambda path: damaged(archive_of(path, NOISE)), "cannot be unpacked"),
        *[(lambda path, keep=keep: cut(archive_of(path, NOISE), keep), "not a zip file") for keep in (0, 10, -30, -1)],
    ],
)
def test_what_is_no_whole_archive_of_text_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        unpack(make(tmp_path / "a.zip"), tmp_path / "new")
    assert sum(path.stat().st_size for path in (tmp_path / "new").rglob("*")) < 6000


def test_an_archive_may_not_hold_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(tmp_path / "a.zip", NOISE)
    monkeypatch.setattr(archives, "MOST_ENTRIES", 1)
    with pytest.raises(UserError, match="5,008 bytes in 2 files, more than"):
        unpack(archive, tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_the_one_folder_around_everything_and_litter_are_left_away(tmp_path: Path) -> None:
    files = {"dev/a.dev": b"a", "dev/sub/b.dev": b"b", "dev/.DS_Store": b"?", "__MACOSX/dev/._a.dev": b"?"}
    (tmp_path / "a.zip").write_bytes(zipped(files))
    folder = unpack(tmp_path / "a.zip", tmp_path / "new")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"a.dev", "sub/b.dev"}


def test_an_archive_that_cannot_be_unpacked_leaves_nothing(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    broken = text_archives()["text_data/dev.zip"][:-20]
    server.osf("ad7qg", text_archives() | {"text_data/train_10M.zip": broken})
    code, _, errors = run(OSF)
    assert code == 2 and "cannot be unpacked" in errors
    assert {path.name for path in (tmp_path / "corpora" / OSF).iterdir()} == {".download.lock"}


# --- the command


def test_a_text_comes_to_where_prepare_finds_it(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives(), page=2)
    code, output, errors = run(OSF)
    assert code == 0, errors
    target = tmp_path / "corpora" / OSF
    for folder, split in {"train_10M": "train", "dev": "dev", "test": "test"}.items():
        assert {path.name for path in (target / folder).iterdir()} == {f"{domain}.{split}" for domain in DOMAINS}
    item = CATALOGUE[OSF]
    assert output.index(item.licence) < output.index("Next:") and item.citation in output
    prepare = f"--train {target}/train_10M --dev {target}/dev --test {target}/test --name strict-small"
    assert f"Next: palenka prepare {prepare}" in output
    assert {path.name for path in target.iterdir()} == {"train_10M", "dev", "test", ".download.lock", "download.json"}

    asked = len(server.seen)
    code, output, errors = run(OSF)
    assert (code, len(server.seen)) == (0, asked)
    assert errors.count("already there") == 3


def test_files_on_osf_are_found_by_name_wherever_they_lie(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    moved = {path.replace("text_data", "texts/of_2025"): body for path, body in text_archives("100M").items()}
    server.osf("ryjfm", moved | {"other/readme.md": b"x"})
    assert run("babylm-2025-100M")[0] == 0
    assert (tmp_path / "corpora" / "babylm-2025-100M" / "train_100M" / "childes.train").exists()
    server.osf("ryjfm", {"text_data/dev.zip": b""})
    code, _, errors = run("babylm-2025-10M")
    assert code == 2 and "no file 'train_10M.zip' there; found: text_data, text_data/dev.zip" in errors


def test_a_text_of_the_hub_comes_to_where_prepare_finds_it(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    texts(server, HUB)
    code, output, errors = run(HUB)
    target = tmp_path / "corpora" / HUB
    assert code == 0, errors
    assert f"--train {target}/train --dev {target}/dev" in output and "--name strict-small-2026" in output
    assert {path.name for path in (target / "train").iterdir()} == {f"{domain}.train.txt" for domain in DOMAINS}
    assert not any("Authorization" in seen.headers for seen in server.seen)


@pytest.mark.parametrize("name", ["bnc_spoken.train.txt", "switchboard.train.txt"])
def test_the_hubs_hashes_of_large_and_small_files_are_checked(
    server: FaultyServer, run: Run, tmp_path: Path, name: str
) -> None:
    texts(server, HUB)
    server.fault(hub_path(0, name), faults.other_bytes)
    code, _, errors = run(HUB)
    assert code == 2 and f"not the right files, removed: {name}" in errors
    assert not (tmp_path / "corpora" / HUB / "train").exists()


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_what_others_read_of_the_hub_is_held_to_its_hashes_too(
    server: FaultyServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("PALENKA_RUNS", str(tmp_path / "runs"))
    names, revision = ("config.json", "a.train"), "0123456789abcdef0123456789abcdef01234567"
    server.hub("o/n", revision, dict.fromkeys(names, b"right"), kind=kind)

    def read() -> list[Path]:
        if kind == "dataset":
            return hub.domain_files(hub.Address("o/n", None, None, revision), list(names), "train")
        return [models._from_hub(f"hf:o/n@{revision}") / "config.json"]

    name = "a.train" if kind == "dataset" else "config.json"
    server.fault(f"{'/datasets' if kind == 'dataset' else ''}/o/n/resolve/{revision}/{name}", faults.other_bytes)
    with pytest.raises(UserError, match=f"o/n: not the right files, removed: {name}: git-sha1"):
        read()
    assert [path.read_bytes() for path in read()] == [b"right"]


def evals(server: FaultyServer, year: str) -> dict[str, bytes]:
    files = {"blimp_filtered/b.jsonl": b'{"b": 1}\n', "blimp_filtered/a.jsonl": b'{"a": 1}\n',
             "supplement_filtered/s.jsonl": b'{"s": 1}\n'}  # fmt: skip
    if year == "2026":
        place = CATALOGUE["evals-2026"].parts[0].places[0]
        assert isinstance(place, HubFiles)
        full = {f"evaluation_data/full_eval/{path}": body for path, body in files.items()}
        server.hub(place.dataset, place.revision, full)
        return files
    fast = {"evaluation_data/fast_eval/blimp_fast/a.jsonl": b"{}"}
    server.osf("ad7qg", fast | {f"evaluation_data/{path}": body for path, body in files.items()}, page=1)
    return files


def test_items_come_to_where_evaluate_finds_them(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    files = evals(server, "2024")
    code, output, errors = run("evals-2024")
    assert code == 0, errors
    found = {path.relative_to(tmp_path / "evals").as_posix() for path in (tmp_path / "evals").rglob("*.jsonl")}
    assert found == files.keys()
    assert "not the pairs that Palenka knows" in errors
    assert "Next: palenka evaluate RUN --tasks blimp_filtered,supplement_filtered\n" in output


@pytest.mark.slow
def test_the_same_items_from_another_place_are_there_already_and_others_are_an_error(
    server: FaultyServer, run: Run, tmp_path: Path
) -> None:
    all_items(server)
    assert run("evals-2024")[0] == 0
    code, _, errors = run("evals-2025")
    assert code == 0 and errors.count("already there") == 2
    code, _, errors = run("evals-2026")
    assert code == 0 and errors.count("came whole") == 2  # GlobalPIQA
    (tmp_path / "evals" / "blimp_filtered" / "passive_1.jsonl").write_bytes(b"mine")
    code, _, errors = run("evals-2026")
    assert code == 2 and "changed since it was downloaded (passive_1.jsonl is another)" in errors
    code, _, errors = run("evals-2024")
    assert code == 2 and "another content already (passive_1.jsonl is another); it is left alone" in errors
    assert (tmp_path / "evals" / "blimp_filtered" / "passive_1.jsonl").read_bytes() == b"mine"
    assert not list((tmp_path / "evals").glob(".*.partial"))


@pytest.mark.parametrize("year", ["2024", "2026"])
def test_names_that_a_listing_gives_cannot_leave_the_folder(
    server: FaultyServer, run: Run, tmp_path: Path, year: str
) -> None:
    evals(server, year)
    for file in server.files.values():
        file.body = file.body.replace(b"a.jsonl", b"../../../x.jsonl")
    code, _, errors = run(f"evals-{year}")
    assert code == 2 and ("is no name for a file here" in errors or "cannot contain a '..'" in errors)
    assert not list(tmp_path.rglob("x.jsonl"))


def test_another_text_under_the_same_name_is_an_error(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives())
    target = tmp_path / "corpora" / OSF
    assert run(OSF)[0] == 0
    (target / "dev").rename(tmp_path / "old")
    server.osf("ad7qg", text_archives() | {"text_data/dev.zip": zipped({"childes.dev": b"another"})})
    code, _, errors = run(OSF)
    assert code == 2 and "another dev is published now" in errors and not (target / "dev").exists()
    (target / "download.json").unlink()
    assert run(OSF)[0] == 0 and (target / "dev").exists()


def test_a_damaged_record_is_named(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives())
    assert run(OSF)[0] == 0
    (tmp_path / "corpora" / OSF / "download.json").write_text('{"dev": {"item": 3}}')
    code, _, errors = run(OSF)
    assert code == 2 and "download.json: not a record of downloads any more" in errors


@pytest.mark.parametrize("right", [True, False])
def test_a_file_put_there_by_hand_is_used_if_it_is_the_right_one_and_kept(
    server: FaultyServer, run: Run, tmp_path: Path, right: bool
) -> None:
    server.osf("ad7qg", text_archives())
    archive = tmp_path / "corpora" / OSF / "train_10M.zip"
    archive.parent.mkdir(parents=True)
    content = text_archives()["text_data/train_10M.zip"] if right else b"half"
    archive.write_bytes(content)
    assert run(OSF)[0] == 0
    assert len(server.asked(ON_OSF)) == (0 if right else 1)
    assert archive.read_bytes() == content and (archive.parent / "train_10M" / "childes.train").exists()


def test_a_folder_that_is_there_is_never_overwritten(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives())
    train = tmp_path / "corpora" / OSF / "train_10M"
    train.mkdir(parents=True)
    (train / "childes.train").write_text("mine")
    code, _, errors = run(OSF)
    assert code == 2 and "there is another content already" in errors
    assert [path.read_text() for path in train.iterdir()] == ["mine"]


@pytest.mark.slow
def test_without_a_network_the_message_says_how_to_do_it_by_hand(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FreePort() as port:
        for variable in ("PALENKA_OSF", "PALENKA_GITHUB"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        target = tmp_path / "corpora" / OSF
        code, _, errors = run(OSF)
        assert code == 2 and "Connection refused" in errors
        for name in ("train_10M.zip", "dev.zip", "test.zip"):
            assert f"{name} from https://osf.io/ad7qg (folder text_data) to {target}/\n" in errors
        assert "works without a network" in errors
        code, _, errors = run("blimp")
        sha256 = "172a1a714d72e72a89e8384dd531483f3d0f8a9aee3d33dccaf7992d8cecbb73"
        assert code == 2 and "/alexwarstadt/blimp/raw/" in errors and sha256 in errors
        code, _, errors = run(HUB)
        page = "BabyLM-2026-Strict-Small/tree/c92ab16b4f08858304b0815706065b3354d8fc0a to"
        assert code == 2 and page in errors and "childes.train.txt" in errors

        for path, body in text_archives().items():
            (target / Path(path).name).write_bytes(body)
        code, _, errors = run(OSF)
        assert code == 0 and errors.count("could not be checked") == 3
        assert (target / "train_10M" / "gutenberg.train").exists()

        folders = [part.folder for part in CATALOGUE["evals-2026"].parts]
        for folder in folders:
            (tmp_path / "evals" / folder).mkdir(parents=True)
        code, _, errors = run("evals-2026")
        assert code == 0 and errors.count("is there, but could not be checked") == len(folders)


class FreePort:
    """A port of this machine on which nobody listens."""

    def __enter__(self) -> int:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        return int(self.socket.getsockname()[1])

    def __exit__(self, *error: object) -> None:
        self.socket.close()


def test_offline_mode_is_named(server: FaultyServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, _, errors = run(HUB)
    assert code == 2 and "HF_HUB_OFFLINE" in errors and not server.seen


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", b'{"data": 3}', b'{"data": [{"attributes": 1}]}'])
def test_a_listing_that_is_none_is_an_error(server: FaultyServer, run: Run, body: bytes) -> None:
    server.add("/v2/nodes/ad7qg/files/osfstorage/", body)
    code, _, errors = run(OSF)
    assert code == 2 and "https://osf.io/ad7qg" in errors


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "nothing to download was named; known: babylm-2023"),
        (["babylm-2024-10m"], "babylm-2024-10m: no such item; did you mean 'babylm-2024-10M'?"),
        (["evals-2024", "blimp", "--out", "x"], "with one item only"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_asked(
    server: FaultyServer, run: Run, arguments: list[str], expected: str
) -> None:
    code, _, errors = run(*arguments)
    assert code == 2 and expected in errors and not server.seen


def test_an_address_that_is_none_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALENKA_OSF", "osf.io")
    code, _, errors = run(OSF)
    assert code == 2 and "Invalid URL 'osf.io/v2/nodes" in errors


def test_the_list_shows_everything(run: Run) -> None:
    code, output, _ = run("--list")
    assert code == 0
    for item in CATALOGUE.values():
        for text in (item.name, item.about, item.size, item.licence, item.citation, item.page):
            assert text in output


# --- all evaluation data of a year


def all_items(server: FaultyServer) -> None:
    """Items of the right numbers where the catalogue has them, all alike."""
    pair = b'{"sentence_good": "Dogs run.", "sentence_bad": "Dogs runs."}\n'
    of_evals: dict[str, bytes] = {}
    on_osf: dict[str, dict[str, bytes]] = {}
    for part in (part for year in ("2024", "2025", "2026") for part in CATALOGUE[f"evals-{year}"].parts):
        (place,) = part.places
        if isinstance(place, OsfFolder):
            files = {f"{name}.jsonl": pair * lines for name, lines in published.FILES[part.folder].items()}
            here = on_osf.setdefault(place.node, {})
            here |= {f"{place.folder}/{place.name}/{name}": body for name, body in files.items()}
            continue
        assert isinstance(place, HubFiles)
        if part.folder.startswith("global_piqa"):
            header = "prompt\tsolution0\tsolution1\tsolution2\tlabel\texample_id\n"
            numbers = range(published.FILES[part.folder]["eng_latn"])
            rows = [f'"To ""open"" it,"\tpush\tturn\t\t{number % 2}\ten_{number}\n' for number in numbers]
            server.hub(place.dataset, place.revision, {f"data/{place.names[0]}": "".join([header, *rows]).encode()})
        else:
            files = {f"{name}.jsonl": pair * lines for name, lines in published.FILES.get(part.folder, {}).items()}
            files |= dict.fromkeys(place.names, b"whatever\n")
            of_evals |= {f"{place.folder}/{name}": body for name, body in files.items()}
    server.hub("BabyLM-community/BabyLM-2026-Strict-Evals", "8d52da9424a9ff30b9e8266c4f751aba9c504233", of_evals)
    for node, lying in on_osf.items():
        server.osf(node, lying)


@pytest.mark.slow
@pytest.mark.parametrize("year", ["2025", "2026"])
def test_all_of_a_year_comes_but_ewok_and_it_is_said_how_to_get_that(
    server: FaultyServer, run: Run, tmp_path: Path, year: str
) -> None:
    all_items(server)
    code, output, errors = run(f"evals-{year}")
    assert code == 0, errors
    assert f"Next: palenka evaluate RUN --protocol {year}" in output
    assert "EWoK is not among it: `ewok` fetches it" in output and "whose password" in output
    assert errors.count("came whole") == len(CATALOGUE[f"evals-{year}"].parts)
    assert "published items" not in errors
    root, rules = tmp_path / "evals", PROTOCOLS[year]
    wanted = {rules.folder(task) for task in (*rules.tasks, *rules.fast)} | {"aoa", "glue_filtered"}
    assert {path.name for path in root.iterdir() if path.is_dir()} == wanted - {"ewok_filtered", "ewok_fast"}
    assert {path.name for path in (root / "aoa").iterdir()} == {"cdi_childes.json", "cdi_human.csv"}
    code, _, errors = run(f"evals-{year}")
    assert code == 0 and errors.count("already there") == len(CATALOGUE[f"evals-{year}"].parts)


@pytest.mark.slow
def test_global_piqa_comes_as_items(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    all_items(server)
    code, _, errors = run("evals-2026")
    assert code == 0, errors
    root = tmp_path / "evals"
    first, second = Choices.read(root / "global_piqa_nonparallel", "2026").items[:2]
    assert first.choices == (('To "open" it,', " push"), ('To "open" it,', " turn"))
    assert (second.choices[0].text, second.name) == (" turn", "en_1")


@pytest.mark.slow
def test_other_numbers_of_items_than_published_are_told_when_they_come(
    server: FaultyServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_items(server)
    monkeypatch.setitem(published.FILES, "comps", published.FILES["comps"] | {"comps_base": 49_341})
    code, _, errors = run("evals-2026")
    assert code == 0
    assert "comps: whole, but not the published items (comps_base.jsonl has 49,340 lines, not 49,341)" in errors


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"prompt\tsolution0\tlabel\texample_id\na\tb\t0\tx\n", "row 2: has no solution1"),
        (b"<html>log in</html>\nno table\n", "row 2: has no prompt, solution0"),
    ],
)
def test_a_table_that_is_no_global_piqa(tmp_path: Path, table: bytes, words: str) -> None:
    (tmp_path / "parallel_eng_latn.tsv").write_bytes(table)
    with pytest.raises(UserError, match=words):
        global_piqa.write_items(tmp_path / "parallel_eng_latn.tsv", tmp_path)


# --- EWoK


def ewok_items() -> list[dict[str, str]]:
    """As many items as the filter keeps, and one in each domain with a word that it does not know."""
    items = []
    for domain, lines in published.EWOK.items():
        for number in [*range(lines // 2), -1]:
            word = "zyzzyva" if number < 0 else "ball"
            items.append({"Domain": domain, "ConceptA": "a", "ConceptB": "b", "ContextType": "c", "ContextDiff": "d",
                          "TargetDiff": "e", "Context1": "Ann sees it.", "Context2": "Ann doesn't see it.",
                          "Target1": f"The {word} is here.", "Target2": f"The {word} isn't here."})  # fmt: skip
    return items


WORDS = "ann sees see it . does n't the ball is here\n".replace(" ", "\n").encode()


@pytest.fixture
def gated(server: FaultyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """EWoK on the hub, and the pipeline's list of words on GitHub; returns the path of EWoK's file."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(pyarrow.Table.from_pylist(ewok_items()), tmp_path / "ewok.parquet")
    place, _ = CATALOGUE["ewok"].parts[0].places
    assert isinstance(place, HubFiles)
    items = {f"{place.folder}/{place.names[0]}": (tmp_path / "ewok.parquet").read_bytes()}
    server.hub(place.dataset, place.revision, items, large=tuple(items))
    words = places.Remote("vocab.txt", server.add("/words", WORDS), sha256(WORDS))
    monkeypatch.setattr(places, "_on_github", lambda place: words)
    return hub_path(0, "ewok-core-1.0.parquet", "ewok")


def test_ewok_needs_the_users_own_access(server: FaultyServer, run: Run, gated: str) -> None:
    code, _, errors = run("ewok")
    assert code == 2 and not server.seen
    assert "no token found" in errors
    assert "accept the terms" in errors and "export HF_TOKEN=" in errors and "settings/tokens" in errors


@pytest.mark.parametrize("refusal", [faults.status(401), faults.status(403, X_Error_Code="GatedRepo")])
def test_a_token_that_is_refused_is_explained(
    server: FaultyServer, run: Run, gated: str, monkeypatch: pytest.MonkeyPatch, refusal: faults.Fault
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.fault(gated, *[refusal] * 9)
    code, _, errors = run("ewok")
    assert code == 2 and ("401" in errors or "403" in errors) and "accept the terms" in errors


def test_a_token_that_is_none_is_not_shown(run: Run, gated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\x0b!")
    assert run("ewok")[0] == 2


def test_a_token_goes_to_its_origin_only(
    server: FaultyServer, run: Run, gated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    elsewhere = FaultyServer()
    try:
        elsewhere.files["/moved"] = server.files[gated]
        server.fault(gated, faults.redirect(elsewhere.url + "/moved"))
        assert run("ewok")[0] == 0
        assert server.asked(gated)[0].headers["Authorization"] == f"Bearer {TOKEN}"
        assert "Authorization" not in elsewhere.asked("/moved")[0].headers
    finally:
        elsewhere.close()


def test_ewok_is_filtered_as_the_pipeline_does(
    server: FaultyServer, run: Run, gated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    code, output, errors = run("ewok")
    assert code == 0, errors
    folder = tmp_path / "evals" / "ewok_filtered"
    for domain, lines in published.EWOK.items():
        records = [json.loads(line) for line in (folder / f"{domain}.jsonl").read_text().splitlines()]
        assert len(records) == lines
        assert records[1]["Context1"] == records[0]["Context2"] and records[1]["Target2"] == records[0]["Target1"]
    assert "--tasks ewok_filtered" in output
    assert [seen.headers.get("Authorization") for seen in server.asked("/words")] == [None]
    code, _, errors = run("ewok")
    assert code == 0 and "ewok_filtered: already there" in errors


def test_another_number_of_items_than_published_is_no_ewok(
    run: Run, gated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setitem(published.EWOK, "social-relations", 1550)
    code, _, errors = run("ewok")
    assert code == 2 and "social-relations 1548 instead of 1550" in errors
    assert not (tmp_path / "evals" / "ewok_filtered").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ann doesn't see it.", "ann does n't see it ."),
        ("He cannot; she's 5.5 m away, I'd say", "he can not ; she 's 5.5 m away , i 'd say"),
        ("A well-known piano? Yes!", "a well-known piano ? yes !"),
        ("They'll say \"no\" (won't they)", 'they \'ll say " no " ( wo n\'t they )'),
    ],
)
def test_words_are_cut_as_nltk_cuts_them(text: str, words: str) -> None:
    assert ewok.split_words(text) == words.split(" ")


# --- interrupted for real


def started(server: FaultyServer, tmp_path: Path, *command: str) -> "subprocess.Popen[str]":
    # Where the tests are a shell's background job, SIGINT is ignored, and a child would inherit that.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, *command], env=os.environ | environment(server, tmp_path), stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, former)
    return process


def wait_for(condition: Callable[[], Any], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.mark.parametrize("item", [OSF, HUB])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.usefixtures("processes")
def test_a_process_ended_in_mid_download_leaves_nothing_half_written_in_place(
    server: FaultyServer, run: Run, tmp_path: Path, ending: signal.Signals, item: str
) -> None:
    path = texts(server, item)
    server.fault(path, faults.stalled(50_000))
    process = started(server, tmp_path, "-m", "palenka", "download", item)
    wait_for(lambda: server.asked(path) and server.asked(path)[0].sent == 50_000, process)
    process.send_signal(ending)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (-9 if ending == signal.SIGKILL else 130), errors
    assert ending == signal.SIGKILL or "the same command fetches the rest" in errors
    folder = folder_of(tmp_path, item)
    assert not folder.exists()

    assert run(item)[0] == 0
    assert folder.exists() and not list(folder.parent.glob(".*.partial"))


@pytest.mark.usefixtures("processes")
def test_a_process_killed_in_mid_unpacking_starts_it_over(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives())
    target = tmp_path / "corpora" / OSF
    program = (
        "import time, zipfile\n"
        "from palenka import cli\n"
        "write = zipfile.ZipFile._extract_member\n"
        "zipfile.ZipFile._extract_member = lambda *arguments: (write(*arguments), time.sleep(60))\n"
        f"cli.main(['download', {OSF!r}])\n"
    )
    process = started(server, tmp_path, "-c", program)
    wait_for(lambda: list((target / ".train_10M.partial" / "whole").rglob("*.train")), process)
    process.kill()
    process.communicate()
    assert not (target / "train_10M").exists()

    assert run(OSF)[0] == 0
    assert len(list((target / "train_10M").iterdir())) == len(DOMAINS)
    assert len(server.asked(ON_OSF)) == 1


@pytest.mark.usefixtures("processes")
def test_a_second_download_waits_for_the_first(server: FaultyServer, tmp_path: Path) -> None:
    path = texts(server, OSF)
    server.fault(path, faults.stalled(100))
    first = started(server, tmp_path, "-m", "palenka", "download", OSF)
    wait_for(lambda: server.asked(path), first)
    second = started(server, tmp_path, "-m", "palenka", "download", OSF)
    assert second.stderr and "waiting for another download" in second.stderr.readline()
    time.sleep(0.3)
    assert len(server.asked(path)) == 1
    first.kill()
    first.communicate()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert folder_of(tmp_path, OSF).exists()


def test_the_catalogue_is_consistent() -> None:
    for item in CATALOGUE.values():
        folders = [part.folder for part in item.parts]
        assert len(set(folders)) == len(folders)
        assert all(folder.split("/")[0] in folders for _, folder in item.splits)
        assert bool(item.splits) == bool(item.prepared_as) == (item.kind == "text")
        assert bool(item.tasks) == (item.kind == "items")
        for part in item.parts:
            assert not part.archive or len(part.places) == 1
            assert part.archive or not any(isinstance(place, OsfFile) for place in part.places)


@pytest.mark.skipif("PALENKA_SHARED_DATA" not in os.environ, reason="needs the shared data")
@pytest.mark.parametrize("part", CATALOGUE["evals-2024"].parts)
def test_the_known_pairs_are_those_of_the_catalogue(part: Any) -> None:
    folder = Path(os.environ["PALENKA_SHARED_DATA"]) / part.folder
    assert downloads._joined_sha256(folder) == part.content_sha256
