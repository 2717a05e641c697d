"""Each check on evidence whose faults are known."""

from dataclasses import replace

import numpy as np
import pytest

from tests.auditing.evidences import clouds, evidence, looks
from tlkit.auditing import files, flips, outliers, related, shortcuts
from tlkit.auditing.audit import CHECKS, audit
from tlkit.auditing.evidence import Mirrored, unlearnable
from tlkit.auditing.findings import AuditResult
from tlkit.auditing.fixing import proposed_fixes
from tlkit.auditing.labels import check_classes, check_sizes, label_quality
from tlkit.classifier.answers import too_many
from tlkit.data.dataset import Problem


def proposed(findings):
    return proposed_fixes(AuditResult(images=0, classes=(), findings=tuple(findings)))


# -- labels ------------------------------------------------------------------------------------


def test_flipped_labels_are_found_with_the_class_they_had():
    labels, features = clouds(60, apart=6.0)
    wrong = np.arange(3, 180, 18)
    given = labels.copy()
    given[wrong] = (labels[wrong] + 1) % 3
    (found,) = check_classes(evidence(given, features))
    rows = [int(group.paths[0][2:6]) for group in found.groups]
    assert set(rows) <= set(wrong.tolist()) and len(rows) >= 9
    assert [group.suggested for group in found.groups] == ["abc"[labels[row]] for row in rows]
    fixes = proposed([found])
    assert [(fix.action, fix.label) for fix in fixes] == [("relabel", group.suggested) for group in found.groups]


def test_right_labels_of_far_classes_are_not_doubted():
    labels, features = clouds(60, apart=12.0)
    assert list(check_classes(evidence(labels, features))) == []


def test_no_label_is_judged_of_a_class_whose_images_are_one_unit():
    """Forty correct labels: two classes, each twenty copies of one picture."""
    labels = np.repeat([0, 1], 20)
    features = np.where(labels[:, None] == 0, [[4.0, 0, 0]], [[0, 4.0, 0]])
    sha256 = np.zeros((40, 32), np.uint8)
    sha256[20:] = 1
    assert list(check_classes(evidence(labels, features, sha256=sha256))) == []


def test_one_clip_is_not_judged_and_the_rest_is():
    """Class c is one clip; the other classes have wrong labels."""
    labels, features = clouds(60, apart=6.0)
    wrong = np.arange(3, 120, 18)
    given = labels.copy()
    given[wrong] = 1 - labels[wrong]
    groups = ["clip" if label == 2 else str(row) for row, label in enumerate(labels)]
    material = evidence(given, features, groups=groups)
    (found,) = check_classes(material)
    rows = {int(group.paths[0][2:6]) for group in found.groups}
    assert rows <= set(wrong.tolist()) and len(rows) >= len(wrong) - 1
    assert "labels of 'c' are not judged" in found.sentence
    assert np.isnan(label_quality(material)[given == 2]).all()


# -- blank -------------------------------------------------------------------------------------


def test_images_of_one_colour_are_named():
    plain = np.zeros(40, bool)
    plain[[3, 25]] = True
    labels = np.repeat([0, 1], 20)
    (found,) = files.check_blank(evidence(labels, np.zeros((40, 2)), facts=looks(40, plain=plain)))
    assert found.severity == "warning" and found.sentence == "2 images are one colour throughout (5.0 % of the images)."
    assert found.facts == {"blank": 2, "classes": {"a": 1, "b": 1}}
    plain[30] = True
    (found,) = files.check_blank(evidence(labels, np.zeros((40, 2)), facts=looks(40, plain=plain)))
    assert found.severity == "serious"
    assert list(files.check_blank(evidence(labels, np.zeros((40, 2))))) == []


# -- copies ------------------------------------------------------------------------------------


@pytest.fixture
def copied():
    """Row 1 is a copy of row 0, byte for byte, in test; row 3 is row 2 in another class; row 5 is a copy of row 4."""
    labels, features = clouds(20, classes=2)
    labels[3] = 1
    sha256 = np.random.default_rng(1).integers(0, 256, (40, 32), dtype=np.uint8)
    sha256[[1, 3, 5]] = sha256[[0, 2, 4]]
    codes = np.zeros(40, np.int8)
    codes[[1, 30, 31, 32]] = 2
    return evidence(labels, features, sha256=sha256, codes=codes, given=True)


def test_copies_are_told_by_where_they_lie_and_what_is_to_be_dropped(copied):
    leak, conflict, repeat = related.check_copies(copied)
    assert [found.facts["kind"] for found in (leak, conflict, repeat)] == ["splits", "classes", "repeats"]
    assert leak.severity == "serious" and leak.facts["leaked"] == {"test": (1, 4)}
    assert leak.groups[0].splits == ("train", "test")
    fixes = {fix.path: fix.action for fix in proposed([repeat, conflict, leak])}
    assert fixes == {"a/0000.jpg": "drop", "a/0002.jpg": "drop", "b/0003.jpg": "drop", "a/0005.jpg": "drop"}


def test_no_copies_no_finding():
    labels, features = clouds(20, classes=2)
    assert list(related.check_copies(evidence(labels, features))) == []


# -- shortcuts ---------------------------------------------------------------------------------


def test_one_class_of_another_quality_is_serious_and_named():
    labels, features = clouds(80)
    quality = np.where(labels == 2, 60, 90).astype(np.float32)
    (found,) = shortcuts.check(evidence(labels, features, facts=looks(240, quality=quality)))
    assert found.severity == "serious" and found.facts["columns"] == ["JPEG quality"]
    assert found.facts["given_away"] == ["c"]


def test_a_camera_for_each_class_is_serious():
    labels, features = clouds(80, classes=2)
    camera = np.where(labels == 0, "Maker A", "Maker B")
    (found,) = shortcuts.check(evidence(labels, features, facts=looks(160, camera=camera)))
    assert found.severity == "serious" and found.facts["columns"][0] == "camera"


def test_classes_that_have_colours_are_a_note():
    labels, features = clouds(80, classes=2)
    colour = np.where(labels[:, None] == 0, [200, 30, 30], [30, 30, 200]) + np.random.default_rng(0).normal(
        0, 5, (160, 3)
    )
    (found,) = shortcuts.check(evidence(labels, features, facts=looks(160, colour=colour.astype(np.float32))))
    assert found.severity == "note" and {"mean red", "mean blue"} <= set(found.facts["columns"])


@pytest.mark.parametrize("seed", range(5))
def test_sizes_that_have_nothing_to_do_with_the_class_are_no_shortcut(seed):
    random = np.random.default_rng(seed)
    labels, features = clouds(60, classes=2)
    facts = looks(120, width=random.integers(200, 600, 120), quality=random.integers(70, 99, 120).astype(np.float32))
    assert list(shortcuts.check(evidence(labels, features, facts=facts))) == []


# -- flips -------------------------------------------------------------------------------------


def test_left_and_right_are_others_in_the_mirror():
    labels, features = clouds(60, classes=2)
    exchanged = features.copy()
    exchanged[:, [0, 1]] = features[:, [1, 0]]
    rows = np.arange(0, 120, 2)
    (found,) = flips.check(evidence(labels, features, mirrored=Mirrored(rows, exchanged[rows])))
    assert found.command.endswith("--no-flip") and found.facts["mirrored"] < 0.1
    assert {(of, into) for of, into, _ in found.facts["pairs"]} == {("a", "b"), ("b", "a")}


def test_classes_that_look_the_same_in_the_mirror_are_not_mentioned():
    labels, features = clouds(60, classes=2)
    rows = np.arange(0, 120, 2)
    shaken = features[rows] + np.random.default_rng(1).normal(0, 0.3, (60, 8))
    assert list(flips.check(evidence(labels, features, mirrored=Mirrored(rows, shaken)))) == []


# -- groups ------------------------------------------------------------------------------------


def clips(alike):
    """30 subjects with 4 images each, named S007_001.png; images of a subject are alike, or not."""
    random = np.random.default_rng(2)
    subject = np.repeat(np.arange(30), 4)
    centres = random.normal(size=(30, 16)) * (3.0 if alike else 0.0)
    labels = random.permutation(np.repeat([0, 1], 60))
    paths = [f"{'ab'[labels[row]]}/S{of:03d}_{row % 4:03d}.png" for row, of in enumerate(subject)]
    return evidence(labels, centres[subject] + random.normal(size=(120, 16)), paths=paths, codes=np.arange(120) % 2)


def test_subjects_in_names_are_suggested_as_a_pattern_that_parses():
    found = next(iter(related.check_groups(clips(alike=True))))
    assert found.facts["group_by"] == r"(S\d+)_" and found.facts["groups"] == 30
    assert found.facts["straddling"] == 30
    assert found.command == r"tlkit finetune images --group-by '(S\d+)_'"


def test_names_that_say_nothing_about_the_images_are_not_suggested():
    assert list(related.check_groups(clips(alike=False))) == []


def test_numbered_names_form_no_groups():
    assert related.groupings([f"a/{row:04d}.jpg" for row in range(50)]) == []


def test_folders_below_the_class_are_groups():
    found = related.groupings([f"a/film{row // 5}/{row:04d}.jpg" for row in range(50)])
    assert [grouping.count for grouping in found] == [10]


def test_images_seconds_apart_are_a_burst():
    labels, features = clouds(20, classes=2)
    taken = np.array([f"2024:05:01 10:{row:02d}:00" for row in range(40)])
    taken[1] = "2024:05:01 10:00:02"
    camera = np.full(40, "Maker Model")
    (found,) = related.check_groups(evidence(labels, features, facts=looks(40, taken=taken, camera=camera)))
    assert [group.paths for group in found.groups] == [("a/0000.jpg", "a/0001.jpg")]


# -- the rest ----------------------------------------------------------------------------------


def test_unequal_and_tiny_classes():
    labels = np.repeat([0, 1, 2], [100, 20, 4])
    found = {finding.severity: finding for finding in check_sizes(evidence(labels, np.zeros((124, 2))))}
    assert found["warning"].facts.get("tiny") == {"c": 4} or found["warning"].facts.get("counts")
    assert any("--balance auto" in finding.command for finding in check_sizes(evidence(labels, np.zeros((124, 2)))))


def test_a_split_without_a_class_is_named():
    labels = np.repeat([0, 1], 20)
    codes = np.where(np.arange(40) < 5, 2, 0)
    (found,) = check_sizes(evidence(labels, np.zeros((40, 2)), codes=codes))
    assert found.facts == {"split": "test", "lacking": ["b"]}


def test_the_image_unlike_all_others_comes_first():
    labels, features = clouds(40)
    features[7] = [0, 0, 0, 0, 0, 0, -9, 9]
    (found,) = outliers.check_distance(evidence(labels, features))
    assert found.groups[0].paths == ("a/0007.jpg",)


def test_giants_and_black_images_stand_out():
    labels, features = clouds(20)
    facts = looks(60)
    facts.width[3], facts.height[3], facts.colour[5] = 4000, 3000, 3
    sentences = [finding.sentence for finding in outliers.check_looks(evidence(labels, features, facts=facts))]
    assert sentences == ["1 image is 16 times larger or smaller than usual.", "1 image is nearly black."]


def test_unreadable_turned_and_misnamed_files():
    facts = looks(40)
    facts.orientation[2], facts.format[4] = 6, "PNG"
    aside = tuple(Problem(f"a/bad{i}.jpg", "is cut short") for i in range(5))
    found = list(files.check(evidence(np.repeat([0, 1], 20), np.zeros((40, 2)), facts=facts, set_aside=aside)))
    assert [finding.severity for finding in found] == ["serious", "note", "note"]  # 5 of 45 files
    assert [group.caption for group in found[0].groups] == ["is cut short"] * 5
    assert found[2].groups[0].paths == ("a/0004.jpg",)


def test_every_check_runs_and_those_that_cannot_say_why():
    labels, features = clouds(3)
    result = audit(evidence(labels, features))
    assert list(result.checks) == [check.name for check in CHECKS]
    assert result.checks["labels"] == "needs 40 labelled images" and result.checks["files"] == ""


def test_of_very_many_classes_no_classifier_is_fitted_and_the_reason_is_told():
    labels, features = clouds(3)
    few = evidence(labels, features)
    names = tuple(map(str, range(10_000)))
    assert not too_many(len(few), 1000) and not too_many(30_000, 1000) and too_many(30_000, 10_000)
    repeated = np.tile(labels, 30_000 // len(labels) + 1)
    many = replace(few, dataset=replace(few.dataset, classes=names, labels=repeated))
    assert unlearnable(many).startswith("30,0") and "10,000 classes" in unlearnable(many)


def test_unlabelled_images_are_audited_too():
    labels, features = clouds(20)
    bare = evidence(labels, features)
    bare.dataset.labels[:] = -1
    result = audit(bare)
    assert result.checks["classes"] == "needs labels" and result.checks["copies"] == ""


def test_many_tiny_classes_give_nothing_away_by_chance():
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(26), 6)
    facts = looks(156, width=random.integers(200, 600, 156), height=random.integers(200, 600, 156))
    assert list(shortcuts.check(evidence(labels, np.zeros((156, 4)), facts=facts))) == []
