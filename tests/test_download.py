"""Downloads: what arrives is whole and right or not there at all, whatever server and archive do.

The server is a real one on this machine (`faulty_server.py`); the catalogue is the real one too, only its addresses and
the files behind them are made up.
"""

import hashlib
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faulty_server as faults
import pytest
from conftest import Call
from faulty_server import FaultyServer

from palenka import cli
from palenka.data.catalog import CATALOGUE, DOMAINS, HubFiles, OsfFile
from palenka.data.fetch import archives, ewok, places, transport
from palenka.data.fetch import download as downloads
from palenka.data.fetch.archives import Limits, unpack
from palenka.data.fetch.transport import Patience, Remote, Unreachable, Web, digest_of
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

FAST = Patience(timeout=0.4, attempts=4, connections=2, pause=0.01, longest_pause=0.3)
BODY = bytes(range(256)) * 400
TOKEN = "hf_secretsecret"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    faulty = FaultyServer()
    yield faulty
    faulty.close()


@pytest.fixture
def run(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> Run:
    """run(*arguments) calls `python -m palenka download`; everything comes from the server, goes below tmp_path."""
    for variable in ("PALENKA_OSF", "PALENKA_GITHUB", "HF_ENDPOINT"):
        monkeypatch.setenv(variable, server.url)
    monkeypatch.setenv("PALENKA_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("PALENKA_EVAL", str(tmp_path / "evals"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "nobody" / "token"))
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(downloads, "Patience", lambda: FAST)

    def download(*arguments: str) -> tuple[int, str, str]:
        code, output, errors = call(cli.main, ["download", *arguments])
        assert "Traceback" not in errors
        assert TOKEN not in output + errors
        return code, output, errors

    return download


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def zipped(files: dict[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as archive:
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


def fetch(remote: Remote, path: Path, patience: Patience = FAST) -> Any:
    return Web(patience).fetch(remote, path, lambda count: None)


def known(server: FaultyServer, body: bytes = BODY) -> Remote:
    """A file on the server whose size and hash are published."""
    url = server.add("/file", body)
    return Remote("file", url, len(body), sha256(body), vouched="the catalogue")


def unknown(server: FaultyServer) -> Remote:
    """A file on the server of which nothing is published."""
    return Remote("file", server.add("/file", BODY))


# --- one file


@pytest.mark.parametrize("fault", [faults.truncated(30_000), faults.reset(30_000), faults.stalled(30_000)])
@pytest.mark.parametrize("remote", [known, unknown])
def test_a_broken_download_goes_on_where_it_stopped(
    server: FaultyServer, tmp_path: Path, fault: faults.Fault, remote: Callable[[FaultyServer], Remote]
) -> None:
    server.fault("/file", fault)
    fetch(remote(server), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    first, second = server.asked("/file")
    assert "Range" not in first.headers
    start = int(second.headers["Range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= 30_000
    assert second.headers["If-Range"] == server.files["/file"].etag
    assert second.sent == len(BODY) - start
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_passing_fault_of_the_server_is_waited_for(server: FaultyServer, tmp_path: Path, code: int) -> None:
    server.fault("/file", faults.status(code), faults.status(code, Retry_After="0"))
    fetch(known(server), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert len(server.asked("/file")) == 3


def test_a_server_is_not_asked_for_ever(server: FaultyServer, tmp_path: Path) -> None:
    server.fault("/file", *[faults.status(503)] * 10)
    with pytest.raises(Unreachable, match=r"/file: 503 Service Unavailable \(tried 4 times\)"):
        fetch(known(server), tmp_path / "file")
    assert len(server.asked("/file")) == 4


def test_retry_after_is_honoured_up_to_a_limit(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", pauses.append)
    server.fault("/file", faults.status(429, Retry_After="7"), faults.status(429, Retry_After="61"))
    with pytest.raises(Unreachable, match="asks to wait 61 seconds"):
        fetch(known(server), tmp_path / "file", Patience(longest_pause=60))
    assert pauses == [7]


def test_a_server_that_ignores_ranges_is_asked_for_all_of_it(server: FaultyServer, tmp_path: Path) -> None:
    server.fault("/file", faults.truncated(30_000), faults.ignoring_range)
    fetch(unknown(server), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize(
    "second", [faults.of_another_version, faults.another_piece, faults.other_bytes(BODY[::-1])]
)
def test_pieces_of_two_versions_are_never_put_together(
    server: FaultyServer, tmp_path: Path, second: faults.Fault
) -> None:
    remote = unknown(server)
    server.fault("/file", faults.truncated(30_000), second)
    fetch(remote, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() in (BODY, BODY[::-1])


def test_a_wrong_piece_under_the_same_etag_is_found_by_the_hash_and_fetched_anew(
    server: FaultyServer, tmp_path: Path
) -> None:
    remote = known(server)
    server.fault("/file", faults.truncated(30_000), faults.other_bytes(b"?" * len(BODY), server.files["/file"].etag))
    fetch(remote, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert "Range" not in server.asked("/file")[2].headers


def test_a_part_longer_than_the_file_is_thrown_away(server: FaultyServer, tmp_path: Path) -> None:
    remote = unknown(server)
    (tmp_path / "file.part").write_bytes(BODY + b"more")
    state = {"url": remote.url, "version": server.files["/file"].etag}
    (tmp_path / "file.part.json").write_text(json.dumps(state))
    fetch(remote, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize("state", ["", "{", '{"url": "http://elsewhere/file", "version": "x"}', "[]"])
def test_a_part_of_unknown_origin_is_thrown_away(server: FaultyServer, tmp_path: Path, state: str) -> None:
    (tmp_path / "file.part").write_bytes(b"?" * 100)
    (tmp_path / "file.part.json").write_text(state)
    fetch(known(server), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert "Range" not in server.asked("/file")[0].headers


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (faults.other_bytes(b"?" * len(BODY)), "not the right file: sha256 .*; the catalogue says"),
        (faults.other_bytes(BODY + b"!"), r"has 102,401 bytes, the catalogue says 102,400"),
        (faults.other_bytes(BODY[:-1]), r"has 102,399 bytes, the catalogue says 102,400"),
        (faults.web_page(), "a web page instead of the file"),
        (faults.status(404), r"not there \(404\); has it moved"),
        (faults.status(401), r"refused by the server \(401"),
        (faults.status(403), r"refused by the server \(403"),
        (faults.status(418), "418"),
        (faults.redirect("file:///etc/passwd"), "redirects lead nowhere"),
        (faults.redirect("ftp://127.0.0.1/file"), "not https; not followed"),
        (faults.status(204), "nobody asked for"),
    ],
)
def test_what_is_not_the_file_is_refused(
    server: FaultyServer, tmp_path: Path, fault: faults.Fault, expected: str
) -> None:
    server.fault("/file", fault)
    with pytest.raises(UserError, match=expected) as caught:
        fetch(known(server), tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", [faults.web_page(), faults.web_page("text/plain"), faults.without_length])
def test_without_a_known_hash_no_doubtful_answer_is_taken(
    server: FaultyServer, tmp_path: Path, fault: faults.Fault
) -> None:
    server.fault("/file", fault)
    with pytest.raises(UserError, match="web page instead of the file|does not say how long"):
        fetch(unknown(server), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_redirects_are_followed_with_the_range_but_not_in_circles(server: FaultyServer, tmp_path: Path) -> None:
    remote = known(server)
    start = Remote("file", server.url + "/start", remote.size, remote.sha256)
    server.fault("/start", *[faults.redirect("/file", code) for code in (301, 307)])
    server.fault("/file", faults.truncated(30_000))
    fetch(start, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert server.asked("/file")[1].headers["Range"] == "bytes=30000-"
    server.fault("/start", *[faults.redirect("/start")] * 20)
    with pytest.raises(Unreachable, match="redirects lead nowhere"):
        fetch(start, tmp_path / "again")


def test_no_way_leads_from_https_to_http() -> None:
    with pytest.raises(Unreachable, match="not https"):
        transport.check_downgrade("https://a.org/x", "http://a.org/x")
    transport.check_downgrade("https://a.org/x", "https://b.org/x")


def test_the_environments_proxy_is_asked(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    address = "http://far.invalid/file"
    server.add(address, BODY)
    fetch(Remote("file", address), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_token_goes_to_its_origin_only(server: FaultyServer, tmp_path: Path) -> None:
    elsewhere = FaultyServer()
    try:
        body = known(server)
        elsewhere.add("/file", BODY)
        asked = Remote("file", server.url + "/start", body.size, body.sha256, token=TOKEN)
        server.fault("/start", faults.redirect("/moved"))
        server.fault("/moved", faults.redirect(elsewhere.url + "/file"))
        fetch(asked, tmp_path / "file")
        assert [seen.headers.get("Authorization") for seen in server.seen] == [f"Bearer {TOKEN}"] * 2
        assert "Authorization" not in elsewhere.asked("/file")[0].headers
    finally:
        elsewhere.close()


@pytest.mark.parametrize("url, token", [("http://example.org/x", TOKEN), ("http://127.0.0.1/x", f"{TOKEN}\nX: y")])
def test_a_token_is_not_sent_in_the_clear_nor_shown(tmp_path: Path, url: str, token: str) -> None:
    with pytest.raises(UserError, match="a token is not sent there|a character that no token has") as caught:
        fetch(Remote("file", url, token=token), tmp_path / "file")
    assert TOKEN not in str(caught.value)


def test_a_full_disk_is_noticed_before(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport.shutil, "disk_usage", lambda path: Disk(len(BODY)))
    with pytest.raises(UserError, match=r"102,400 bytes are to come, but only 102,400 are free"):
        fetch(known(server), tmp_path / "file")


class Disk:
    def __init__(self, free: int) -> None:
        self.free = free


# --- archives


def entry(name: str, mode: int = 0o100644, **fields: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def archive_of(path: Path, *entries: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("harmless.txt", "harmless")
        for info, content in entries:
            archive.writestr(info, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([(entry("../out.txt"), b"x")], "leads out of the folder"),
        ([(entry("a/../../out.txt"), b"x")], "leads out of the folder"),
        ([(entry("/tmp/out.txt"), b"x")], "leads out of the folder"),
        ([(entry("C:/out.txt"), b"x")], "leads out of the folder"),
        ([(entry("a//out.txt"), b"x")], "leads out of the folder"),
        ([(entry("..\\out.txt"), b"x")], "a character that no name may have"),
        ([(entry("out\x1b[2J.txt"), b"x")], "a character that no name may have"),
        ([(entry("n" * 300), b"x")], "too long a name"),
        ([(entry("link", 0o120777), b"/etc/passwd")], "a link or a special file"),
        ([(entry("pipe", 0o010644), b"")], "a link or a special file"),
        ([(entry("a.txt"), b"x"), (entry("a.txt"), b"y")], "two entries are named 'a.txt'"),
        ([(entry("a.txt"), b"x"), (entry("A.TXT"), b"y")], "two entries are named 'A.TXT'"),
        ([(entry("a"), b"x"), (entry("a/b.txt"), b"y")], "two entries are named 'a'"),
        ([(entry("zeros", compress_type=8), bytes(10_000_000))], "more than such an archive may hold"),
        ([(entry("slow", compress_type=12), b"x")], "compressed in a way"),
    ],
)
def test_a_dangerous_archive_is_refused_whole(
    tmp_path: Path, entries: list[tuple[zipfile.ZipInfo, bytes]], expected: str
) -> None:
    archive = archive_of(tmp_path / "a.zip", *entries)
    with pytest.raises(UserError, match=expected):
        unpack(archive, tmp_path / "new" / "folder")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "new"]


def test_an_archive_may_not_hold_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(tmp_path / "a.zip", (entry("b.txt"), os.urandom(2000)))
    with pytest.raises(UserError, match="2 entries; at most 1"):
        unpack(archive, tmp_path / "new", Limits(entries=1))
    with pytest.raises(UserError, match=r"2,008 bytes unpacked, more than .* \(1,000\)"):
        unpack(archive, tmp_path / "new", Limits(bytes=1000))
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: Disk(1 << 20))
    with pytest.raises(UserError, match="but only 1,048,576 are free"):
        unpack(archive, tmp_path / "new")


def patched(archive: Path, offset: int, code: str, value: int) -> Path:
    """Write a number into the central directory's last header."""
    data = bytearray(archive.read_bytes())
    struct.pack_into(f"<{code}", data, data.rindex(b"PK\x01\x02") + offset, value)
    archive.write_bytes(data)
    return archive


@pytest.mark.parametrize("claimed", [10, 1 << 20])
def test_a_header_that_lies_about_the_size_gains_nothing(tmp_path: Path, claimed: int) -> None:
    archive = patched(archive_of(tmp_path / "a.zip", (entry("b.txt"), os.urandom(50_000))), 24, "I", claimed)
    with pytest.raises(UserError, match="not a whole zip archive|shorter than its header says"):
        unpack(archive, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_encrypted_archive_is_left_to_the_person_with_the_password(tmp_path: Path) -> None:
    archive = patched(archive_of(tmp_path / "a.zip", (entry("b.txt"), b"x")), 8, "H", 1)
    with pytest.raises(UserError, match="is encrypted; unpack this archive by hand"):
        unpack(archive, tmp_path / "new")


@pytest.mark.parametrize("keep", [0, 10, -30, -1])
def test_half_an_archive_is_refused(tmp_path: Path, keep: int) -> None:
    archive = archive_of(tmp_path / "a.zip", (entry("b.txt"), os.urandom(5000)))
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a whole zip archive"):
        unpack(archive, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_damage_inside_an_archive_is_found(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.zip", (entry("b.txt"), os.urandom(5000)))
    data = bytearray(archive.read_bytes())
    data[1000] ^= 1
    archive.write_bytes(data)
    with pytest.raises(UserError, match="not a whole zip archive"):
        unpack(archive, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_one_folder_around_everything_and_litter_are_left_away(tmp_path: Path) -> None:
    files = {"dev/a.dev": b"a", "dev/sub/b.dev": b"b", "dev/.DS_Store": b"?", "__MACOSX/dev/._a.dev": b"?"}
    (tmp_path / "a.zip").write_bytes(zipped(files))
    unpack(tmp_path / "a.zip", tmp_path / "new")
    found = {path.relative_to(tmp_path / "new").as_posix(): path.read_bytes() for path in tmp_path.rglob("*.dev")}
    assert found == {"a.dev": b"a", "sub/b.dev": b"b"}
    assert not list((tmp_path / "new").rglob(".*"))


# --- the command


def test_a_text_comes_to_where_prepare_finds_it(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives(), page=2)
    code, output, errors = run("babylm-2024-10M")
    assert code == 0, errors
    target = tmp_path / "corpora" / "babylm-2024-10M"
    for folder, split in {"train_10M": "train", "dev": "dev", "test": "test"}.items():
        assert {path.name for path in (target / folder).iterdir()} == {f"{domain}.{split}" for domain in DOMAINS}
    item = CATALOGUE["babylm-2024-10M"]
    assert output.index(item.licence) < output.index("Next:") and item.citation in output
    prepare = f"--train {target}/train_10M --dev {target}/dev --test {target}/test --name strict-small"
    assert f"Next: python -m palenka prepare {prepare}" in output
    assert not list(target.glob("*.zip*")) and not list(target.glob(".*partial")) and not list(target.glob(".*zip*"))
    receipt = json.loads((target / "download.json").read_text())
    assert receipt["dev"]["files"]["dev.zip"]["vouched_for_by"] == "OSF"

    asked = len(server.seen)
    code, output, errors = run("babylm-2024-10M")
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


def hub_texts(server: FaultyServer, large: bool = True) -> None:
    for part in CATALOGUE["babylm-2026-10M"].parts:
        (place,) = part.places
        assert isinstance(place, HubFiles)
        files = {name: f"{name}\n".encode() * 2000 for name in place.names}
        server.hub(place.dataset, place.revision, files, large=tuple(files)[:3] if large else ())


def hub_path(part: int, name: str, item: str = "babylm-2026-10M") -> str:
    place = CATALOGUE[item].parts[part].places[0]
    assert isinstance(place, HubFiles)
    return f"/datasets/{place.dataset}/resolve/{place.revision}/{f'{place.folder}/' if place.folder else ''}{name}"


def test_a_text_of_the_hub_comes_file_by_file(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    hub_texts(server)
    server.fault(hub_path(0, "gutenberg.train.txt"), *[faults.status(503)] * 9)
    code, _, errors = run("babylm-2026-10M")
    assert code == 2 and "503" in errors
    target = tmp_path / "corpora" / "babylm-2026-10M"
    assert not (target / "train").exists()
    server.faults.clear()
    code, output, _ = run("babylm-2026-10M")
    assert code == 0 and f"--train {target}/train --dev {target}/dev" in output and "--name strict-small-2026" in output
    assert len(server.asked(hub_path(0, "childes.train.txt"))) == 1
    assert {path.name for path in (target / "train").iterdir()} == {f"{domain}.train.txt" for domain in DOMAINS}


@pytest.mark.parametrize("name", ["bnc_spoken.train.txt", "switchboard.train.txt"])
def test_the_hubs_hashes_of_large_and_small_files_are_checked(
    server: FaultyServer, run: Run, tmp_path: Path, name: str
) -> None:
    hub_texts(server)
    path = hub_path(0, name)
    server.fault(path, faults.other_bytes(b"?" * len(server.files[path].body)))
    code, _, errors = run("babylm-2026-10M")
    assert code == 2 and "not the right file" in errors and "the hub says" in errors
    assert not (tmp_path / "corpora" / "babylm-2026-10M" / "train").exists()


def evals(server: FaultyServer, year: str) -> dict[str, bytes]:
    files = {"blimp_filtered/b.jsonl": b'{"b": 1}\n', "blimp_filtered/a.jsonl": b'{"a": 1}\n',
             "supplement_filtered/s.jsonl": b'{"s": 1}\n'}  # fmt: skip
    if year == "2026":
        place = CATALOGUE["evals-2026"].parts[0].places[0]
        assert isinstance(place, HubFiles)
        full = {f"evaluation_data/full_eval/{path}": body for path, body in files.items()}
        server.hub(place.dataset, place.revision, full)
    else:
        folder = "evaluation_data" if year == "2024" else "evaluation_data/full_eval"
        fast = {"evaluation_data/fast_eval/blimp_fast/a.jsonl": b"{}"}
        node = "ad7qg" if year == "2024" else "ryjfm"
        server.osf(node, fast | {f"{folder}/{path}": body for path, body in files.items()}, page=1)
    return files


@pytest.mark.parametrize("year", ["2024", "2025", "2026"])
def test_items_come_to_where_evaluate_finds_them(server: FaultyServer, run: Run, tmp_path: Path, year: str) -> None:
    files = evals(server, year)
    code, output, errors = run(f"evals-{year}")
    assert code == 0, errors
    for path, body in files.items():
        assert (tmp_path / "evals" / path).read_bytes() == body
    assert "not the pairs that Palenka knows" in errors
    assert "Next: python -m palenka evaluate RUN --tasks blimp_filtered,supplement_filtered\n" in output


def test_the_same_items_from_another_place_are_there_already_and_others_are_an_error(
    server: FaultyServer, run: Run, tmp_path: Path
) -> None:
    evals(server, "2024")
    evals(server, "2026")
    assert run("evals-2024")[0] == 0
    code, _, errors = run("evals-2026")
    assert code == 0 and errors.count("already there") == 2
    assert not server.asked(hub_path(0, "a.jsonl", "evals-2026"))
    (tmp_path / "evals" / "blimp_filtered" / "a.jsonl").write_bytes(b"mine")
    code, _, errors = run("evals-2026")
    assert code == 2 and "changed since it was downloaded (a.jsonl is another)" in errors
    code, _, errors = run("evals-2024")
    assert code == 2 and "with another content, and is left alone: a.jsonl is not the right file" in errors
    assert (tmp_path / "evals" / "blimp_filtered" / "a.jsonl").read_bytes() == b"mine"


def test_names_that_a_listing_gives_cannot_leave_the_folder(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    evals(server, "2026")
    (path,) = [path for path in server.files if path.startswith("/api/") and path.endswith("/blimp_filtered")]
    listing = json.loads(server.files[path].body)
    listing[0]["path"] = "evaluation_data/full_eval/blimp_filtered/..\\..\\x.jsonl"
    server.add(path, json.dumps(listing).encode())
    code, _, errors = run("evals-2026")
    assert code == 2 and "is no name for a file here" in errors


def test_a_hash_that_nobody_publishes_is_kept_and_holds(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    texts = text_archives()
    server.osf("ad7qg", texts, hashes=False)
    code, _, errors = run("babylm-2024-10M")
    target = tmp_path / "corpora" / "babylm-2024-10M"
    seen = sha256(texts["text_data/dev.zip"])
    assert code == 0 and f"dev.zip: nobody publishes its hash; on record from now on: sha256 {seen}" in errors
    assert json.loads((target / "download.json").read_text())["dev"]["files"]["dev.zip"]["sha256"] == seen

    (target / "dev").rename(tmp_path / "old")
    other = bytearray(texts["text_data/dev.zip"])
    other[-1] ^= 0
    other[10] ^= 1
    server.osf("ad7qg", texts | {"text_data/dev.zip": bytes(other)}, hashes=False)
    code, _, errors = run("babylm-2024-10M")
    assert code == 2 and "not the right file" in errors
    assert f"download.json, written when it first came, says {seen}" in errors
    server.osf("ad7qg", texts | {"text_data/dev.zip": bytes(other)}, hashes=True)
    code, _, errors = run("babylm-2024-10M")
    assert code == 2 and "another file is published now" in errors and seen in errors
    assert not (target / "dev").exists()


def test_a_file_put_there_by_hand_is_used_and_kept(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    texts = text_archives()
    server.osf("ad7qg", texts)
    target = tmp_path / "corpora" / "babylm-2024-10M"
    target.mkdir(parents=True)
    (target / "train_10M.zip").write_bytes(texts["text_data/train_10M.zip"])
    assert run("babylm-2024-10M")[0] == 0
    assert not server.asked("/download/ad7qg/text_data/train_10M.zip")
    assert (target / "train_10M.zip").exists() and (target / "train_10M" / "childes.train").exists()


def test_a_wrong_file_put_there_by_hand_is_named(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives())
    target = tmp_path / "corpora" / "babylm-2024-10M"
    target.mkdir(parents=True)
    (target / "train_10M.zip").write_bytes(b"half")
    code, _, errors = run("babylm-2024-10M")
    assert code == 2 and "train_10M.zip: is there already, but is not the right file: 4 bytes; OSF says" in errors
    assert (target / "train_10M.zip").read_bytes() == b"half"


def test_a_folder_that_is_there_is_never_overwritten(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives())
    train = tmp_path / "corpora" / "babylm-2024-10M" / "train_10M"
    train.mkdir(parents=True)
    (train / "childes.train").write_text("mine")
    code, _, errors = run("babylm-2024-10M")
    assert code == 2 and "there is another content already" in errors
    assert [path.read_text() for path in train.iterdir()] == ["mine"]


def test_without_a_network_the_message_says_how_to_do_it_by_hand(
    server: FaultyServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FreePort() as port:
        for variable in ("PALENKA_OSF", "PALENKA_GITHUB", "HF_ENDPOINT"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        target = tmp_path / "corpora" / "babylm-2024-10M"
        code, _, errors = run("babylm-2024-10M")
        assert code == 2 and "no connection (Connection refused) (tried 2 times)" in errors
        for name in ("train_10M.zip", "dev.zip", "test.zip"):
            assert f"{name} from https://osf.io/ad7qg (folder text_data) to {target}/\n" in errors
        assert "works without a network" in errors
        code, _, errors = run("blimp")
        sha256 = "172a1a714d72e72a89e8384dd531483f3d0f8a9aee3d33dccaf7992d8cecbb73"
        assert code == 2 and "/alexwarstadt/blimp/raw/" in errors and sha256 in errors
        code, _, errors = run("babylm-2026-10M")
        assert code == 2 and "Strict-Small/resolve/c92ab16b4f08858304b0815706065b3354d8fc0a/childes.train.txt" in errors

        for path, body in text_archives().items():
            (target / Path(path).name).write_bytes(body)
        assert run("babylm-2024-10M")[0] == 0
        assert (target / "train_10M" / "gutenberg.train").exists()

        for folder in ("blimp_filtered", "supplement_filtered"):
            (tmp_path / "evals" / folder).mkdir(parents=True)
        code, _, errors = run("evals-2026")
        assert code == 0 and errors.count("is there, but could not be checked") == 2


class FreePort:
    """A port of this machine on which nobody listens."""

    def __enter__(self) -> int:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        return int(self.socket.getsockname()[1])

    def __exit__(self, *error: object) -> None:
        self.socket.close()


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", b'{"data": 3}', b'{"data": [{"attributes": 1}]}'])
def test_a_listing_that_is_none_is_an_error(server: FaultyServer, run: Run, body: bytes) -> None:
    server.add("/v2/nodes/ad7qg/files/osfstorage/", body)
    code, _, errors = run("babylm-2024-10M")
    assert code == 2 and ("expected a listing (JSON)" in errors or "not a listing of files" in errors)


@pytest.mark.parametrize("body", [zipped({"../x.dev": b"x"}), text_archives()["text_data/dev.zip"][:-20]])
def test_an_archive_that_cannot_be_unpacked_leaves_nothing(
    server: FaultyServer, run: Run, tmp_path: Path, body: bytes
) -> None:
    server.osf("ad7qg", text_archives() | {"text_data/train_10M.zip": body}, hashes=False)
    code, _, errors = run("babylm-2024-10M")
    assert code == 2 and ("leads out of" in errors or "not a whole zip archive" in errors)
    assert {path.name for path in (tmp_path / "corpora" / "babylm-2024-10M").iterdir()} == {".download.lock"}


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
    code, _, errors = run("babylm-2024-10M")
    assert code == 2 and "PALENKA_OSF=osf.io: expected an address such as https://api.osf.io" in errors


def test_the_list_shows_everything(run: Run) -> None:
    code, output, _ = run("--list")
    assert code == 0
    for item in CATALOGUE.values():
        for text in (item.name, item.about, item.size, item.licence, item.citation, item.page):
            assert text in output


# --- EWoK


def ewok_items() -> list[dict[str, str]]:
    """As many items as the filter keeps, and one in each domain with a word that it does not know."""
    items = []
    for domain, lines in ewok.LINES.items():
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
    hub, github = CATALOGUE["ewok"].parts[0].places
    assert isinstance(hub, HubFiles)
    items = {f"{hub.folder}/{hub.names[0]}": (tmp_path / "ewok.parquet").read_bytes()}
    server.hub(hub.dataset, hub.revision, items, large=tuple(items))
    words = Remote("vocab.txt", server.add("/words", WORDS), len(WORDS), sha256(WORDS))
    look_up = places.look_up
    monkeypatch.setattr(downloads, "look_up", lambda place, web: [words] if place is github else look_up(place, web))
    return hub_path(0, "ewok-core-1.0.parquet", "ewok")


def test_ewok_needs_the_users_own_access(server: FaultyServer, run: Run, gated: str, tmp_path: Path) -> None:
    code, _, errors = run("ewok")
    assert code == 2 and not server.seen
    assert "no Hugging Face token was found" in errors
    assert "accept the terms" in errors and "export HF_TOKEN=" in errors and "settings/tokens" in errors


@pytest.mark.parametrize("code_of_hub", [401, 403])
def test_a_token_that_is_refused_is_explained(
    server: FaultyServer, run: Run, gated: str, monkeypatch: pytest.MonkeyPatch, code_of_hub: int
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.fault(gated, faults.status(code_of_hub))
    code, _, errors = run("ewok")
    assert code == 2 and f"refused by the server ({code_of_hub}" in errors and "accept the terms" in errors


def test_ewok_is_filtered_as_the_pipeline_does(
    server: FaultyServer, run: Run, gated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    code, output, errors = run("ewok")
    assert code == 0, errors
    folder = tmp_path / "evals" / "ewok_filtered"
    for domain, lines in ewok.LINES.items():
        records = [json.loads(line) for line in (folder / f"{domain}.jsonl").read_text().splitlines()]
        assert len(records) == lines
        assert records[1]["Context1"] == records[0]["Context2"] and records[1]["Target2"] == records[0]["Target1"]
    assert "--tasks ewok_filtered" in output
    assert [seen.headers.get("Authorization") for seen in server.asked("/words")] == [None]
    assert server.asked(gated)[0].headers["Authorization"] == f"Bearer {TOKEN}"
    code, _, errors = run("ewok")
    assert code == 0 and "ewok_filtered: already there" in errors


def test_another_number_of_items_than_published_is_no_ewok(
    server: FaultyServer, run: Run, gated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setitem(ewok.LINES, "social-relations", 1550)
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


def environment(server: FaultyServer, tmp_path: Path) -> dict[str, str]:
    changed = {"PALENKA_OSF": server.url, "PALENKA_CORPORA": str(tmp_path / "corpora"), "PYTHONPATH": str(ROOT)}
    return os.environ | changed


def wait_for(condition: Callable[[], Any], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_process_ended_in_mid_download_is_gone_on_with(
    server: FaultyServer, run: Run, tmp_path: Path, ending: signal.Signals
) -> None:
    texts = text_archives()
    texts["text_data/train_10M.zip"] = zipped({"train_10M/childes.train": os.urandom(300_000)})
    server.osf("ad7qg", texts)
    path = "/download/ad7qg/text_data/train_10M.zip"
    server.fault(path, faults.stalled(200_000))
    target = tmp_path / "corpora" / "babylm-2024-10M"
    part = target / ".train_10M.zip.part"
    command = [sys.executable, "-m", "palenka", "download", "babylm-2024-10M"]
    # Where the tests are a shell's background job, SIGINT is ignored, and a child would inherit that.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command, env=environment(server, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, former)
    wait_for(lambda: part.exists() and part.stat().st_size == 200_000, process)
    process.send_signal(ending)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (-9 if ending == signal.SIGKILL else 130)
    assert ending == signal.SIGKILL or "the same command resumes from there" in errors
    assert not (target / "train_10M").exists() and not (target / ".train_10M.zip").exists()

    assert run("babylm-2024-10M")[0] == 0
    rest = server.asked(path)[-1]
    assert rest.headers["Range"] == "bytes=200000-"
    assert rest.sent == len(texts["text_data/train_10M.zip"]) - 200_000
    assert (target / "train_10M" / "childes.train").stat().st_size == 300_000


def test_a_process_killed_in_mid_unpacking_is_gone_on_with(server: FaultyServer, run: Run, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives())
    target = tmp_path / "corpora" / "babylm-2024-10M"
    program = (
        "import time\n"
        "from palenka import cli\n"
        "from palenka.data.fetch import archives\n"
        "write = archives._write\n"
        "archives._write = lambda *arguments: (write(*arguments), time.sleep(60))\n"
        "cli.main(['download', 'babylm-2024-10M'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment(server, tmp_path), stderr=subprocess.PIPE, text=True
    )
    staging = target / ".train_10M.partial"
    wait_for(lambda: staging.exists() and any(staging.iterdir()), process)
    process.kill()
    process.communicate()
    assert len(list(staging.iterdir())) < len(DOMAINS) and not (target / "train_10M").exists()

    assert run("babylm-2024-10M")[0] == 0
    assert len(list((target / "train_10M").iterdir())) == len(DOMAINS) and not staging.exists()
    assert len(server.asked("/download/ad7qg/text_data/train_10M.zip")) == 1


def test_a_second_download_waits_for_the_first(server: FaultyServer, tmp_path: Path) -> None:
    server.osf("ad7qg", text_archives())
    path = "/download/ad7qg/text_data/train_10M.zip"
    server.fault(path, faults.stalled(100))
    command = [sys.executable, "-m", "palenka", "download", "babylm-2024-10M"]
    options: dict[str, Any] = {"env": environment(server, tmp_path), "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, **options)
    wait_for(lambda: server.asked(path), first)
    second = subprocess.Popen(command, **options)
    assert second.stderr and "waiting for another download" in second.stderr.readline()
    time.sleep(0.3)
    assert len(server.asked(path)) == 1
    first.kill()
    first.communicate()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert (tmp_path / "corpora" / "babylm-2024-10M" / "train_10M" / "childes.train").exists()


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
    assert digest_of(next(folder.iterdir())).size > 0
