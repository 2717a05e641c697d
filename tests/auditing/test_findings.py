import json
from dataclasses import replace

import numpy as np

from tests.auditing.evidences import clouds, evidence
from tlkit.auditing.findings import AuditResult, Finding, ImageGroup, by_severity
from tlkit.auditing.fixing import write_grouped


def finding(check, severity, **more):
    return Finding(check=check, severity=severity, sentence="s.", remedy="r.", **more)


def test_an_audit_survives_json_with_numpy_numbers_and_without_nan():
    group = ImageGroup(paths=("a.png", "b.png"), labels=("x", "y"), score=np.float32(0.5), suggested="x")
    found = finding("duplicates", "serious", groups=(group,), facts={"count": np.int64(2), "share": float("nan")})
    result = AuditResult(images=2, classes=("x", "y"), findings=(found,), checks={"duplicates": ""}, seconds={})
    text = json.dumps(result.as_json(), allow_nan=False)
    back = AuditResult.from_json(json.loads(text))
    assert back.findings[0].groups == (
        ImageGroup(paths=("a.png", "b.png"), labels=("x", "y"), score=0.5, suggested="x"),
    )
    assert back.findings[0].facts == {"count": 2, "share": None}
    assert back.as_json() == result.as_json()


def test_serious_findings_come_first_and_order_stays_within_a_severity():
    findings = [finding("a", "note"), finding("b", "serious"), finding("c", "warning"), finding("d", "serious")]
    assert [found.check for found in by_severity(findings)] == ["b", "d", "c", "a"]


def test_the_table_with_groups_holds_single_images(tmp_path):
    """Frames were audited as images; with the column `clip` the table would be one of clips, split by its groups."""
    found = evidence(*clouds(2))
    dataset = replace(found.dataset, extra={"clip": ["a", "a", "b", "b", "c", "c"], "camera": list("xyzxyz")})
    write_grouped(tmp_path / "grouped.csv", replace(found, dataset=dataset))
    head = (tmp_path / "grouped.csv").read_text().splitlines()[0].split(",")
    assert "group" in head and "camera" in head and "clip" not in head
