"""The page in a real browser: sections shown, cells open, tables sort, nothing hostile runs, console silent.

Headless Chromium reports its console on stderr; what a probe script finds comes back in the dumped DOM. The
probe is let in by adding its hash to the policy of a copy of the page, so the policy stays as strict as it is.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from tests.report.pages import HOSTILE, full_page
from tlkit.report.build import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--dump-dom", "--virtual-time-budget=5000", "--window-size=1280,900"),
)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH"),
    pytest.mark.slow,
]

PROBE = """
const said = {};
said.sections = [...document.querySelectorAll("section[id]")].filter((s) => s.getClientRects().length).length;
const cell = document.querySelector(".cell");
said.closed = getComputedStyle(cell).display;
location.hash = "#" + cell.id;
said.open = getComputedStyle(cell).display;
const table = document.querySelector("table.classes");
const order = () => [...table.tBodies[0].rows].map((r) => Number(r.cells[1].dataset.value)).join(" ");
const button = table.tHead.rows[0].cells[1].querySelector("button");
button.click(); said.up = order(); said.sort = button.parentElement.getAttribute("aria-sort");
button.click(); said.down = order();
said.injected = String(document.title === "1" || window.hurt === 1);
said.pictures = [...document.images].filter((i) => !i.src.startsWith("data:")).length;
said.wide = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
said.unnamed = [...document.querySelectorAll("button, a, summary")].filter((e) => !e.textContent.trim()).length;
document.body.dataset.said = JSON.stringify(said);
"""


def browse(text: str, folder: Path, *flags: str) -> tuple[str, list[str]]:
    """The DOM after loading, and what the console said."""
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", file.as_uri()],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def with_probe(text: str, probe: str = PROBE) -> str:
    """The page with one more script that its policy knows."""
    digest = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    return text.replace("</body>", f"<script>{probe}</script></body>")


def said(dom: str) -> dict:
    return json.loads(unescape(re.search(r'data-said="([^"]*)"', dom)[1]))


@pytest.fixture(scope="module")
def hostile():
    page = full_page(HOSTILE)
    return render(replace(page, title=HOSTILE[0], command=HOSTILE[1], config=HOSTILE[0]))


def test_it_shows_opens_and_sorts_in_silence_on_a_screen(hostile, tmp_path):
    dom, console = browse(with_probe(hostile), tmp_path)
    found = said(dom)
    assert console == []
    assert found["sections"] == 12
    assert (found["closed"], found["open"]) == ("none", "block")
    counts = [int(count) for count in found["up"].split()]
    assert counts == sorted(counts)
    assert found["down"].split() == [str(count) for count in sorted(counts, reverse=True)]
    assert found["sort"] == "ascending"
    assert found["injected"] == "false"
    assert (found["pictures"], found["unnamed"]) == (0, 0)
    assert found["wide"]


def test_on_a_phone_the_page_does_not_scroll_sideways(hostile, tmp_path):
    # The narrowest window that headless Chromium opens is wider than a phone: look at the page in a frame.
    (tmp_path / "inner.html").write_text(hostile, encoding="utf-8")
    frame = """<!doctype html><body><iframe src="inner.html" style="width:390px;height:800px;border:0"></iframe>
    <script>onload = () => { const page = frames[0].document.documentElement;
    document.body.dataset.said = JSON.stringify({inner: page.scrollWidth, outer: page.clientWidth}); };</script>"""
    dom, _ = browse(frame, tmp_path, "--allow-file-access-from-files")
    found = said(dom)
    assert found["inner"] == found["outer"] <= 390


def test_even_a_script_that_got_in_would_not_run(tmp_path):
    hurt = render(full_page()).replace("<main", "<script>document.title = 'hurt'</script><img src=x onerror='1'><main")
    dom, console = browse(hurt, tmp_path)
    assert "<title>hurt</title>" not in dom
    assert any("Content Security Policy" in line for line in console)
