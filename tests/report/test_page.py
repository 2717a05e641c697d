"""The page: complete, offline, deterministic, small; names are escaped; parts may be missing."""

import base64
import hashlib
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.report.pages import HOSTILE, evaluation, full_page, predictions
from tlkit.data.dataset import Problem
from tlkit.evaluation.results import EvaluationResult
from tlkit.report import build
from tlkit.report.build import Data, EpochRow, Page, PlanRow, render, write_report

SECTIONS = [
    section.id for section in build.SECTIONS if section.id not in ("quantities", "synthesis")
]  # those of other runs
VOID = {"meta", "link", "img", "br", "path", "use", "rect", "input"}


class Parsed(HTMLParser):
    """Every element with its attributes, all text, and whether tags nest."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.open, self.faults = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append((tag, self.getpos()))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    def values(self, attribute):
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


@pytest.fixture(scope="module")
def page():
    return full_page()


@pytest.fixture(scope="module")
def parsed(page):
    return Parsed(render(page))


def test_every_section_is_there_and_linked(parsed):
    assert [name for name in parsed.ids if name in SECTIONS] == SECTIONS
    assert {f"#{name}" for name in SECTIONS} <= set(parsed.values("href"))


def test_tags_nest_and_ids_are_unique_and_links_lead_somewhere(parsed):
    assert parsed.faults == []
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.values("href") if link.startswith("#")} <= set(parsed.ids)


def test_nothing_is_fetched(page, parsed):
    text = render(page)
    assert not re.findall(r"""(?:src|href|action|data|poster|srcset)=["']?\s*(?:https?:)?//""", text)
    assert not re.findall(r"url\((?!#)|@import|https?://", text)
    assert all(link.startswith(("#", "data:")) for link in parsed.values("href") + parsed.values("src"))


def test_the_policy_allows_this_script_and_no_other(page, parsed):
    policy = next(value for value in parsed.values("content") if "default-src" in value)
    assert "default-src 'none'" in policy
    script = re.search(r"<script>(.*?)</script>", render(page), re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert [tag for tag, _ in parsed.elements].count("script") == 1


def test_the_same_page_gives_the_same_bytes(tmp_path):
    write_report(tmp_path / "a.html", full_page())
    write_report(tmp_path / "b.html", full_page())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"a.html", "a.md", "b.html", "b.md"}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_shown_and_not_run(hostile, tmp_path):
    page = full_page((hostile, "bees", "wasps"))
    hurt = replace(
        page,
        title=hostile,
        command=hostile,
        created=hostile,
        versions={hostile: hostile},
        plan=[PlanRow(stage="head", learns=hostile, epochs=1, reason=hostile)],
        config=hostile,
        data=replace(page.data, rule=hostile, notes=[hostile], set_aside=[Problem(hostile, hostile)]),
    )
    write_report(tmp_path / "page.html", hurt)
    parsed = Parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert parsed.faults == []
    assert [tag for tag, _ in parsed.elements].count("script") == 1
    assert {tag for tag, _ in parsed.elements} <= {tag for tag, _ in Parsed(render(page)).elements}
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert [link for link in parsed.values("src") if not link.startswith("data:image/jpeg;base64,")] == []
    visible = hostile.replace("\udce9", "\\udce9").replace("\n", "␊").replace("\t", "␉")
    visible = visible.replace("\u202e", "\\u202e").replace("\u202c", "\\u202c")
    assert parsed.text.count(visible) > 5


def test_sections_without_content_do_not_appear():
    parsed = Parsed(render(Page(title="nothing")))
    assert [name for name in parsed.ids if name in SECTIONS] == []
    assert parsed.faults == []


@pytest.mark.parametrize(
    ("fields", "sections"),
    [
        (
            {"evaluation": evaluation(predictions())},
            "numbers confusion classes reliability abstention curves slices glossary",
        ),
        ({"evaluation": EvaluationResult(splits={})}, ""),
        ({"predictions": predictions()}, ""),
        ({"history": [EpochRow(stage="head", epoch=1)]}, ""),
        ({"history": [EpochRow(stage="head", epoch=1, val_loss=float("nan"), loss=2.0)]}, "learning"),
        ({"plan": [PlanRow(stage="head", learns="the head", epochs=3)]}, "plan"),
        ({"data": Data(classes=("a", "b"), counts={})}, "data"),
        ({"data": Data(classes=(), counts={"train": []})}, "data"),
        ({"command": "tlkit evaluate run"}, "environment"),
    ],
)
def test_any_part_alone(fields, sections):
    parsed = Parsed(render(Page(title="part", **fields)))
    assert [name for name in parsed.ids if name in SECTIONS] == sections.split()
    assert not re.search(r"\bnan\b", parsed.text.lower())


def test_numbers_are_written_with_their_unit_and_interval():
    text = Parsed(render(full_page())).text
    accuracy = evaluation(predictions()).splits["test"].metrics["accuracy"]
    assert f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}" in text
    assert "0.500" in text
    assert "−1.0 points" in text
    assert "Top-2 accuracy" in text


def test_the_matrix_opens_the_images_of_a_cell(parsed):
    cells = [name for name in parsed.ids if name.startswith("cell-")]
    assert cells
    assert {f"#{name}" for name in cells} <= set(parsed.values("href"))


def test_many_classes_collapse_to_pairs():
    text = render(full_page(tuple(f"c{i}" for i in range(41))))
    assert 'class="matrix' not in text
    assert "Most confused" in text
    assert 'class="matrix tiny"' in render(full_page(tuple(f"c{i}" for i in range(40))))


def test_a_thousand_classes_stay_small_and_quick():
    page = full_page(tuple(f"class {i:04d}" for i in range(1000)))
    started = time.perf_counter()
    text = render(page)
    assert time.perf_counter() - started < 20
    assert len(text) < 3_000_000


def test_large_thumbnails_stay_within_ten_megabytes():
    noise = np.random.default_rng(0).bytes(60_000)
    rows = predictions(n=3000, strength=0.2)
    page = full_page(predictions=rows, evaluation=evaluation(rows), thumbnail=lambda path: noise)
    text = render(page)
    assert 4_000_000 < len(text.encode()) < 10_000_000
    assert "no preview" in text
    assert re.search(r"within 6 MB .*: \d+ are left out", text)


def test_tables_of_any_length_stay_small_and_say_what_is_left_out():
    names = tuple(f"{i:04d} " + "long " * 50 for i in range(5000))
    rows = [EpochRow(stage="head", epoch=i, loss=1.0) for i in range(5000)]
    page = Page(title="t", data=Data(classes=names, counts={"train": [3] * 5000}), history=rows, config="x" * 10**6)
    text = render(page)
    assert len(text) < 2_000_000
    assert (
        "The 1000 largest; there are 4000 more classes." in text
        and "The last 1000 of 5000" in text
        and "The rest is in config.toml." in text
    )


def test_what_a_colleague_would_say_comes_before_the_sections(parsed):
    text = parsed.text
    assert text.index("1 image of ants is in train and in test.") < text.index("All metrics")
    assert text.index("Problem") < text.index("Caution")


def test_a_thousand_set_aside_files_are_counted_and_not_all_listed():
    problems = [Problem(f"{i}.jpg", "empty file") for i in range(1000)]
    text = Parsed(render(Page(title="t", data=Data(classes=("a",), counts={"train": [3]}, set_aside=problems)))).text
    assert "1000 files were set aside" in text
    assert "And 800 more." in text


def test_tables_and_pictures_speak(parsed):
    tables = [tag for tag, _ in parsed.elements].count("table")
    assert tables == [tag for tag, _ in parsed.elements].count("caption") > 6
    assert all(attributes.get("alt") for tag, attributes in parsed.elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in parsed.elements if tag == "svg")
    assert all(attributes.get("scope") for tag, attributes in parsed.elements if tag == "th")


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ((42, 42), "Each class has 42 training images."),
        ((1, 1), "Each class has 1 training image."),
        ((7, 1_200), "A class has 7 to 1,200 training images."),
        ((42,), ""),
    ],
)
def test_the_model_card_says_how_many_training_images_a_class_has(train, sentence):
    assert build._spread(train) == sentence
