"""`tlkit features`: images in, a table of features out.

tlkit features images --backbone resnet50 --out features.csv
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.backbones.weight_files import models_folder
from tlkit.base.errors import TlkitError, unknown_name
from tlkit.base.files import write_json
from tlkit.base.machine import versions
from tlkit.base.story import Silence, Story
from tlkit.data.dataset import Dataset, InputContract
from tlkit.data.decode import set_aside
from tlkit.data.scan import scan
from tlkit.data.split import fixing, split
from tlkit.extraction.extract import Extraction, Network, extract, forget, recall, remember
from tlkit.extraction.store import StoredFeatures
from tlkit.extraction.tables import table_format, write_table
from tlkit.extraction.transforms import Components, fit_components, parse_reduction
from tlkit.options.commands import AuditConfig, FeaturesConfig, FinetuneConfig, RankConfig
from tlkit.runs.folder import refuse_occupied

if TYPE_CHECKING:
    import keras

    from tlkit.backbones.build import Backbone

SIDECAR_FORMAT = 1


def run(config: FeaturesConfig, story: Story | None = None) -> dict[str, Any]:
    """Write the table and its sidecar `OUT.json`; nothing that the store holds is computed again.

    Returns:
        `images`, `set_aside`, `out`, `sidecar`, `features` (columns), `computed`, `seconds`.

    Raises:
        TlkitError: wrong options, no usable image, missing weights, occupied `out`.
    """
    story, out = story or Silence(), Path(config.out)
    table_format(out)
    components = parse_reduction(config.reduce) if config.reduce else None
    refuse_occupied(out, overwrite=config.overwrite)

    dataset = scan(
        config.images,
        classes=config.classes,
        group_by=config.group_by,
        labelled=None,
        fixes=fixing(config),
        story=story,
    )
    source, network = _network(config, story)
    height, width = source.image_size
    contract = InputContract(height=height, width=width, fit=config.fit)
    story.say(f"{len(dataset)} images, {len(dataset.classes)} classes; {source.backbone} at {height}x{width}")

    extraction = extracted(config, network, dataset, contract, story)
    story.say(told(extraction))
    dataset = set_aside(dataset, extraction.problems, config.on_bad)
    splits = split(dataset, val=config.val, test=config.test, seed=config.seed, keras_split=config.keras_split)

    stored = extraction.features[network.outputs[0], 0].present()
    width_before = int(np.prod(stored.shape[1:]))
    reduction = None
    if components:
        reduction = fit_components(lambda rows: flat(stored, rows), splits.indices("train"), components, config.seed)
        story.say(f"{width_before} features reduced to {components}, {reduction.explained:.1%} of their variance")
    features = components or width_before
    write_table(out, dataset, splits, lambda rows: reduced(stored, rows, reduction), features)
    sidecar = out.with_name(out.name + ".json")
    write_json(sidecar, describe(config, source, contract, dataset, features, reduction))
    story.say(f"{out}: {len(dataset)} rows x {features} features; split {splits.rule}")
    return {
        "images": len(dataset),
        "set_aside": [problem.as_json() for problem in dataset.set_aside],
        "out": str(out),
        "sidecar": str(sidecar),
        "features": features,
        "computed": extraction.passes,
        "seconds": round(extraction.seconds, 3),
    }


@dataclass(frozen=True)
class Source:
    """What is known of the network that features come from.

    Args:
        backbone: its name.
        weights: `imagenet`, `none` or the path they were read from.
        weights_sha256: fingerprint of their values.
        preprocess: mode of the preprocessing inside.
        image_size: (H, W).
        output: name of the layer and pooling in the store.
    """

    backbone: str
    weights: str
    weights_sha256: str
    preprocess: str
    image_size: tuple[int, int]
    output: str


def _network(config: FeaturesConfig, story: Story) -> tuple[Source, Network]:
    """The network: as remembered from last time, and then built only when something has to be computed; else built."""
    wish = {name: getattr(config, name) for name in ("image_size", "layer", "pool")}
    wish |= {"backbone": _placed(config.backbone), "weights": _placed(config.weights), "keras": str(models_folder())}
    facts = recall(wish)
    if facts is None:
        return _build(config, wish, story)
    source = Source(**facts | {"image_size": tuple(facts["image_size"])})

    def build() -> "keras.Model":
        built, network = _build(config, wish, story)
        if built != source:
            forget(wish)
            raise TlkitError(f"{source.backbone} is not the network that it was.", "run the same command again.")
        return network.built

    return source, Network(build, (source.output,), source.weights_sha256, source.backbone)


def _placed(name: str) -> str:
    """A file by its whole path, any other name as it is."""
    return str(Path(name).absolute()) if Path(name).is_file() else name


def _build(config: FeaturesConfig, wish: dict[str, Any], story: Story) -> tuple[Source, Network]:
    """Build the network, and remember it where its weights came from files."""
    from tlkit.backbones import runtime
    from tlkit.backbones.build import build_backbone, files_of

    runtime.seed_everything(config.seed)
    backbone = build_backbone(
        config.backbone, weights=config.weights, image_size=config.image_size, seed=config.seed, story=story
    )
    network = feature_network(backbone, config.layer, config.pool)
    source = Source(
        backbone=backbone.name,
        weights=backbone.weights,
        weights_sha256=backbone.weights_sha256,
        preprocess=backbone.preprocess,
        image_size=backbone.image_size,
        output=network.outputs[0],
    )
    if files := files_of(config.backbone, config.weights, backbone.image_size):
        remember(wish, asdict(source), files)
    return source, network


def extracted(
    config: AuditConfig | FeaturesConfig | FinetuneConfig | RankConfig,
    network: Network,
    dataset: Dataset,
    contract: InputContract,
    story: Story | None = None,
    **views: Any,
) -> Extraction:
    """`extract` as a command's options ask; `views` are its arguments about views."""
    return extract(
        network,
        dataset,
        contract,
        stored_as=config.stored_as,
        engine=config.engine,
        precision=config.precision,
        batch_size=config.batch_size,
        story=story,
        **views,
    )


def feature_network(backbone: "Backbone", layer: str | None, pooling: str) -> Network:
    """The backbone up to a layer, pooled.

    Raises:
        TlkitError: when the layer does not exist or its output is neither a grid nor a vector.
    """
    import keras

    from tlkit.classifier.heads.build import pool

    names = [found.name for found in backbone.model.layers]
    if layer is not None and layer not in names:
        raise unknown_name(f"a layer of {backbone.name}", layer, names)
    name = layer or names[-1]
    output = backbone.model.get_layer(name).output
    if len(output.shape) not in (2, 4):
        raise TlkitError(
            f"--layer {name} gives {tuple(output.shape)}, expected a grid (B, h, w, C) or vectors (B, C).",
            "choose a convolution, an activation or a pooling layer.",
        )
    pooled = pooling != "none" and len(output.shape) == 4
    if pooled:
        output = pool(output, pooling)
    return Network(
        keras.Model(backbone.model.input, output),
        (f"{name}:{pooling}" if pooled else name,),
        backbone.weights_sha256,
        backbone.name,
    )


def told(extraction: Extraction, what: str = "features") -> str:
    """One sentence on what extraction took."""
    if not extraction.passes:
        return f"{what} of {extraction.stored} images were in the store; nothing was computed"
    rate = extraction.passes / max(extraction.seconds, 1e-9)
    known = f", {extraction.stored} were in the store" if extraction.stored else ""
    return f"extracted {extraction.passes} images in {extraction.seconds:.1f} s ({rate:.0f}/s{known}); engine {extraction.engine}"


def flat(stored: StoredFeatures, rows: np.ndarray) -> np.ndarray:
    """float32 (n, C): rows of the store, grids flattened row by row, channels last."""
    return stored[rows].reshape(len(rows), -1)


def reduced(stored: StoredFeatures, rows: np.ndarray, reduction: Components | None) -> np.ndarray:
    """The rows as they go into the table."""
    return flat(stored, rows) if reduction is None else reduction.apply(flat(stored, rows))


def describe(
    config: FeaturesConfig,
    source: Source,
    contract: InputContract,
    dataset: Dataset,
    features: int,
    reduction: Components | None,
) -> dict[str, Any]:
    """What the columns are: enough to compute them again."""
    return {
        "format": SIDECAR_FORMAT,
        "backbone": source.backbone,
        "weights": source.weights,
        "weights_sha256": source.weights_sha256,
        "preprocess": source.preprocess,
        "input": contract.as_json(),
        "output": source.output,
        "pool": config.pool,
        "features": features,
        "reduce": reduction and {"method": "pca", "explained": reduction.explained, "fitted_on": reduction.rows},
        "images": len(dataset),
        "classes": list(dataset.classes),
        "data_sha256": dataset.fingerprint(),
        "set_aside": [problem.as_json() for problem in dataset.set_aside],
        "seed": config.seed,
        "versions": versions(),
    }
