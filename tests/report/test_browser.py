"""The page in a real browser: sections shown, cells open, tables sort, nothing hostile runs, console silent."""

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.report.chromium import PROGRAM, Chromium
from tests.report.pages import HOSTILE, full_page
from tlkit.report.build import SECTIONS, render

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="chromium is not on PATH"),
    pytest.mark.slow,
]

# Text whose contrast with what is behind it is below WCAG 2.2's 4.5 (3 for large letters), as "words: ratio".
FAINT = """
(() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const words = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join(" ").trim();
    if (!words || !element.getClientRects().length || element.closest("script, [aria-hidden=true]")) continue;
    const style = getComputedStyle(element);
    const ink = parse(element.closest("svg") ? style.fill : style.color);
    if (ink[3] === 0 || style.visibility !== "visible") continue;
    const under = behind(element);
    const [a, b] = [light(over(ink, under)), light(under)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    if (ratio < (size >= 24 ? 3 : 4.5)) found.push(words.slice(0, 40) + ": " + ratio.toFixed(2));
  }
  return found;
})()
"""
ORDER = """[...document.querySelector("table.classes").tBodies[0].rows].map((r) => Number(r.cells[1].dataset.value))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page with every section, where every name is hostile."""
    page = full_page(HOSTILE)
    place = tmp_path_factory.mktemp("page") / "report.html"
    place.write_text(render(replace(page, title=HOSTILE[0], command=HOSTILE[1], config=HOSTILE[0])), encoding="utf-8")
    return place


@pytest.fixture
def shown(browser, file):
    browser.open(file)
    yield browser
    assert browser.said == []
    assert [address for address in browser.asked if not address.startswith(("data:", file.as_uri()))] == []


def test_every_section_is_on_the_screen(shown):
    seen = """[...document.querySelectorAll("section[id]")].filter((s) => s.getClientRects().length).map((s) => s.id)"""
    expected = [section.id for section in SECTIONS if section.id not in ("quantities", "synthesis")]
    assert shown.value(seen) == expected
    assert shown.value("""[...document.querySelectorAll("nav a")].map((a) => a.hash.slice(1))""") == expected


def test_nothing_hostile_ran_and_every_picture_is_whole(shown):
    assert shown.value("document.title") == HOSTILE[0]
    assert shown.value("window.hurt ?? null") is None
    shown.value("for (const i of document.images) i.loading = 'eager'")
    shown.value("Promise.all([...document.images].map((i) => i.decode())).then(() => true)")
    assert shown.value("[...document.images].every((i) => i.src.startsWith('data:image/') && i.naturalWidth > 0)")


def test_a_cell_opens_its_images_and_closes(shown):
    assert shown.value("[...document.querySelectorAll('.cell')].every((c) => getComputedStyle(c).display === 'none')")
    shown.value("document.querySelector('.matrix td a').click()")
    opened = "[...document.querySelectorAll('.cell')].filter((c) => getComputedStyle(c).display === 'block')"
    assert shown.value(f"{opened}.length") == 1
    count = int(shown.value("document.querySelector('.matrix td a').textContent"))
    assert shown.value(f"{opened}[0].querySelectorAll('.cards li').length") == min(8, count)
    shown.value(f"{opened}[0].querySelector('a[href=\"#confusion\"]').click()")
    assert shown.value(f"{opened}.length") == 0


def test_a_table_sorts_from_the_keyboard(shown):
    shown.value("document.querySelector('table.classes th:nth-child(2) button').focus()")
    shown.press("Enter")
    assert shown.value(ORDER) == sorted(shown.value(ORDER))
    sorting = "document.querySelector('table.classes th:nth-child(2)').getAttribute('aria-sort')"
    assert shown.value(sorting) == "ascending"
    shown.press("Enter")
    assert shown.value(ORDER) == sorted(shown.value(ORDER), reverse=True)
    assert shown.value(sorting) == "descending"
    shown.press("Tab")  # on to the next head
    shown.press("Enter")
    assert shown.value("document.querySelectorAll('table.classes th[aria-sort]').length") == 1
    assert shown.value(sorting) is None


def test_the_keyboard_reaches_what_scrolls_and_first_of_all_the_way_past_the_links(shown):
    shown.press("Tab")
    assert shown.value("document.activeElement.className") == "skip"
    assert shown.value("document.activeElement.getBoundingClientRect().left >= 0")
    assert shown.value("[...document.querySelectorAll('.scroll')].every((s) => s.tabIndex === 0 && s.ariaLabel)")


def test_it_can_be_listened_to(shown):
    """Every control has a name, headings skip no level, every picture and table is described."""
    unnamed = "[...document.querySelectorAll('button, a, summary')].filter((e) => !e.textContent.trim()).length"
    assert shown.value(unnamed) == 0
    levels = shown.value("[...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tree = shown.call("Accessibility.getFullAXTree")["nodes"]
    pictures = [node for node in tree if node.get("role", {}).get("value") in ("image", "img") and not node["ignored"]]
    assert len(pictures) > 20
    assert all(node.get("name", {}).get("value") for node in pictures)


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read_in_any_light_and_width(browser, file, width, dark):
    browser.open(file, width=width, dark=dark)
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.value(FAINT) == []
    lettering = "[...document.querySelectorAll('svg text')].map((t) => t.getBoundingClientRect().height)"
    assert min(browser.value(lettering)) > 8
    if dark:
        assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 20)"


def test_on_paper_everything_is_open_and_on_the_screen_closed_again(shown):
    shown.value(
        "addEventListener('beforeprint', () => { window.open_ = document.querySelectorAll('details[open]').length })"
    )
    before = shown.value("document.querySelectorAll('details[open]').length")
    paper = shown.paper()
    assert paper.startswith(b"%PDF")
    assert shown.value("window.open_") == shown.value("document.querySelectorAll('details').length") > before
    assert shown.value("document.querySelectorAll('details[open]').length") == before


def test_even_a_script_that_got_in_would_not_run(browser, tmp_path):
    text = render(full_page()).replace("<main", "<script>document.title = 'hurt'</script><img src=x onerror='1'><main")
    (tmp_path / "hurt.html").write_text(text, encoding="utf-8")
    browser.open(tmp_path / "hurt.html")
    assert browser.value("document.title") != "hurt"
    assert any("Content Security Policy" in line for line in browser.said)
