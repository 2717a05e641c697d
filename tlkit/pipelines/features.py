"""`tlkit features`: images in, a table of features out.

tlkit features images --backbone resnet50 --out features.csv
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.base.files import replacing_all, write_json
from tlkit.base.machine import versions
from tlkit.base.story import Phase, Silence, Story, percent
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.decode import contract_for, set_aside
from tlkit.data.scan import labelling, scan
from tlkit.data.split import fixing, split
from tlkit.extraction.extract import shard_result
from tlkit.extraction.recall import Origin, expecting, feature_source
from tlkit.extraction.store import Rows
from tlkit.extraction.tables import GROUP_BYTES, table_format, write_table
from tlkit.extraction.transforms.table import Reduction, Transform, load_transform, parse_reduction, save_transform
from tlkit.options.commands import FeaturesConfig
from tlkit.runs.folder import refuse_occupied

SIDECAR_FORMAT = 1
PHASES = (  # with seconds of a small network on two cores
    Phase("reading files", 0.2, 1e-3),
    Phase("opening the network", 4.0),
    Phase("extracting", 1.0, 0.02),
    Phase("writing", 0.3, 5e-4),
)


def run(config: FeaturesConfig, story: Story | None = None) -> dict[str, Any]:
    """Write the table and its sidecar `OUT.json`; features in the store are not computed again.

    Returns:
        `images`, `set_aside`, `out`, `sidecar`, `features` (columns), `computed`, `seconds`; for a shard see
        `shard_result`.

    Raises:
        TlkitError: for wrong options, no usable image, missing weights, an occupied `out`.
    """
    story, out = story or Silence(), Path(config.out)
    table_format(out)
    wanted = parse_reduction(config.reduce) if config.reduce else None
    refuse_occupied(out, overwrite=config.overwrite or config.shard is not None)  # a shard writes no table
    story.expect(*(PHASES if config.shard is None else PHASES[:-1]))
    with expecting(config):
        dataset = scan(
            config.images,
            **labelling(config, otherwise=None),
            group_by=config.group_by,
            fixes=fixing(config),
            story=story,
        )
        story.begin("opening the network")
        origin, source = feature_source(config, story)
    contract = contract_for(config, origin.image_size, dataset, story)
    source = replace(source, contract=contract)
    features_of = {"weights_sha256": origin.weights_sha256, "output": origin.output, "input": contract.as_json()}
    if wanted and wanted.saved:
        load_transform(wanted.saved, features_of)  # refuses one that does not fit before anything is computed
    story.say(
        f"{len(dataset)} images, {len(dataset.classes)} classes; {source.name} at {contract.height}x{contract.width}"
    )

    extraction = source.extract(dataset, story=story)
    story.say(extraction.sentence())
    if config.shard is not None:
        return shard_result(config, len(dataset), [extraction], story)
    dataset = set_aside(dataset, extraction.problems, config.on_bad)
    splits = split(dataset, val=config.val, test=config.test, seed=config.seed, keras_split=config.keras_split)

    story.begin("writing")
    rows = extraction.rows.present()
    features: int = int(np.prod(rows.shape[1:]))
    reduction: Transform | None = None
    if wanted:
        training = rows.select(splits.indices("train"))
        reduction, features = _reduced(config, wanted, training, features_of, story)
    about = describe(config, origin, contract, dataset, features, reduction)
    _write(out, about, dataset, splits, rows, reduction, features_of if wanted and not wanted.saved else None)
    story.say(f"{out}: {len(dataset)} rows x {features} features; split {splits.rule}")
    return {
        "images": len(dataset),
        "set_aside": [problem.as_json() for problem in dataset.set_aside],
        "out": str(out),
        "sidecar": f"{out}.json",
        "features": features,
        "computed": extraction.passes,
        "seconds": round(extraction.seconds, 3),
    }


def _reduced(
    config: FeaturesConfig, wanted: Reduction, training: Rows, features_of: Mapping[str, Any], story: Story
) -> tuple[Transform, int]:
    """The requested transform, and the number of features it gives."""
    found = wanted.made(training, config.seed, features_of)
    before, width = int(np.prod(training.shape[1:])), found.apply(training.flat(np.arange(1))).shape[1]
    if wanted.saved:
        story.say(f"{before} features reduced to {width} with {wanted.saved}")
        return found, width
    story.say(
        f"{before} features reduced to {width}, {percent(found.describe()['explained'], 1)} of their variance; "
        f"to reduce other images the same way: --reduce {config.out}.reduce.npz"
    )
    return found, width


def _write(
    out: Path,
    about: Mapping[str, Any],
    dataset: Dataset,
    splits: Splits,
    rows: Rows,
    reduction: Transform | None,
    fitted_on: Mapping[str, Any] | None,
) -> None:
    """Write the table, its sidecar and a newly fitted transform: all of them or none."""
    read = rows.flat if reduction is None else lambda chosen: reduction.apply(rows.flat(chosen))
    with replacing_all(out.parent) as made:
        if reduction is not None and fitted_on is not None:
            save_transform(reduction, made / f"{out.name}.reduce.npz", fitted_on)
        # The last digits of reduced features depend on the rows per matrix product, so it is the same for all formats.
        most = GROUP_BYTES if reduction else None
        write_table(made / out.name, dataset, splits, read, about["features"], most=most)
        write_json(made / f"{out.name}.json", about)


def describe(
    config: FeaturesConfig,
    origin: Origin,
    contract: InputContract,
    dataset: Dataset,
    features: int,
    reduction: Transform | None,
) -> dict[str, Any]:
    """The sidecar: a description of the columns, sufficient to compute them again."""
    return {
        "format": SIDECAR_FORMAT,
        "backbone": origin.backbone,
        "weights": origin.weights,
        "weights_sha256": origin.weights_sha256,
        "preprocess": origin.preprocess,
        "input": contract.as_json(),
        "output": origin.output,
        "pool": config.pool,
        "features": features,
        "reduce": reduction and reduction.describe(),
        "images": len(dataset),
        "classes": list(dataset.classes),
        "data_sha256": dataset.fingerprint(),
        "set_aside": [problem.as_json() for problem in dataset.set_aside],
        "seed": config.seed,
        "versions": versions(),
    }
