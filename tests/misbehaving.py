"""A server on this machine that misbehaves in every way a download can go wrong, and small archives to fetch."""

import base64
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.base.download import Patience
from tlkit.base.remote import RemoteFile

HASTE = Patience(silence=0.4, tries=3, pause=0.01)


class Misbehaving(http.server.ThreadingHTTPServer):
    """`/MANNER/NAME` gives the bytes of `content[NAME]` in that manner."""

    daemon_threads = True
    block_on_close = False  # a stalled answer must not hold the test up

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.closing = threading.Event()

    def url(self, manner: str, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{manner}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Misbehaving

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        _, manner, name = self.path.partition("?")[0].split("/", 2)
        self.server.requests[manner] += 1
        first = self.server.requests[manner] == 1
        self.server.ranges.append(self.headers.get("Range", ""))
        body = self.server.content.get(name)
        if body is None:
            self.send_error(404)
            return
        if manner in ("403", "404", "500") or (manner == "busy" and first):
            self.send_error(503 if manner == "busy" else int(manner))
            return
        if manner == "lies":
            body = b"x" * len(body)
        start = 0
        asked = self.headers.get("Range")
        if asked and manner != "norange":
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if manner == "unsatisfiable":
                self.send_error(416)
                return
            self.send_response(206)
            shown = start + 1 if manner == "shifted" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if manner in ("states", "misstates"):
            stated = hashlib.md5(body if manner == "states" else b"else").digest()
            self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={base64.b64encode(stated).decode()}")
        if manner == "longer":
            body += b"more"
        if manner == "endless":  # announces nothing and sends more than it should
            self.end_headers()
            self.wfile.write(body + b"more")
            return
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        half = start + (len(body) - start) // 2
        if manner in ("truncates", "norange") and first:
            self.wfile.write(body[start:half])
        elif manner == "stalls" and first:
            self.wfile.write(body[start:half])
            self.wfile.flush()
            self.server.closing.wait(5)
        elif manner == "never":
            self.server.closing.wait(5)
        else:
            self.wfile.write(body[start:])


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def remote(url: str | tuple[str, ...], content: bytes, **changes: object) -> RemoteFile:
    facts = {
        "urls": (url,) if isinstance(url, str) else url,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "stated_by": "this test",
    }
    return RemoteFile(**(facts | changes))


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
