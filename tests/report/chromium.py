"""A real browser, controlled over a pipe (the DevTools protocol): its display, its console, its requests."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


class Chromium:
    """One headless browser with one tab.

    Args:
        profile: an empty folder for its profile.

    Attributes:
        said: lines of the console, with the browser's own warnings.
        asked: addresses that were requested.
    """

    def __init__(self, profile: Path) -> None:
        self.said, self.asked, self.loaded, self.number = [], [], False, 0
        read, told = os.pipe()
        heard, write = os.pipe()

        def wire() -> None:  # the protocol speaks on descriptors 3 and 4
            spare = [os.dup(fd) for fd in (read, write)]
            os.dup2(spare[0], 3)
            os.dup2(spare[1], 4)

        self.process = subprocess.Popen(
            [PROGRAM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=wire,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self.to, self.back, self.rest = os.fdopen(told, "wb", 0), os.fdopen(heard, "rb", 0), b""
        self.session = None
        tab = next(target for target in self.call("Target.getTargets")["targetInfos"] if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=tab["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: object) -> None:
        self.to.close()
        self.back.close()
        self.process.kill()
        self.process.wait()

    def call(self, method: str, **parameters: object) -> dict:
        """Send a command and wait for its reply."""
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict:
        """The next message; events are noted."""
        while b"\0" not in self.rest:
            part = self.back.read(1 << 20)
            assert part, "the browser is gone"
            self.rest += part
        text, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(text)
        detail = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled":
                self.said.append(str([arg.get("value") for arg in detail["args"]]))
            case "Runtime.exceptionThrown":
                self.said.append(detail["exceptionDetails"]["text"])
            case "Log.entryAdded":
                self.said.append(detail["entry"]["text"])
            case "Network.requestWillBeSent":
                self.asked.append(detail["request"]["url"])
            case "Page.loadEventFired":
                self.loaded = True
        return message

    def open(self, file: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a file or an address in a window of this size, and wait until it is loaded."""
        self.said, self.asked, self.loaded = [], [], False
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Page.navigate", url=file if isinstance(file, str) else file.resolve().as_uri())
        while not self.loaded:
            self._next()

    def value(self, expression: str) -> object:
        """The value of a JavaScript expression, which the page's policy does not restrict."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key: Tab, Enter."""
        codes = {"Tab": (9, ""), "Enter": (13, "\r")}
        code, text = codes[key]
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def screenshot(self, file: Path, *, top: float = 0, height: float | None = None) -> None:
        """A PNG of the page from `top` on, all of it unless `height` is given."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"] - top, "scale": 1}
        content = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(content["data"]))

    def paper(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])
