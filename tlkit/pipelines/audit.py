"""`tlkit audit`: what is wrong with a set of images, before anything is trained on it.

tlkit audit images
tlkit audit images --write-fixes fixes.csv && tlkit finetune images --fixes fixes.csv
"""

import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.auditing.audit import audit
from tlkit.auditing.evidence import Evidence, Mirrored
from tlkit.auditing.findings import SEVERITIES, AuditResult
from tlkit.auditing.fixing import proposed_fixes, write_grouped, write_images
from tlkit.auditing.flips import Mirror, sample
from tlkit.auditing.kinship import pooled
from tlkit.auditing.look import look
from tlkit.backbones import runtime
from tlkit.backbones.build import Backbone, build_backbone
from tlkit.base.errors import TlkitError
from tlkit.base.files import write_json
from tlkit.base.story import Silence, Story
from tlkit.data.dataset import UNASSIGNED, Dataset, InputContract, Splits
from tlkit.data.decode import set_aside
from tlkit.data.fixes import write_fixes
from tlkit.data.folders import refuse_inside
from tlkit.data.scan import scan
from tlkit.data.split import fixing, split
from tlkit.data.views import CENTRE
from tlkit.extraction.extract import Network
from tlkit.extraction.store import StoredFeatures
from tlkit.options.commands import AuditConfig, FinetuneConfig
from tlkit.pipelines.features import extracted, feature_network, told
from tlkit.report import outcome
from tlkit.report.audit_page import AuditPage, write_audit_page
from tlkit.runs import record
from tlkit.runs.folder import refuse_occupied
from tlkit.training.stages import Material

OF_TRAINING = ("flips",)  # findings about an option of the run that hears them: their remedy is always told


def run(config: AuditConfig, story: Story | None = None) -> dict[str, Any]:
    """Look at every image and say what is wrong, worst first.

    Returns:
        `out`, `images`, `counts` (severity -> findings), `findings` (without their images), `report`, `fixes`
        (how many were written), `seconds` (of the audit, after extraction).

    Raises:
        TlkitError: wrong options, no usable image, occupied `out`; with `strict`, something serious was found.
    """
    story, out = story or Silence(), Path(config.out)
    for path in (out, *([Path(config.write_fixes)] if config.write_fixes else [])):
        refuse_occupied(path, overwrite=config.overwrite)
    refuse_inside(out, config.images)
    runtime.seed_everything(config.seed)
    dataset = scan(
        config.images,
        classes=config.classes,
        group_by=config.group_by,
        labelled=None,
        fixes=fixing(config),
        story=story,
    )
    backbone = build_backbone(
        config.backbone, weights=config.weights, image_size=config.image_size, seed=config.seed, story=story
    )
    height, width = backbone.image_size
    contract = InputContract(height=height, width=width, fit=config.fit)
    story.say(f"{len(dataset)} images, {len(dataset.classes)} classes; {_chosen(backbone)} at {height}x{width}")
    network = feature_network(backbone, None, "avg")
    extraction = extracted(config, network, dataset, contract, story)
    story.say(told(extraction))
    dataset = set_aside(dataset, extraction.problems, config.on_bad)
    splits = split(dataset, val=config.val, test=config.test, seed=config.seed, keras_split=config.keras_split)

    started = time.monotonic()
    stored = extraction.features[network.outputs[0], CENTRE].present()
    evidence = gather(config, dataset, splits, pooled(stored), network, contract, story)
    evidence.grouped_file = "" if evidence.given else str(out / "grouped.csv")
    result = audit(evidence, story=story)
    seconds = round(time.monotonic() - started, 3)
    story.say(lines(result, full=True))
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


def quick(config: FinetuneConfig, material: Material, contract: InputContract, path: Path, story: Story) -> Evidence:
    """The audit at the start of a run: short lines, and audit.json at `path`.

    Args:
        config: of the run.
        material: its images and what is stored of them.
        contract: what pixels the backbone is given.
        path: of the file to write.
        story: hears the findings.

    Returns:
        The evidence: `pictures` (N,) numbers what shows the same picture.
    """
    started = time.monotonic()
    pooling = material.head.pooling if material.head.reads == "pooled" else "avg"
    network = feature_network(material.backbone, None, pooling)
    stored = material.stored.get("features")
    if not isinstance(stored, StoredFeatures):  # a run that makes every view anew keeps none
        stored = extracted(config, network, material.dataset, contract, story).features[network.outputs[0], CENTRE]
    evidence = gather(config, material.dataset, material.splits, pooled(stored), network, contract, story)
    result = audit(evidence, story=story)
    write_json(path, result.as_json())
    story.say(lines(result, full=False))
    story.say(f"audit: {summary(result)}, in {time.monotonic() - started:.1f} s; all of it: {path}")
    return evidence


def gather(
    config: AuditConfig | FinetuneConfig,
    dataset: Dataset,
    splits: Splits,
    features: np.ndarray,
    network: Network,
    contract: InputContract,
    story: Story,
) -> Evidence:
    """Everything that checks look at: the files themselves, and some images in the mirror."""
    flips = isinstance(config, AuditConfig) or (config.flip and config.augment != "none")
    rows = sample(dataset.labels, config.seed)
    mirrored = None
    if len(rows) and flips:
        seen = extracted(config, network, dataset.select(rows), contract, views=(1,), augmentation=Mirror())
        mirrored = Mirrored(rows, pooled(seen.features[network.outputs[0], 1]))
    return Evidence(
        dataset=dataset,
        codes=splits.codes,
        features=features,
        looks=look([dataset.file(row) for row in range(len(dataset))], story=story),
        images=shlex.quote(config.images or ""),
        given=not dataset.drawn and bool((dataset.given != UNASSIGNED).any()),
        mirrored=mirrored,
        seed=config.seed,
    )


def lines(result: AuditResult, *, full: bool) -> str:
    """The findings for a reader, serious ones first; `full` adds remedies and commands, else few of them get them."""
    told = []
    for finding in result.findings:
        told.append(f"  {finding.severity}: {finding.sentence}")
        if full or finding.severity == "serious" or finding.check in OF_TRAINING:
            told += [f"    {finding.remedy}"] + ([f"    $ {finding.command}"] if finding.command else [])
    left_out = [f"  not checked: {name} ({reason})" for name, reason in result.checks.items() if reason]
    return "\n".join([*told, *(left_out if full else [])]) or "  nothing found"


def summary(result: AuditResult) -> str:
    """`2 serious, 1 warning, 3 notes`."""
    counts = result.counts
    plural = {"serious": "serious", "warning": "warnings", "note": "notes"}
    return ", ".join(f"{counts[name]} {name if counts[name] == 1 else plural[name]}" for name in SEVERITIES)


def _chosen(backbone: Backbone) -> str:
    reason = " (inside tlkit, cheap; --backbone chooses another)" if backbone.name == "nano" else ""
    return f"{backbone.name}{reason}"


def _write(
    config: AuditConfig, out: Path, evidence: Evidence, result: AuditResult, backbone: Backbone, splits: Splits
) -> int:
    """Everything on disk; returns how many fixes are proposed."""
    dataset = evidence.dataset
    write_json(out / "audit.json", result.as_json())
    write_images(out / "images.csv", evidence)
    if evidence.grouped_file and any(found.command == evidence.grouped_command for found in result.findings):
        write_grouped(Path(evidence.grouped_file), evidence)
    fixes = proposed_fixes(result)
    if config.write_fixes:
        write_fixes(Path(config.write_fixes), fixes)
    page = AuditPage(
        title=Path(config.images).resolve().name,
        command=runtime.command_line(),
        created=record.now(),
        result=result,
        rule=splits.rule,
        counts=outcome.data_section(dataset, splits).counts,
        thumbnail=outcome.thumbnails(dataset.root),
        versions=runtime.versions(),
        fingerprints={"images and labels": dataset.fingerprint(), "backbone weights": backbone.weights_sha256},
    )
    write_audit_page(out / "audit.html", page)
    return len(fixes) if config.write_fixes else 0
