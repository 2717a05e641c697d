"""The page on which images are labelled, in a real browser."""

import csv
import io

import pytest

from tests.report.chromium import PROGRAM, Chromium
from tests.report.pages import HOSTILE
from tlkit.base.files import read_cell
from tlkit.report.label_page import LabelPage, Unlabelled, render_label_page, write_label_page

NAMES = ["ants", "bees", "=wasps", *HOSTILE[:2]]


def page(count=3):
    return LabelPage(
        title="unsorted",
        command="tlkit next unsorted",
        fingerprints={"images": "f00"},
        candidates=[Unlabelled(f"/photos/{i}, {HOSTILE[0]}.jpg", "bees" if i == 1 else "", 0.7) for i in range(count)],
        classes=NAMES,
        known=[("/photos/old.jpg", "ants")],
        way="Typical images.",
        picture=lambda path: None if "2" in path else b"\xff\xd8",
    )


def test_the_page_is_one_file_and_the_same_again():
    text = render_label_page(page())
    assert text == render_label_page(page())
    assert "http" not in text.replace("http-equiv", "") and HOSTILE[0] not in text


@pytest.mark.skipif(PROGRAM is None, reason="chromium is not on PATH")
@pytest.mark.slow
def test_labels_by_keyboard(tmp_path):
    write_label_page(tmp_path / "next.html", page())
    with Chromium(tmp_path / "profile") as browser:

        def press(key):
            browser.value(f"dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}}}))")

        def saved():
            return [[read_cell(cell) for cell in row] for row in csv.reader(io.StringIO(browser.value("table()")))]

        browser.open(tmp_path / "next.html")
        press("3")  # =wasps, and on to the next
        press("Enter")  # the guess
        paths = [one.path for one in page().candidates]
        old = [["path", "label"], ["/photos/old.jpg", "ants"]]
        assert saved() == [*old, [paths[0], "=wasps"], [paths[1], "bees"]]
        press("ArrowLeft")
        press("Backspace")
        assert saved() == [*old, [paths[0], "=wasps"]]
        browser.value("find('named').value = 'moths'; find('more').requestSubmit()")
        assert saved()[-1] == [paths[1], "moths"]
        browser.open(tmp_path / "next.html")  # earlier labels are still there
        assert saved()[-1] == [paths[1], "moths"] and "moths" in browser.value("find('classes').textContent")
        assert "Image 3 of 3, 2 with a label" in browser.value("find('where').textContent")
        assert not [line for line in browser.said if "data:" not in line] and all(
            not url.startswith("http") for url in browser.asked
        )
