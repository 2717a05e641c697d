"""The commands that findings recommend use the network of the audited run, and work as printed."""

import shlex

import pytest
from typer.testing import CliRunner

from tlkit.cli import main
from tlkit.options import advice
from tlkit.options.commands import AuditConfig, FinetuneConfig, RankConfig


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(line, monkeypatch):
    """The options that the command line comes to, and the name of its command."""
    seen = []
    monkeypatch.setattr(main.pipelines, "carry_out", lambda name, config, story: seen.append((name, config)) or {})
    words = shlex.split(line)
    done = CliRunner().invoke(main.app, words[1:])
    assert words[0] == "tlkit" and done.exit_code == 0, done.output
    return seen[0]


RUN = FinetuneConfig(
    images="my photos",
    backbone="mobilenetv2:alpha=0.35",
    image_size=96,
    group_by=r"(S\d+)_",
    stages=("head",),
    fixes="f.csv",
    audit=True,
    flip=False,
    out="first",
)


def test_an_audit_advised_by_a_run_looks_through_the_run_s_network(monkeypatch):
    name, config = parsed(advice.audit(RUN, "my photos"), monkeypatch)
    assert name == "audit" and config == AuditConfig(
        images="my photos", backbone="mobilenetv2:alpha=0.35", image_size=96, group_by=r"(S\d+)_", fixes="f.csv"
    )


def test_a_run_advised_by_an_audit_trains_the_network_that_looked(monkeypatch):
    asked = AuditConfig(images="images", backbone="resnet50", seed=3)
    name, config = parsed(advice.finetune(asked, "audit/grouped.csv", own=False), monkeypatch)
    assert name == "finetune" and config == FinetuneConfig(images="audit/grouped.csv", backbone="resnet50", seed=3)


def test_a_run_with_nano_names_it_though_the_audit_need_not(monkeypatch):
    assert "--backbone" not in advice.audit(AuditConfig(images="images"), "images")
    assert parsed(advice.finetune(AuditConfig(images="images"), "images"), monkeypatch)[1].backbone == "nano"


def test_all_that_the_run_was_asked_for_is_repeated_and_what_is_added_wins(monkeypatch):
    _, config = parsed(advice.finetune(RUN, "my photos", "--group-by", "(x)"), monkeypatch)
    assert (config.stages, config.flip, config.fixes, config.group_by) == (("head",), False, "f.csv", "(x)")
    _, config = parsed(advice.finetune(RUN, "g.csv", own=False), monkeypatch)
    assert config.fixes is None and config.group_by is None  # the table contains both


def test_what_is_written_goes_where_nothing_is(elsewhere, monkeypatch):
    for name in ("run", "run-2", "audit", "fixes.csv"):
        (elsewhere / name).mkdir()
    assert parsed(advice.finetune(None, "images"), monkeypatch)[1].out == "run-3"
    assert parsed(advice.audit(None, "images"), monkeypatch)[1].out == "audit-2"
    assert advice.free("fixes.csv") == "fixes-2.csv"


def test_a_run_advised_by_a_ranking_trains_on_what_was_ranked_and_finds_its_place_free(elsewhere, monkeypatch):
    (elsewhere / "run").mkdir()
    asked = RankConfig(images="my photos", group_by="(x)", batch_size=8, image_size=96)
    line = advice.finetune(asked, "my photos", "--backbone", "nano", "--image-size", "112")
    assert parsed(line, monkeypatch)[1] == FinetuneConfig(
        images="my photos", backbone="nano", image_size=112, group_by="(x)", out="run-2"
    )
