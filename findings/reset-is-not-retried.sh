#!/usr/bin/env bash
# huggingface_hub 2.4.0, whose server breaks off the first answer with half of a file: by closing the connection, or by
# resetting it.
#   guess   the rest is asked for in both cases
#   found   where the connection is closed; a reset ends the download with a ReadError
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" huggingface_hub==2.4.0
cat > server.py <<'PYTHON'
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILE = bytes(100_000)


class Hub(BaseHTTPRequestHandler):
    broken = set()

    def do_HEAD(self):
        self.head(200, len(FILE))

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes="):-1])
        self.head(206 if start else 200, len(FILE) - start)
        if self.path in self.broken:
            self.wfile.write(FILE[start:])
            return
        self.broken.add(self.path)
        self.wfile.write(FILE[: len(FILE) // 2])
        if self.path.endswith("reset"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def head(self, status, length):
        self.send_response(status)
        for name, value in {"Content-Length": length, "ETag": '"1"', "X-Repo-Commit": REVISION}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.close_connection = True

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
from server import FILE, REVISION, start

api, came = HfApi(endpoint=start(), token=False), {}
for name in ("closed", "reset"):
    try:
        path = Path(api.hf_hub_download("o/n", name, revision=REVISION, local_dir="copy"))
        came[name] = path.read_bytes() == FILE
    except Exception as error:
        came[name] = f"{type(error).__name__}: {error}"
print(came)
assert came["closed"] is True and "ReadError" in str(came["reset"])
PYTHON
