"""Download one file: resumed where it broke off, never longer than announced, in place only when its sum is right."""

import hashlib
import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from tlkit.core.errors import TlkitError
from tlkit.core.fingerprint import sha256_file
from tlkit.core.story import Story
from tlkit.core.version import __version__
from tlkit.samples.recipes import RemoteFile

CHUNK = 1 << 16
BUSY = (408, 425, 429, 500, 502, 503, 504)  # worth another try, says HTTP


@dataclass(frozen=True)
class Patience:
    """How long to put up with a server.

    Args:
        silence: seconds without a byte before a connection counts as broken.
        tries: connections in a row that may bring nothing new.
        pause: seconds before the second try; doubles with each.
    """

    silence: float = 30.0
    tries: int = 5
    pause: float = 1.0


class _Refused(Exception):
    """The address will not give the file, however often it is asked."""


class _Broken(Exception):
    """The connection ended early; another may bring the rest."""


def download(remote: RemoteFile, target: Path, story: Story, patience: Patience | None = None) -> None:
    """Bring `remote` to `target`; what arrives before a failure waits in `target` plus `.part` for the next call.

    A file already at `target` is checked instead of downloaded: one brought from another machine will do.

    Raises:
        TlkitError: no address gives the file, or what it gives is not the file.
    """
    if target.exists():
        if wrong := _mismatch(remote, target):
            raise TlkitError(
                f"{str(target)!r} is not {remote.name}: {wrong}.", "delete it, then run the same command again."
            )
        return
    part = target.with_name(target.name + ".part")
    reasons = []
    for url in remote.urls:
        host = urlsplit(url).netloc
        try:
            _complete(url, remote.bytes, part, story, patience or Patience())
        except _Refused as error:
            reasons.append(f"{host} {error}")
            continue
        if not (wrong := _mismatch(remote, part)):
            part.replace(target)
            return
        part.unlink()
        reasons.append(f"{host} sends another file: {wrong}")
    kept = f"{_size(part):,} of {remote.bytes:,} bytes are kept; the same command goes on from there. "
    raise TlkitError(
        f"{remote.name} cannot be downloaded: {'; '.join(reasons)}.",
        f"{kept if part.exists() else ''}Check the network (HTTPS_PROXY is honoured), or save {remote.urls[0]} "
        f"as {str(target)!r} from another machine and run the same command again.",
    )


def _complete(url: str, size: int, part: Path, story: Story, patience: Patience) -> None:
    """Connect as often as it takes until `part` has `size` bytes."""
    fruitless, pause = 0, patience.pause
    while (before := _size(part)) < size:
        try:
            _append(url, size, part, story, patience.silence)
            reason = "ends early"
        except _Broken as error:
            reason = str(error)
        if _size(part) >= size:
            break
        if _size(part) > before:
            fruitless, pause = 0, patience.pause
        fruitless += 1
        if fruitless >= patience.tries:
            raise _Refused(f"{reason} ({patience.tries} tries)")
        story.detail(f"{url} {reason}; trying again in {pause:g} s.")
        time.sleep(pause)
        pause *= 2


def _append(url: str, size: int, part: Path, story: Story, silence: float) -> None:
    """One connection: ask for what is missing and add it to `part`."""
    have = _size(part)
    headers = {"User-Agent": f"tlkit/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=silence)
    except urllib.error.HTTPError as error:
        with error:
            _explain_status(error.code, part)
    except urllib.error.URLError as error:
        if have or isinstance(error.reason, TimeoutError | ConnectionResetError):
            raise _Broken(f"does not answer ({error.reason})") from error
        reason = "its name is not known" if isinstance(error.reason, socket.gaierror) else error.reason
        raise _Refused(f"cannot be reached ({reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"does not answer ({error or type(error).__name__})") from error
    with response:
        start = _start(response, have, size)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            for chunk in story.track(_chunks(response), f"{part.name.removesuffix('.part')}, bytes", size - start):
                if file.tell() + len(chunk) > size:
                    raise _Refused(f"sends more than the {size:,} bytes that the recipe says")
                file.write(chunk)


def _explain_status(status: int, part: Path) -> NoReturn:
    """Turn an HTTP status into what to do next."""
    if status == 416:  # what we have is not a beginning of what it has
        part.unlink(missing_ok=True)
        raise _Broken("does not go on from where it stopped")
    if status in BUSY:
        raise _Broken(f"answers with HTTP {status}")
    raise _Refused(f"answers with HTTP {status} ({http.client.responses.get(status, 'unknown')})")


def _start(response: http.client.HTTPResponse, have: int, size: int) -> int:
    """Where in the file the answer begins; refuses an answer about another file than the recipe's."""
    if response.status == 206:
        span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        start = span.partition("-")[0]
        if start != str(have):
            raise _Refused(f"sends bytes {span or 'unknown'} where {have}- was asked for")
    else:
        start, total = "0", response.headers.get("Content-Length", "")
    if total.isdigit() and int(total) != size:
        raise _Refused(f"has {int(total):,} bytes where the recipe says {size:,}: the file was changed")
    return int(start)


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


def _mismatch(remote: RemoteFile, path: Path) -> str:
    """What about a file is not as the recipe says; "" when nothing is."""
    if _size(path) != remote.bytes:
        return f"it has {_size(path):,} bytes, the recipe says {remote.bytes:,}"
    for kind, wanted in (("sha256", remote.sha256), ("md5", "" if remote.sha256 else remote.md5)):
        found = (sha256_file(path) if kind == "sha256" else _md5_file(path)) if wanted else ""
        if found != wanted:
            return f"its {kind} is {found}, the recipe says {wanted}"
    return ""


def _md5_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
