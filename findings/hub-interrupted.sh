#!/usr/bin/env bash
# huggingface_hub 2.4.0: Ctrl-C while snapshot_download fetches a file that takes long.
#   guess   the program ends at once, as hf_hub_download of one file does
#   found   it goes on until each file that is being fetched has come whole; only then is it interrupted
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" huggingface_hub==2.4.0
cat > server.py <<'PYTHON'
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"
PIECE, PIECES = bytes(10_000), 50
TREE = [{"type": "file", "path": "weights", "size": len(PIECE) * PIECES, "oid": "1" * 40}]


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.head(len(PIECE) * PIECES)

    def do_GET(self):
        if self.path.startswith("/api/"):
            files = TREE if "/tree/" in self.path else {"id": "o/n", "sha": REVISION, "siblings": [{"rfilename": "weights"}]}
            body = json.dumps(files).encode()
            self.head(len(body), "application/json")
            self.wfile.write(body)
            return
        self.head(len(PIECE) * PIECES)
        print("sending", flush=True)
        for _ in range(PIECES):  # ten seconds
            self.wfile.write(PIECE)
            time.sleep(0.2)

    def head(self, size, kind="application/octet-stream"):
        self.send_response(200)
        for name, value in {"Content-Length": size, "Content-Type": kind, "ETag": '"1"', "X-Repo-Commit": REVISION}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
cat > client.py <<'PYTHON'
import sys

from huggingface_hub import HfApi

_, endpoint, many = sys.argv
api = HfApi(endpoint=endpoint, token=False)
try:
    if many == "snapshot":
        api.snapshot_download("o/n", revision="main", local_dir=many)
    else:
        api.hf_hub_download("o/n", "weights", revision="main", local_dir=many)
except KeyboardInterrupt:
    sys.exit(130)
PYTHON
HF_HUB_OFFLINE=0 HF_HOME=$PWD python - <<'PYTHON'
import signal
import subprocess
import sys
import time
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
server = subprocess.Popen([sys.executable, "server.py"], stdout=subprocess.PIPE, text=True)
endpoint, took, whole = f"http://127.0.0.1:{server.stdout.readline().strip()}", {}, {}
for kind in ("file", "snapshot"):
    client = subprocess.Popen([sys.executable, "client.py", endpoint, kind], stderr=subprocess.DEVNULL)
    assert server.stdout.readline() == "sending\n"
    time.sleep(1)
    asked = time.monotonic()
    client.send_signal(signal.SIGINT)
    code = client.wait(timeout=60)
    took[kind], whole[kind] = time.monotonic() - asked, Path(kind, "weights").exists()
    assert code == 130, code
server.kill()
print({kind: f"ended after {took[kind]:.1f} s, the file is there: {whole[kind]}" for kind in took})
assert took["file"] < 3 < 6 < took["snapshot"] and not whole["file"] and whole["snapshot"]
PYTHON
