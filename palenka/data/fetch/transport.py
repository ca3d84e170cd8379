"""One file over https: followed, resumed, waited for, and believed only when its size and its hash are right.

What has come of `NAME` stands in `NAME.part`, and in `NAME.part.json` which version of it the server was sending. A
download that stopped asks for the rest of that same version (Range with If-Range); a server that answers with the whole
file, or with a piece of another version, makes it start over. `NAME` itself appears in one step, checked.

The standard library does the talking: proxies are those of the environment, certificates are checked, redirects never
lead from https to http, and a token goes to the host it is for and to no other.
"""

import email.utils
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from palenka.data.fetch.archives import SPARE_BYTES
from palenka.util.errors import UserError
from palenka.util.files import replace, write_text

_READ_BYTES = 1 << 18
_LARGEST_ANSWER = 16 << 20
_PROGRESS_BYTES = 1 << 20
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = 8
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_PAGE = re.compile(rb"\s*(?:<!doctype html|<html)", re.IGNORECASE)
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Patience:
    """How long a download tries.

    Args:
        timeout: seconds without a byte (or without an answer) that end an attempt.
        attempts: attempts in a row that bring nothing forward.
        connections: attempts in a row that do not even reach the server.
        pause: seconds before the second attempt, doubled before each further one.
        longest_pause: the longest pause, also where the server asks for one.
    """

    timeout: float = 30.0
    attempts: int = 6
    connections: int = 3
    pause: float = 1.0
    longest_pause: float = 120.0


@dataclass(frozen=True)
class Remote:
    """A file to fetch, and what is known of it beforehand.

    Args:
        git_sha1: of the Git blob, which is what the hub publishes of small files.
        vouched: who published size and hash, for messages and receipts.
        token: the user's token for the host of `url`.
    """

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None
    vouched: str = ""
    token: str | None = None

    @property
    def hash_is_known(self) -> bool:
        return bool(self.sha256 or self.git_sha1)


@dataclass(frozen=True)
class Digest:
    """What a file turned out to be."""

    size: int
    sha256: str
    git_sha1: str


class Unreachable(UserError):
    """No answer, or none that helps: the network, a proxy or the server."""


class Refused(UserError):
    """The server wants to know who asks (401), or does not let them (403)."""


class _Passing(Exception):
    """A fault that another attempt may not meet. `after`: the pause that the server asks for, in seconds."""

    def __init__(self, message: str, after: float | None = None, reached: bool = True) -> None:
        super().__init__(message)
        self.after, self.reached = after, reached


class _Changed(Exception):
    """What has come and what the server sends are not pieces of one file."""


def digest_of(path: Path) -> Digest:
    size = path.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            sha256.update(chunk)
            blob.update(chunk)
    return Digest(size, sha256.hexdigest(), blob.hexdigest())


def difference(remote: Remote, found: Digest) -> str:
    """In which way a file is not the one that was published; empty if it is, as far as that is known."""
    published = f"{remote.vouched} says" if remote.vouched else "expected"
    if remote.size is not None and found.size != remote.size:
        return f"{found.size:,} bytes; {published} {remote.size:,}"
    if remote.sha256 and found.sha256 != remote.sha256:
        return f"sha256 {found.sha256}; {published} {remote.sha256}"
    if remote.git_sha1 and found.git_sha1 != remote.git_sha1:
        return f"Git hash {found.git_sha1}; {published} {remote.git_sha1}"
    return ""


class Web:
    """What all requests of a download share."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.UnknownHandler(),
            _Redirects(),
        ):
            self._opener.add_handler(handler)

    def get_json(self, url: str, token: str | None = None) -> tuple[Any, Message]:
        """The JSON answer of a server, and its headers."""

        def attempt() -> tuple[Any, Message]:
            with self._open(url, token, {"Accept": "application/json"}) as response:
                body = b"".join(_chunks(response))
                if len(body) < (_length(response) or 0):
                    raise _Passing("the answer broke off")
            try:
                return json.loads(body), response.headers
            except ValueError:
                raise Unreachable(f"{url}: expected a listing (JSON), the answer is {_described(body)}") from None

        return self._patiently(url, attempt)

    def fetch(self, remote: Remote, path: Path, advance: Callable[[int], None]) -> Digest:
        """Fetch a file to `path`, going on where an earlier download of it stopped.

        Args:
            advance: is told of bytes as they come (of those taken back, as a negative number).

        Raises:
            UserError: it cannot be had, or it is not what it should be; then `path` does not exist.
        """
        part = _Part(path, remote)
        advance(part.size)

        def attempt() -> Digest:
            try:
                self._fetch_rest(remote, part, advance)
                return part.finish()
            except _Changed as change:
                advance(-part.size)
                part.clear()
                raise _Passing(str(change)) from None
            except OSError as error:
                raise UserError(f"{path}: {error.strerror or error}") from None

        return self._patiently(remote.url, attempt, lambda: part.size)

    def _fetch_rest(self, remote: Remote, part: "_Part", advance: Callable[[int], None]) -> None:
        start = part.size
        if start and start == remote.size:
            return
        with self._open(remote.url, remote.token, part.range_headers()) as response:
            if start and response.status == 206:
                part.check_continuation(response)
            elif response.status == 200:
                advance(-start)
                part.begin(response)
            else:
                raise Unreachable(f"{remote.url}: an answer that nobody asked for ({response.status})")
            rest = _length(response)
            _check_space(part.path, rest)
            received = 0
            with part.path.open("ab") as file:
                for chunk in _chunks(response, most=None):
                    file.write(chunk)
                    file.flush()  # what came is there to go on from, should the process be killed
                    received += len(chunk)
                    advance(len(chunk))
                    if remote.size is not None and file.tell() > remote.size:
                        raise _Changed(f"more than the {remote.size:,} bytes that were published")
            missing = rest - received if rest is not None else (remote.size or part.size) - part.size
            if missing > 0:
                raise _Passing(f"the connection ended {missing:,} bytes before the end of the file")

    def _patiently(self, url: str, attempt: Callable[[], Any], came: Callable[[], int] = lambda: 0) -> Any:
        """Attempt again after passing faults, as long as `_patience` allows it or something comes."""
        failed = unreached = 0
        before = came()
        while True:
            try:
                return attempt()
            except _Passing as fault:
                forward, before = came() - before >= _PROGRESS_BYTES, came()
                failed = 1 if forward else failed + 1
                unreached = 0 if fault.reached else unreached + 1
                given_up = failed >= self._patience.attempts or unreached >= self._patience.connections
                pause = self._patience.pause * 2 ** (failed - 1) if fault.after is None else fault.after
                if fault.after is not None and fault.after > self._patience.longest_pause:
                    raise Unreachable(f"{url}: {fault}; the server asks to wait {fault.after:,.0f} seconds") from None
                if given_up:
                    raise Unreachable(f"{url}: {fault} (tried {failed} {'time' if failed == 1 else 'times'})") from None
                print(f"  {fault}; trying again", file=sys.stderr, flush=True)
                time.sleep(min(pause, self._patience.longest_pause))

    @contextmanager
    def _open(self, url: str, token: str | None, headers: dict[str, str]) -> Iterator[Any]:
        """The response to a GET request; faults become `_Passing`, `Refused` or `Unreachable`."""
        request = urllib.request.Request(url, headers={"User-Agent": "palenka", **headers})
        if token:
            _add_token(request, token)
        try:
            response: Any = self._opener.open(request, timeout=self._patience.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and "Range" in headers:
                raise _Changed("the server's file ends before what has come of it") from None
            raise _status_fault(url, error) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise Unreachable(f"{url}: the server's certificate is not to be trusted ({error.reason})") from None
            raise _connection_fault(error.reason) from None
        except http.client.InvalidURL:
            raise Unreachable(f"{url!r}: not an address") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Passing(_reason(error)) from None
        with response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Unreachable(f"{url}: the server sent the file in another encoding than its own")
            yield response


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects between web servers; a token stays with its origin."""

    max_redirections = _REDIRECTS
    max_repeats = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        check_downgrade(req.full_url, newurl)
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if new is not None and token and _origin(newurl) == _origin(req.full_url):
            new.add_unredirected_header("Authorization", token)
        return new


def check_downgrade(url: str, following: str) -> None:
    """Raise `Unreachable` where an address leads away from the web, or from https to http."""
    old, new = (urllib.parse.urlsplit(address).scheme for address in (url, following))
    if new != "https" and new != old or new not in ("http", "https"):
        raise Unreachable(f"{url}: leads to an address that is not https; not followed")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _add_token(request: urllib.request.Request, token: str) -> None:
    scheme, host, _ = _origin(request.full_url)
    if scheme != "https" and host not in _LOOPBACK:
        raise UserError(f"{request.full_url}: not https; a token is not sent there")
    if not _TOKEN.fullmatch(token):
        raise UserError("the Hugging Face token holds a character that no token has (HF_TOKEN, or the stored one)")
    request.add_unredirected_header("Authorization", f"Bearer {token}")


def _status_fault(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in (401, 403):
        return Refused(f"{url}: refused by the server ({error.code} {error.reason})")
    if error.code in _RETRIED:
        return _Passing(f"{error.code} {error.reason}", _retry_after(error.headers.get("Retry-After")))
    if 300 <= error.code < 400:
        return Unreachable(f"{url}: its redirects lead nowhere")
    if error.code in (404, 410):
        return Unreachable(f"{url}: not there ({error.code}); has it moved?")
    return Unreachable(f"{url}: {error.code} {error.reason}".replace("\n", " "))


def _connection_fault(reason: Any) -> _Passing:
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else reason
    return _Passing(f"no connection ({text})", reached=False)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came for a while"
    if isinstance(error, ConnectionError):
        return "the connection was reset"
    return f"the connection broke off ({type(error).__name__})"


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number of them or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _length(response: Any) -> int | None:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdecimal() else None


def _chunks(response: Any, most: int | None = _LARGEST_ANSWER) -> Iterator[bytes]:
    total = 0
    while chunk := _read(response):
        total += len(chunk)
        if most is not None and total > most:
            raise Unreachable(f"{response.url}: the answer is longer than any listing")
        yield chunk


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(_READ_BYTES))
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(_reason(error)) from None


def _described(body: bytes) -> str:
    return "a web page" if _PAGE.match(body) else repr(body[:40])


def _check_space(path: Path, needed: int | None) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed is not None and needed + SPARE_BYTES > free:
        raise UserError(f"{path}: {needed:,} bytes are to come, but only {free:,} are free on that disk")


class _Part:
    """What has come of a file, and of which version of it."""

    def __init__(self, target: Path, remote: Remote) -> None:
        self._target, self._remote = target, remote
        self.path = target.with_name(target.name + ".part")
        self._state = target.with_name(target.name + ".part.json")
        self._version = self._read_version()
        self._continued = self.size > 0
        if self.size and not self._version and not remote.hash_is_known:
            self.clear()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def range_headers(self) -> dict[str, str]:
        if not self.size:
            return {}
        return {"Range": f"bytes={self.size}-"} | ({"If-Range": self._version} if self._version else {})

    def begin(self, response: Any) -> None:
        """Start over with the file that the server sends."""
        length = _length(response)
        if length is None and response.headers.get("Transfer-Encoding") is None and self._remote.size is None:
            raise Unreachable(f"{self._remote.url}: the server does not say how long the file is")
        if response.headers.get_content_type() == "text/html":
            raise Unreachable(f"{self._remote.url}: the server sent a web page instead of the file")
        if length is not None and self._remote.size is not None and length != self._remote.size:
            raise Unreachable(
                f"{self._remote.url}: the server's file has {length:,} bytes, "
                f"{self._remote.vouched or 'the listing'} says {self._remote.size:,}"
            )
        self.path.write_bytes(b"")
        self._continued = False
        self._version = _validator(response)
        self._write_version()

    def check_continuation(self, response: Any) -> None:
        """Whether a partial answer goes on where this part ends. Raises `_Changed` if it does not."""
        self._continued = True
        given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not given or int(given[1]) != self.size:
            raise _Changed("the server sent another piece than the one asked for")
        if self._remote.size is not None and given[3] not in ("*", str(self._remote.size)):
            raise _Changed("the server's file has another size now")
        sent = _validator(response)
        if sent != self._version and (sent or not self._remote.hash_is_known):
            raise _Changed("the server's file has changed")

    def finish(self) -> Digest:
        """Check the whole, and give it its name."""
        found = digest_of(self.path)
        problem = difference(self._remote, found)
        if problem and self._continued:
            raise _Changed(f"the pieces do not make the file ({problem})")
        with self.path.open("rb") as file:
            if _PAGE.match(file.read(200)):
                problem = "a web page instead of the file"
            os.fsync(file.fileno())
        if problem:
            self.clear()
            raise UserError(f"{self._remote.url}: came whole, but is not the right file: {problem}; removed")
        self._state.unlink(missing_ok=True)
        replace(self.path, self._target)
        return found

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        self._version, self._continued = "", False

    def _read_version(self) -> str:
        """The validator of what stands in the part; empty where there is none, or that of another file."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            if state["url"] == self._remote.url:
                return str(state["version"])
        except (OSError, ValueError, TypeError, KeyError):
            pass
        self.path.unlink(missing_ok=True)
        return ""

    def _write_version(self) -> None:
        write_text(self._state, json.dumps({"url": self._remote.url, "version": self._version}))


def _validator(response: Any) -> str:
    """What If-Range may name: a strong ETag, or else the date of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
