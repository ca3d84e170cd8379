"""A Hugging Face Hub on this machine, as far as its client needs one to make repositories and branches and to commit.

    hub.repositories["owner/name"]["main"]      the files of a branch
    hub.token                                   who has it may write
    hub.fault("POST", "/commit/", 500, CUT)     what the next such requests meet: a status, or no answer at all
    hub.requests                                (method, path) of all
    hub.sent                                    bytes of content that came in

Branches start from main; a commit is whole or not there; large files (.safetensors) are stored before it, by content.
"""

import base64
import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

CUT = 0
Files = dict[str, bytes]


class StandInHub:
    def __init__(self, token: str) -> None:
        self.token, self.sent = token, 0
        self.repositories: dict[str, dict[str, Files]] = {}
        self.large: Files = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[tuple[str, str, list[int]]] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault(self, method: str, part: str, *answers: int) -> None:
        self.faults.append((method, part, list(answers)))

    def next_fault(self, method: str, path: str) -> int | None:
        for of, part, answers in self.faults:
            if of == method and part in path and answers:
                return answers.pop(0)
        return None

    def asked(self, method: str, part: str) -> int:
        return sum(of == method and part in path for of, path in self.requests)


def entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    found: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if path.endswith(".safetensors"):
        found["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return found


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def _answer(self, respond: Any) -> None:
        self.close_connection = True
        path, body = unquote(self.path.partition("?")[0]), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append((self.command, path))
        fault = self.hub.next_fault(self.command, path)
        if fault is None:
            code, content, headers = respond(path, body)
        elif fault != CUT:
            code, content, headers = fault, {"error": f"made up {fault}"}, {}
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        data = json.dumps(content).encode()
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(data)), "Connection": "close"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _get(self, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        _, _, _, owner, name, *rest = path.split("/")
        branches = self.hub.repositories.get(f"{owner}/{name}")
        if branches is None:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        if not rest:
            return 200, {"id": f"{owner}/{name}", "sha": "0" * 40, "siblings": []}, {}
        if rest == ["refs"]:
            refs = [{"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": "0" * 40} for branch in branches]
            return 200, {"branches": refs, "converts": [], "tags": []}, {}
        if rest[1] not in branches:
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        return 200, [entry(*file) for file in branches[rest[1]].items()], {}

    def _post(self, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return 401, {"error": "Invalid username or password."}, {}
        given = [json.loads(line) for line in body.splitlines()]
        if path == "/api/repos/create":
            return self._create(f"{given[0]['organization']}/{given[0]['name']}")
        if path.endswith("/objects/batch"):
            return 200, {"objects": list(map(self._upload, given[0]["objects"])), "transfer": "basic"}, {}
        _, _, _, owner, name, what, branch = path.split("/")
        branches = self.hub.repositories[f"{owner}/{name}"]
        if what == "branch":
            return self._branch(branches, branch)
        if branch not in branches:
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        if what == "preupload":
            return 200, {"files": [self._mode(file, branches[branch]) for file in given[0]["files"]]}, {}
        return self._commit(f"{owner}/{name}", branches[branch], given)

    def _create(self, repository: str) -> tuple[int, Any, dict[str, str]]:
        if repository in self.hub.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{repository}"}, {}
        self.hub.repositories[repository] = {"main": {".gitattributes": b""}}
        return 200, {"url": f"{self.hub.url}/{repository}"}, {}

    def _branch(self, branches: dict[str, Files], name: str) -> tuple[int, Any, dict[str, str]]:
        if name in branches:
            return 409, {"error": "Reference already exists"}, {}
        branches[name] = dict(branches["main"])
        return 200, {}, {}

    def _mode(self, file: dict[str, Any], there: Files) -> dict[str, Any]:
        is_large = file["path"].endswith(".safetensors")
        known = {"oid": entry(file["path"], there[file["path"]])["oid"]} if file["path"] in there else {}
        return {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False, **known}

    def _upload(self, wanted: dict[str, Any]) -> dict[str, Any]:
        action = {"upload": {"href": f"{self.hub.url}/large/{wanted['oid']}"}}
        return wanted | ({} if wanted["oid"] in self.hub.large else {"actions": action})

    def _commit(
        self, repository: str, files: Files, lines: list[dict[str, Any]]
    ) -> tuple[int, Any, dict[str, str]]:
        for line in lines:
            value = line["value"]
            if line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                self.hub.sent += len(files[value["path"]])
        return 200, {"commitUrl": f"{self.hub.url}/{repository}/commit/{'1' * 40}", "commitOid": "1" * 40}, {}

    def _put(self, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        name = path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != name:
            return 400, {"error": "not that content"}, {}
        self.hub.large[name] = body
        self.hub.sent += len(body)
        return 200, {}, {}

    def log_message(self, *arguments: Any) -> None:
        pass
