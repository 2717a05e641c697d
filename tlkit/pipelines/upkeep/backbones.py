"""`tlkit backbones`: every backbone a user may name."""

from typing import Any

from tlkit.backbones.weight_files import imagenet_file, models_folder, weights_at_hand
from tlkit.base.story import Story
from tlkit.options.catalog import BACKBONES, FAMILIES, HUB, BackboneRow
from tlkit.options.commands import BackbonesConfig
from tlkit.options.hub_presets import HUB_PRESETS, PresetRow, licence_of


def run(config: BackbonesConfig, story: Story | None = None) -> dict[str, Any]:
    """List the catalogue, and whether each row's default ImageNet weights are on this machine.

    Returns:
        `backbones`: name, accuracy (on ImageNet, percent, as published, or None; the highest first), image_size, channels,
        parameters (millions), preprocess, licence, weights (`inside`, `at hand` or `download`), file; `families` of
        other sources; `presets`, the supported KerasHub vision transformers, highest published accuracy first; `folder`
        of the files; `text`.
    """
    ordered = sorted(BACKBONES.values(), key=lambda row: -(row.accuracy or 0))
    rows = [{**row._asdict(), **_weights(row)} for row in ordered]
    header = f"{'name':<20}{'ImageNet':>8}{'pixels':>8}{'features':>10}{'parameters':>12}  {'weights':<10}licence"
    lines = [
        f"{row['name']:<20}{row['accuracy'] or '-':>8}{row['image_size']:>8}{row['channels']:>10}{row['parameters']:>10.1f} M  "
        f"{row['weights']:<10}{row['licence']}"
        for row in rows
    ]
    notes = [
        "",
        "ImageNet: accuracy of the whole network in percent, from keras.io/api/applications; speed here, and "
        "accuracy on your images: `tlkit rank`.",
        f"weights on this machine are in {models_folder()} (KERAS_HOME); others are downloaded on first use.",
        "`tlkit weights fetch NAME` downloads them now, `tlkit weights import FILE` copies them from elsewhere.",
        "nano comes with tlkit and needs no network; ImageNet backbones are better (docs/nano.md says how much).",
        "variants after a colon: mobilenetv2:alpha=0.35; a path to a .keras file also works.",
        *(f"{family.title}: {family.example}." for family in FAMILIES.values()),
    ]
    presets = sorted(HUB_PRESETS, key=lambda row: -(row.accuracy or 0))
    families = [{"prefix": family.prefix, "title": family.title} for family in FAMILIES.values()]
    return {
        "backbones": rows,
        "families": families,
        "presets": [{**row._asdict(), "licence": licence_of(row.name).name} for row in presets],
        "folder": str(models_folder()),
        "text": "\n".join([header, *lines, *notes, *_preset_lines(presets)]),
    }


def _preset_lines(presets: list[PresetRow]) -> list[str]:
    """The table of presets, and the sources of its figures."""
    return [
        "",
        "vision transformers of KerasHub (pip install 'tlkit[hub]'), rebuilt from Keras's own layers:",
        f"{'preset':<46}{'patch':>5}{'parameters':>12}{'ImageNet':>10}  licence",
        *(
            f"{HUB + row.name:<46}{row.patch:>5}{row.parameters:>10.1f} M{_published(row):>10}  "
            f"{licence_of(row.name).name}"
            for row in presets
        ),
        "ImageNet: accuracy in percent as the authors published it (facebookresearch/dinov2 and /deit, "
        "microsoft/Swin-Transformer), of a linear",
        "classifier on frozen features (l) or of the whole network (w); - if none was published in this form.",
    ]


def _published(row: PresetRow) -> str:
    return f"{row.accuracy} {row.measured[:1]}" if row.accuracy else "-"


def _weights(row: BackboneRow) -> dict[str, str]:
    """Whether the default weights of a row are on this machine, and their file."""
    if not row.attribute:
        return {"weights": "inside", "file": ""}
    size = (row.image_size, row.image_size)
    at_hand = weights_at_hand(row, {}, size)
    return {"weights": "at hand" if at_hand else "download", "file": imagenet_file(row, {}, size)}
