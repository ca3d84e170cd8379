#!/usr/bin/env bash
# huggingface_hub 2.4.0 fetches a file whose ETag is its sha256, as the hub gives it, from a server that sends other bytes
# of the same number.
#   guess   an error: the library keeps that hash beside the file
#   found   the file is taken; only another size would have been noticed. verify_repo_checksums tells, when it is called
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" huggingface_hub==2.4.0
cat > server.py <<'PYTHON'
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"
RIGHT, SENT = b"right" * 100, b"wrong" * 100


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)

    def answer(self, with_body):
        sha256 = hashlib.sha256(RIGHT).hexdigest()
        listing = [{"type": "file", "path": "file", "size": 500, "oid": "0" * 40,
                    "lfs": {"oid": sha256, "size": 500, "pointerSize": 130}}]
        body = json.dumps(listing).encode() if "/tree/" in self.path else SENT
        self.send_response(200)
        headers = {"Content-Length": len(body), "ETag": f'"{sha256}"', "X-Repo-Commit": REVISION}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body if with_body else b"")

    def log_message(self, *arguments):
        pass


def start():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
PYTHON
HF_HUB_OFFLINE=0 HF_HOME=$PWD python - <<'PYTHON'
from pathlib import Path

from huggingface_hub import HfApi
from server import REVISION, RIGHT, start

api, at = HfApi(endpoint=start(), token=False), {"repo_id": "o/n", "revision": REVISION, "local_dir": "copy"}
path = Path(api.hf_hub_download(filename="file", **at))
wrong = api.verify_repo_checksums(**at).mismatches
print("downloaded, and right:", path.read_bytes() == RIGHT, "; verify_repo_checksums:", wrong)
assert path.read_bytes() != RIGHT and len(wrong) == 1
PYTHON
