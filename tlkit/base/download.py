"""Download one file: resumable, never longer than announced, moved into place only when its checksum is right."""

import base64
import contextlib
import http.client
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from tlkit.base.errors import TlkitError
from tlkit.base.files import md5_file
from tlkit.base.machine import __version__
from tlkit.base.remote import RemoteFile, is_offline
from tlkit.base.story import Story

# -- Connections: proxies and trusted certificates -----------

# Settings that name trusted certificates. The first replaces the system's certificates, the others add to them.
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def proxy_of(url: str) -> str:
    """Host and port of the proxy used for `url`, "" for none; never its password."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}").netloc.rpartition("@")[2]


def opener() -> urllib.request.OpenerDirector:
    """The opener of URLs: honours HTTPS_PROXY and its like, trusts the certificates of the system and the settings.

    Raises:
        TlkitError: if a setting names a certificate file that is missing or holds none.
    """
    settings = tuple((name, os.environ.get(name, "")) for name in CERTIFICATES)
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=_context(settings)))


@cache
def _context(settings: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name, file in settings:
        if not file:
            continue
        if not Path(file).exists():
            raise TlkitError(f"{name} is {file!r}, which does not exist.", f"correct {name}, or unset it.")
        try:
            folder = Path(file).is_dir()
            context.load_verify_locations(**{"capath" if folder else "cafile": file})
        except (OSError, ssl.SSLError) as error:
            raise TlkitError(
                f"{name} is {file!r}, which holds no certificates: {error}.", "give a PEM file."
            ) from error
    return context


# -- The partial file beside the target, locked by one process ---

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def part_of(target: Path, story: Story) -> Iterator[Path | None]:
    """The path beside `target` to download to, locked for this process, waiting if needed; None when offline.

    The lock is on the partial file itself, so that no lock file is left; the system releases it however its holder
    ends.
    """
    if is_offline() or target.exists():
        yield None
        return
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(part, story)
    except OSError as error:
        raise unwritable(part, error) from error
    try:
        yield part
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()
        os.close(descriptor)


def _locked(part: Path, story: Story) -> int:
    """An open, locked file that is still the one named `part`."""
    if fcntl is None:  # Windows, where an open file cannot be renamed either
        part.touch()
        return os.open(os.devnull, os.O_RDONLY)
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            story.say(f"another process is downloading {part.name.removesuffix('.part')}; waiting for it.")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return descriptor
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), part.stat()):
                return descriptor
        os.close(descriptor)  # the other process has moved it into place, or deleted it
        if part.with_name(part.name.removesuffix(".part")).exists():
            return os.open(os.devnull, os.O_RDONLY)


def unwritable(path: Path, error: OSError) -> TlkitError:
    """The error for a path that the system refuses to write."""
    return TlkitError(
        f"{str(path)!r} cannot be written: {error.strerror or error}.", "make room there, or choose another folder."
    )


# -- Downloading ---

CHUNK = 1 << 16
BUSY = (408, 425, 429, 500, 502, 503, 504)  # statuses worth a retry


@dataclass(frozen=True)
class Patience:
    """Timeouts and retries.

    Args:
        silence: seconds without a byte before a connection counts as broken.
        tries: consecutive connections that may bring nothing new.
        pause: seconds before the second try; doubles with each try.
    """

    silence: float = 30.0
    tries: int = 5
    pause: float = 1.0


class _Refused(Exception):
    """The URL will not give the file; retrying is pointless."""


class _Broken(Exception):
    """The connection ended early; a retry may bring the rest."""


def download(
    remote: RemoteFile,
    target: Path,
    story: Story,
    patience: Patience | None = None,
    *,
    check: Callable[[Path], str] = lambda path: "",
    remedy: str = "",
) -> None:
    """Download `remote` to `target`; what arrives before a failure is kept in `target` plus `.part` for the next call.

    A file already at `target` is checked instead of downloaded: one copied from another machine is fine. While one
    process downloads, others that need the same file wait for it.

    Args:
        remote: the file and its URLs.
        target: the destination.
        story: receives progress.
        patience: timeouts and retries.
        check: returns what is wrong with the downloaded file, beyond its size and checksums, or "".
        remedy: how to get the file without this network.

    Raises:
        TlkitError: if offline, no URL gives the file, a file differs from the expected one, or it cannot be written.
    """

    def wrong_with(path: Path) -> str:
        return remote.mismatch(path) or check(path)

    remedy = remedy or f"save {remote.urls[0]} as {str(target)!r} from another machine and run the same command again."
    with part_of(target, story) as part:
        if target.exists():
            if wrong := wrong_with(target):
                raise TlkitError(
                    f"{str(target)!r} is not {target.name}: {wrong}.", "delete it, then run the same command again."
                )
            return
        if part is None:
            raise TlkitError(f"{target.name} is not in {target.parent}, and tlkit is offline.", remedy)
        reasons = []
        for url in remote.urls:
            host = urlsplit(url).netloc
            host += f" (through the proxy {proxy})" if (proxy := proxy_of(url)) else ""
            transfer = _Transfer(url, remote.bytes, part, story, patience or Patience())
            try:
                transfer.complete()
            except _Refused as error:
                reasons.append(f"{host} {error}")
                continue
            if not (wrong := wrong_with(part) or transfer.mismatch()):
                part.replace(target)
                return
            os.truncate(part, 0)
            reasons.append(f"{host} sends another file: {wrong}")
        kept = f"{_size(part):,} bytes are kept; the same command continues from there. " if _size(part) else ""
        raise TlkitError(
            f"{target.name} cannot be downloaded: {'; '.join(reasons)}.",
            f"{kept}Check the network (HTTPS_PROXY and SSL_CERT_FILE are honoured), or {remedy}",
        )


class _Transfer:
    """The transfer of one file from one URL."""

    def __init__(self, url: str, size: int, part: Path, story: Story, patience: Patience) -> None:
        self.url, self.size, self.part, self.story, self.patience = url, size, part, story, patience
        self.md5 = ""  # as the server states it

    def complete(self) -> None:
        """Connect, with retries, until the file is complete."""
        fruitless, pause = 0, self.patience.pause
        while not self.size or _size(self.part) < self.size:
            before = _size(self.part)
            try:
                self._append()
                reason = "ends early"
            except _Broken as error:
                reason = str(error)
            if self.size and _size(self.part) >= self.size:
                break
            if _size(self.part) > before:
                fruitless, pause = 0, self.patience.pause
            fruitless += 1
            if fruitless >= self.patience.tries:
                raise _Refused(f"{reason} ({self.patience.tries} tries)")
            self.story.say(f"{self.url} {reason}; trying again in {pause:g} s.")
            time.sleep(pause)
            pause *= 2

    def mismatch(self) -> str:
        """How the checksum differs from the one stated by the server; "" if it does not, or none was stated."""
        found = md5_file(self.part) if self.md5 else ""
        return f"its md5 is {found}, the server states {self.md5}" if found != self.md5 else ""

    def _append(self) -> None:
        """Use one connection to request what is missing and append it."""
        have = _size(self.part)
        with self._open(have) as response:
            start = self._start(response, have)
            name = self.part.name.removesuffix(".part")
            with self.part.open("r+b") as file:
                file.truncate(start)
                file.seek(start)
                for chunk in self.story.track(_chunks(response), f"{name}, bytes", self.size - start):
                    if file.tell() + len(chunk) > self.size:
                        raise _Refused(f"sends more than the {self.size:,} bytes that were announced")
                    try:
                        file.write(chunk)
                    except OSError as error:
                        raise unwritable(self.part, error) from error

    def _open(self, have: int) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"tlkit/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        request = urllib.request.Request(self.url, headers=headers)
        try:
            return opener().open(request, timeout=self.patience.silence)
        except urllib.error.HTTPError as error:
            with error:
                _explain_status(error.code, self.part)
        except urllib.error.URLError as error:
            _explain_failure(error.reason, have)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(f"does not answer ({error or type(error).__name__})") from error

    def _start(self, response: http.client.HTTPResponse, have: int) -> int:
        """The offset at which the response begins; refuses a response for a different file."""
        self.md5 = _stated_md5(response) or self.md5
        if response.status == 206:
            span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            start = span.partition("-")[0]
            if start != str(have):
                raise _Refused(f"sends bytes {span or 'unknown'} where {have}- was asked for")
        else:
            start, total = "0", response.headers.get("Content-Length", "")
        announced = int(total) if total.isdigit() else 0
        if announced and self.size and announced != self.size:
            raise _Refused(f"has {announced:,} bytes, expected {self.size:,}: the file was changed")
        self.size = self.size or announced
        if not self.size:
            raise _Refused("does not say how long the file is, so that an incomplete file could not be recognised")
        return int(start)


def _explain_status(status: int, part: Path) -> NoReturn:
    """Raise the exception for an HTTP status."""
    if status == 416:  # the partial file is longer than the server's file
        os.truncate(part, 0)
        raise _Broken("does not resume where it stopped")
    if status in BUSY:
        raise _Broken(f"answers with HTTP {status}")
    raise _Refused(f"answers with HTTP {status} ({http.client.responses.get(status, 'unknown')})")


def _explain_failure(reason: object, have: int) -> NoReturn:
    """Raise the exception for a failed connection."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise _Refused(
            f"has a certificate that is not trusted here ({reason.verify_message}); SSL_CERT_FILE names the file of "
            "certificates to trust"
        )
    if isinstance(reason, ssl.SSLError):
        raise _Refused(f"cannot be reached (TLS: {reason.reason or reason})")
    if have or isinstance(reason, TimeoutError | ConnectionResetError):
        raise _Broken(f"does not answer ({reason})")
    raise _Refused(f"cannot be reached ({'unknown host' if isinstance(reason, socket.gaierror) else reason})")


def _stated_md5(response: http.client.HTTPResponse) -> str:
    """The md5 of the whole file, which Google's storage states in every response: hex, or ""."""
    for header in response.headers.get_all("x-goog-hash", []):
        for part in header.split(","):
            kind, _, value = part.strip().partition("=")
            if kind == "md5":
                return base64.b64decode(value).hex()
    return ""


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives."""
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(f"breaks off ({error or type(error).__name__})") from error
        if not chunk:
            return
        yield chunk


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
