"""`tlkit audit`: faults in a set of images, found before anything is trained on it.

tlkit audit images
tlkit audit images --write-fixes fixes.csv
"""

import time
from pathlib import Path
from typing import Any

from tlkit.auditing.audit import audit, gather, lines, summary
from tlkit.auditing.evidence import Evidence
from tlkit.auditing.findings import AuditResult
from tlkit.auditing.fixing import proposed_fixes, write_grouped, write_images
from tlkit.auditing.flips import Mirror, sample
from tlkit.backbones import runtime
from tlkit.backbones.build import Backbone, build_backbone
from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing_all, write_json
from tlkit.base.story import Phase, Silence, Story
from tlkit.data.dataset import Dataset, Splits
from tlkit.data.decode import contract_for, set_aside
from tlkit.data.fixes import write_fixes
from tlkit.data.folders import refuse_inside
from tlkit.data.scan import labelling, scan
from tlkit.data.split import fixing, split
from tlkit.extraction.extract import shard_result
from tlkit.extraction.source import FeatureSource
from tlkit.options.commands import AuditConfig
from tlkit.report import outcome
from tlkit.report.audit_page import AuditPage, write_audit_page
from tlkit.runs import record
from tlkit.runs.folder import refuse_occupied

PHASES = (  # with seconds of nano on two cores
    Phase("reading files", 0.2, 4e-3),
    Phase("opening the network", 2.0),
    Phase("extracting", 1.0, 0.01),
    Phase("auditing", 2.0, 2e-3),
    Phase("writing", 0.5, 5e-4),
)


def run(config: AuditConfig, story: Story | None = None) -> dict[str, Any]:
    """Check every image and report the faults, worst first.

    Returns:
        `out`, `images`, `counts` (severity -> findings), `findings` (without their images), `report`, `fixes`
        (number written), `seconds` (of the audit, after extraction); for a shard see `shard_result`.

    Raises:
        TlkitError: for wrong options, no usable image, an occupied `out`; with `strict`, for serious findings.
    """
    story, out = story or Silence(), Path(config.out)
    for path in (out, *([Path(config.write_fixes)] if config.write_fixes else [])) if config.shard is None else ():
        refuse_occupied(path, overwrite=config.overwrite)
    refuse_inside(out, config.images)
    runtime.seed_everything(config.seed)
    story.expect(*(PHASES if config.shard is None else PHASES[:-2]))
    dataset = _scanned(config, story)
    story.begin("opening the network")
    backbone = build_backbone(
        config.backbone, weights=config.weights, image_size=config.image_size, seed=config.seed, story=story
    )
    height, width = backbone.image_size
    contract = contract_for(config, backbone.image_size, dataset, Silence() if config.levels is None else story)
    story.say(f"{len(dataset)} images, {len(dataset.classes)} classes; {_chosen(backbone)} at {height}x{width}")
    source = FeatureSource.of_backbone(backbone, contract).asked(config)
    extraction = source.extract(dataset, story=story)
    story.say(extraction.sentence())
    if config.shard is not None:
        rows = sample(dataset.labels, config.seed)
        mirrored = source.extract(dataset.select(rows), views=(1,), augmentation=Mirror(), story=story)
        return shard_result(config, len(dataset), [extraction, mirrored], story)
    dataset = set_aside(dataset, extraction.problems, config.on_bad)
    splits = split(dataset, val=config.val, test=config.test, seed=config.seed, keras_split=config.keras_split)

    started = time.monotonic()
    story.begin("auditing")
    evidence = gather(config, dataset, splits, extraction.rows.present().pooled(), source, story)
    evidence.grouped_file = "" if evidence.given else str(out / "grouped.csv")
    result = audit(evidence, story=story)
    seconds = round(time.monotonic() - started, 3)
    story.say(lines(result, full=True))
    story.begin("writing")
    written = _write(config, out, evidence, result, backbone, splits)
    story.say(f"{out / 'audit.html'}: {summary(result)}, in {seconds:.1f} s after extraction")
    if config.strict and result.counts["serious"]:
        worst = result.of("serious")
        raise TlkitError(f"{summary(result)}. {worst[0].sentence}", f"see {out / 'audit.html'}. {worst[0].remedy}")
    return {
        "out": str(out),
        "images": len(dataset),
        "set_aside": [problem.as_json() for problem in dataset.set_aside],
        "counts": result.counts,
        "findings": [{**found, "groups": len(found["groups"])} for found in result.as_json()["findings"]],
        "report": str(out / "audit.html"),
        "fixes": written,
        "extraction_seconds": round(extraction.seconds, 3),
        "seconds": seconds,
    }


def _scanned(config: AuditConfig, story: Story) -> Dataset:
    """The scanned images; inspected one by one unless only a shard of the features is computed."""
    return scan(
        config.images,
        **labelling(config, otherwise=None),
        group_by=config.group_by,
        fixes=fixing(config),
        look=config.shard is None,
        story=story,
    )


def _chosen(backbone: Backbone) -> str:
    reason = " (built in and fast; --backbone chooses another)" if backbone.name == "nano" else ""
    return f"{backbone.name}{reason}"


def _write(
    config: AuditConfig, out: Path, evidence: Evidence, result: AuditResult, backbone: Backbone, splits: Splits
) -> int:
    """Write all outputs or none; return the number of proposed fixes."""
    dataset, fixes = evidence.dataset, proposed_fixes(result)
    page = AuditPage(
        title=Path(config.images).resolve().name,
        command=runtime.command_line(),
        created=record.now(),
        result=result,
        rule=splits.rule,
        counts=outcome.data_section(dataset, splits).counts,
        thumbnail=outcome.thumbnails(dataset),
        versions=runtime.versions(),
        fingerprints={"images and labels": dataset.fingerprint(), "backbone weights": backbone.weights_sha256},
    )
    with replacing_all(out) as made:
        write_json(made / "audit.json", result.as_json())
        write_images(made / "images.csv", evidence)
        if evidence.grouped_file and any(found.command == evidence.grouped_command for found in result.findings):
            write_grouped(made / Path(evidence.grouped_file).name, evidence)
        write_audit_page(made / "audit.html", page)
        if config.write_fixes:
            write_fixes(Path(config.write_fixes), fixes)
    return len(fixes) if config.write_fixes else 0
