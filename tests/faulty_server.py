"""An HTTP server on this machine that misbehaves as told, and remembers what it was asked and what it sent.

    server.add("/file", b"...")               serve a file, and pieces of it when asked for a Range
    server.fault("/file", truncated(10), …)   what the next requests for it meet, one fault a request
    server.osf(node, {"folder/name": b"…"})   the listing of a project as OSF gives it, with the files
    server.hub(repository, revision, {…})     the listing of a repository as the hub gives it, with the files

A fault is a function of the handler and the file; it answers the request, or answers it in part.
"""

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass
class Served:
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    path: str
    headers: Message
    sent: int = 0


@dataclass
class FaultyServer:
    files: dict[str, Served] = field(default_factory=dict)
    faults: dict[str, list["Fault"]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ended = threading.Event()
        handler = type("Handler", (_Handler,), {"served": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, path: str, body: bytes, **headers: str) -> str:
        self.files[path] = Served(body, {name.replace("_", "-"): value for name, value in headers.items()})
        return self.url + path

    def fault(self, path: str, *faults: "Fault") -> None:
        self.faults.setdefault(path, []).extend(faults)

    def asked(self, path: str) -> list[Seen]:
        """The GET requests for a path."""
        return [seen for seen in self.seen if seen.path == path]

    def osf(self, node: str, files: dict[str, bytes], page: int = 100) -> None:
        root = f"/v2/nodes/{node}/files/osfstorage/"
        folders: dict[str, dict[str, dict[str, Any]]] = {"": {}}
        for path, body in files.items():
            *parents, name = path.split("/")
            for depth, parent in enumerate(parents):
                here = "/".join(parents[: depth + 1])
                folders.setdefault(here, {})
                href = f"{self.url}{root}{here.replace('/', '-')}/"
                entry = {
                    "attributes": {"name": parent, "kind": "folder", "size": None},
                    "links": {},
                    "relationships": {"files": {"links": {"related": {"href": href}}}},
                }
                folders["/".join(parents[:depth])][parent] = entry
            hashes = {"sha256": hashlib.sha256(body).hexdigest()}
            folders["/".join(parents)][name] = {
                "attributes": {"name": name, "kind": "file", "size": len(body), "extra": {"hashes": hashes}},
                "links": {"download": self.add(f"/download/{node}/{path}", body)},
            }
        for folder, entries in folders.items():
            self._osf_pages(root + (folder.replace("/", "-") + "/" if folder else ""), list(entries.values()), page)

    def _osf_pages(self, path: str, entries: list[dict[str, Any]], page: int) -> None:
        for start in range(0, len(entries), page):
            following = f"{self.url}{path}page-{start + page}" if start + page < len(entries) else None
            body = {"data": entries[start : start + page], "links": {"next": following}}
            self.add(f"{path}page-{start}" if start else path, json.dumps(body).encode())

    def hub(
        self, repository: str, revision: str, files: dict[str, bytes], large: tuple[str, ...] = (),
        kind: str = "dataset",
    ) -> None:  # fmt: skip
        resolved = f"{'' if kind == 'model' else f'/{kind}s'}/{repository}/resolve/{revision}"
        folders: dict[str, list[dict[str, Any]]] = {"": []}
        for path, body in files.items():
            git_sha1 = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(body), "oid": git_sha1}
            if path in large:
                entry["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
            for folder in {"", path.rpartition("/")[0]}:
                folders.setdefault(folder, []).append(entry)
            etag = entry["lfs"]["oid"] if path in large else git_sha1
            self.add(f"{resolved}/{path}", body, ETag=f'"{etag}"', X_Repo_Commit=revision)
        for folder, entries in folders.items():
            self.add(f"/api/{kind}s/{repository}/tree/{revision}/{folder}".rstrip("/"), json.dumps(entries).encode())


class _Handler(BaseHTTPRequestHandler):
    served: FaultyServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._record()
        faults = self.served.faults.get(self.record.path)
        file = self.served.files.get(self.record.path)
        if faults:
            faults.pop(0)(self, file or Served(b""))
        elif file:
            whole(self, file)
        else:
            answer(self, 404)

    def do_HEAD(self) -> None:
        """As the hub's library asks before it fetches; no fault meets it."""
        self._record()
        file = self.served.files.get(self.record.path)
        self.served.seen.remove(self.record)
        if file:
            answer(self, 200, file.headers | {"Content-Length": str(len(file.body))})
        else:
            answer(self, 404)

    def _record(self) -> None:
        self.close_connection = True
        self.record = Seen(unquote(self.path.partition("?")[0]), self.headers)
        self.served.seen.append(self.record)

    def log_message(self, *arguments: Any) -> None:
        pass


Fault = Callable[[_Handler, Served], None]


def answer(handler: _Handler, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()
    handler.record.sent += len(body)


def whole(handler: _Handler, file: Served, upto: int | None = None) -> None:
    """The file, or the piece of it that was asked for; `upto`: break off when so many bytes of it are out."""
    start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in handler.headers else 0
    headers = file.headers | {"Content-Length": str(len(file.body) - start)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(file.body) - 1}/{len(file.body)}"
    return answer(handler, 206 if start else 200, headers, file.body[start:upto])


def truncated(upto: int) -> Fault:
    return lambda handler, file: whole(handler, file, upto)


def stalled(upto: int) -> Fault:
    def fault(handler: _Handler, file: Served) -> None:
        whole(handler, file, upto)
        handler.served.ended.wait(30)

    return fault


def reset(upto: int) -> Fault:
    def fault(handler: _Handler, file: Served) -> None:
        whole(handler, file, upto)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return fault


def status(code: int, **headers: str) -> Fault:
    return lambda handler, file: answer(handler, code, {name.replace("_", "-"): headers[name] for name in headers})


def redirect(to: str, code: int = 302) -> Fault:
    return lambda handler, file: answer(handler, code, {"Location": to})


def web_page(handler: _Handler, file: Served) -> None:
    body = b"<!DOCTYPE html>\n<html><body>Please log in to use this network.</body></html>"
    answer(handler, 200, {"Content-Type": "text/html"}, body)


def other_bytes(handler: _Handler, file: Served) -> None:
    """As many bytes as the file has, or as the piece that was asked for, but others: another version."""
    whole(handler, Served(b"?" * len(file.body), file.headers | {"ETag": '"other"'}))


def one_byte_less(handler: _Handler, file: Served) -> None:
    whole(handler, Served(file.body[:-1], file.headers))
