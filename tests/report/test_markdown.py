"""The report as Markdown: the same content, with no hostile name taken for markup."""

import re

import pytest

from tests.report.pages import HOSTILE, evaluation, full_page, predictions
from tlkit.report.build import Page, facts, render_markdown, write_report


def rendered(page):
    return render_markdown(facts(page))


@pytest.fixture(scope="module")
def text():
    return rendered(full_page())


def test_it_lies_beside_the_page(tmp_path, text):
    write_report(tmp_path / "report.html", full_page())
    assert {file.name for file in tmp_path.iterdir()} == {"report.html", "report.md"}
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == text


def test_every_part_has_its_heading(text):
    assert re.findall(r"^## (.*)", text, re.M) == [
        *(
            "All metrics",
            "Data",
            "Audit",
            "Plan and stages",
            "What was chosen, and why",
            "Class by class",
            "Calibration",
            "Abstention",
        ),
        *("Accuracy by slice", "Worst errors", "Least confident", "Abstentions", "Unfamiliar images"),
        *("Model card", "Reproduce"),
    ]


def test_every_table_is_whole(text):
    """Every row of a table has as many cells as its head, and a rule below the head."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        head, rule, *rows = block.splitlines()
        assert re.fullmatch(r"\|(?:-{3}:?\|)+", rule)
        assert rows
        assert {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}


def test_numbers_stand_with_their_intervals(text):
    accuracy = evaluation(predictions()).splits["test"].metrics["accuracy"]
    assert f"({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})" in text


def test_no_blank_heap_and_no_empty_tail(text):
    assert "\n\n\n" not in text
    assert text.endswith("\n") and not text.endswith("\n\n")


@pytest.mark.parametrize("hostile", [*HOSTILE, "a | b", "# head", "[x](javascript:alert(1))", "`code`", "* _em_ *"])
def test_hostile_names_stay_text(hostile):
    plain, hurt = rendered(full_page(("x", "bees", "wasps"))), rendered(full_page((hostile, "bees", "wasps")))
    code = re.compile(r"^ {4,}.*", re.M)
    outside = code.sub("", hurt)
    assert not re.findall(r"<|(?<!\\)[`\[\]]", outside.replace("**", ""))
    assert hurt.count("\n") == plain.count("\n")
    assert [line.count("|") - line.count("\\|") for line in hurt.splitlines()] == [
        line.count("|") for line in plain.splitlines()
    ]


def test_a_command_can_be_copied(text):
    assert "    tlkit finetune 'my <images>' --out run\n" in text
    assert "\n      tlkit finetune images --fixes fixes.csv\n" in text  # in a list


def test_what_is_missing_does_not_appear():
    assert rendered(Page(title="nothing")).splitlines()[0] == "# nothing"
    assert "##" not in rendered(Page(title="nothing"))
