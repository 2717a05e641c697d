"""The page in a real browser: drop, paste, choose, refusals, a phone, a token."""

import base64
import http.server
import threading
import time

import pytest

from tests.report.chromium import PROGRAM, Chromium
from tests.serving.conftest import png

pytestmark = [pytest.mark.skipif(PROGRAM is None, reason="chromium is not on PATH"), pytest.mark.slow]

CARDS = "[...document.querySelectorAll('.card')].map((card) => card.innerText)"
PASTE = """
(() => {
  const bytes = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def until(browser, expression, seconds=20):
    """The value of an expression as soon as there is one."""
    deadline = time.monotonic() + seconds
    while not (value := browser.value(expression)):
        assert time.monotonic() < deadline, (expression, browser.said, browser.value("document.body.innerText"))
        time.sleep(0.05)
    return value


def drop(browser, file):
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)


def choose(browser, file):
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])


def test_drop_paste_choose_and_refused(browser, start, tmp_path):
    server = start()
    address = f"http://127.0.0.1:{server.port}/"
    (tmp_path / "dropped.png").write_bytes(png(250))
    (tmp_path / "<b>note.jpg").write_text("no image")
    (tmp_path / "unsure.png").write_bytes(png(130))
    browser.open(address)
    until(browser, "document.getElementById('about').innerText.includes('bright, dark')")
    drop(browser, tmp_path / "dropped.png")
    (card,) = until(browser, f"{CARDS}.length === 1 && {CARDS}")
    assert "dropped.png" in card and "98.0 % probable" in card and "evidence for bright" in card
    assert "similarity 0.50" in card and "no longer there" in card
    browser.value(PASTE % base64.b64encode(png(10)).decode())
    card = until(browser, f"{CARDS}.length === 2 && {CARDS}")[0]
    assert "pasted.png" in card and "dark" in card
    choose(browser, tmp_path / "unsure.png")
    card = until(browser, f"{CARDS}.length === 3 && {CARDS}")[0]
    assert "Not sure enough to say" in card and "best guess would be bright" in card
    drop(browser, tmp_path / "<b>note.jpg")
    card = until(browser, f"{CARDS}.length === 4 && {CARDS}")[0]
    assert "<b>note.jpg" in card and "not an image that can be read" in card and "send a JPEG" in card
    assert [url for url in browser.asked if not url.startswith((address, "data:", "blob:"))] == []
    assert [line for line in browser.said if "415" not in line] == []  # the browser itself logs the refusal


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(browser, start, dark):
    server = start()
    for path in ("/", "/docs"):
        browser.open(f"http://127.0.0.1:{server.port}{path}", width=390, height=844, dark=dark)
        if path == "/":
            browser.value(PASTE % base64.b64encode(png(250)).decode())
            until(browser, f"{CARDS}.length === 1")
        assert browser.value("document.documentElement.scrollWidth") <= 390
        assert browser.said == []


def test_a_token_is_asked_for_and_remembered(browser, start):
    server = start(token="correct-horse-battery")
    browser.open(f"http://127.0.0.1:{server.port}/")
    until(browser, "!document.getElementById('login').hidden")
    browser.value("document.getElementById('token').value = 'correct-horse-battery'")
    browser.value("document.querySelector('#login button').click()")
    until(browser, "document.getElementById('about').innerText.includes('bright, dark')")
    assert browser.value("document.getElementById('login').hidden")
    browser.value(PASTE % base64.b64encode(png(250)).decode())
    assert "bright" in until(browser, f"{CARDS}.length === 1 && {CARDS}")[0]


SEND = """
(async () => {
  const form = new FormData();
  form.append("file", new Blob(["x"], { type: "image/png" }), "x.png");
  await fetch("http://127.0.0.1:%d/v1/predict", { method: "POST", body: form, mode: "no-cors" }).catch(() => {});
  window.sent = true;
})()
"""


class Blank(http.server.BaseHTTPRequestHandler):
    """An empty page that may send what it likes where it likes."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another</title>")

    def log_message(self, *_):
        pass


def test_a_page_of_another_origin_may_not_ask(browser, start):
    server = start()
    with http.server.HTTPServer(("127.0.0.1", 0), Blank) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        browser.open(f"http://127.0.0.1:{other.server_port}/")
        browser.value(SEND % server.port)
        until(browser, "window.sent")
        other.shutdown()
    said = server.ask("GET", "/metrics")[2]
    said = said.decode() if isinstance(said, bytes) else str(said)
    assert 'tlkit_requests_total{path="/v1/predict",status="403"} 1.0' in said


def test_a_server_that_is_gone(browser, start):
    server = start()
    browser.open(f"http://127.0.0.1:{server.port}/")
    until(browser, "document.getElementById('about').innerText.includes('bright, dark')")
    server.close()
    browser.value(PASTE % base64.b64encode(png(250)).decode())
    assert "The server did not answer" in until(browser, f"{CARDS}.length === 1 && {CARDS}")[0]
