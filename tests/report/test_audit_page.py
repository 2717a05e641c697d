import re

import pytest

from tests.report.chromium import PROGRAM, Chromium
from tlkit.auditing.findings import AuditResult, Finding, ImageGroup
from tlkit.report.audit_page import AuditPage, render_audit, write_audit_page

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def page():
    group = ImageGroup(
        paths=(f"{HOSTILE}/a.jpg", "b.jpg"), labels=(HOSTILE, "b"), splits=("train", "test"), caption="x"
    )
    found = Finding(
        check="copies",
        severity="serious",
        sentence=f"In {HOSTILE}.",
        remedy="Drop.",
        command="tlkit x",
        groups=(group,),
    )
    result = AuditResult(
        images=1234,
        classes=(HOSTILE, "b"),
        findings=(found,),
        checks={"copies": "", "labels": "needs two classes"},
        seconds={"copies": 0.2, "labels": 0.0},
    )
    return AuditPage(title=HOSTILE, result=result, counts={"train": [3, 4]}, thumbnail=lambda path: b"\xff\xd8jpeg")


def test_everything_is_on_the_page_and_hostile_names_are_text(page):
    text = render_audit(page)
    for wanted in (
        "1,234",
        "Serious",
        "tlkit x",
        "needs two classes",
        "data:image/jpeg;base64,",
        "Resolve the serious findings",
    ):
        assert wanted in text
    assert HOSTILE not in text and text.count("&lt;script&gt;") >= 4


def test_the_page_needs_no_network(page):
    text = render_audit(page)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text) and "@import" not in text


def test_an_audit_that_found_nothing_says_so():
    text = render_audit(AuditPage(title="t", result=AuditResult(images=0, classes=(), findings=())))
    assert "These checks found no problem." in text and 'id="findings"' not in text


def test_the_same_page_gives_the_same_text(page):
    assert render_audit(page) == render_audit(page)


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="chromium is not on PATH")
def test_in_a_browser_nothing_hostile_runs_and_cases_open(page, tmp_path):
    file = tmp_path / "audit.html"
    write_audit_page(file, page)
    with Chromium(tmp_path / "profile") as browser:
        browser.open(file, width=390)
        assert browser.value("document.title") == f"Audit of {HOSTILE}"
        assert (
            browser.value("document.querySelector('details').open && document.querySelectorAll('.side > div').length")
            == 2
        )
        assert browser.value("document.documentElement.scrollWidth <= 390")
        assert browser.said == []
        assert [address for address in browser.asked if not address.startswith(("data:", file.as_uri()))] == []
