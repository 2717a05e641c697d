"""Networks met before: what features of theirs are called in the store, without building them again.

    CACHE/networks/KEY.json     what was asked for, the weight files with their sha256, and what came of it

Building a network and reading its weights takes seconds, importing Keras first several more. When
everything asked of it is in the store, all that is needed is its name there. The name is looked up
under everything it follows from: the wish, the code that builds networks, the versions of what that
code stands on, and the content of the weight files.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit.backbones.weight_files import models_folder
from tlkit.base.errors import TlkitError
from tlkit.base.files import read_checked_json, sha256_file, sha256_json, write_checked_json
from tlkit.base.machine import cache_dir, versions
from tlkit.base.story import Story
from tlkit.data.dataset import InputContract
from tlkit.extraction.source import FeatureSource, find_tap
from tlkit.options.commands import FeaturesConfig

if TYPE_CHECKING:
    import keras

BUILDERS = Path(__file__).parents[1] / "backbones"  # the code that a network follows from


@dataclass(frozen=True)
class Origin:
    """What is known of the network that features come from."""

    backbone: str
    weights: str  # `imagenet`, `none` or the path they were read from
    weights_sha256: str
    preprocess: str  # mode of the preprocessing inside
    image_size: tuple[int, int]  # (H, W)
    output: str  # name of the layer and pooling in the store


def feature_source(config: FeaturesConfig, story: Story) -> tuple[Origin, FeatureSource]:
    """The network: as remembered from last time, and then built only when something has to be computed; else built."""
    wish = {name: getattr(config, name) for name in ("image_size", "layer", "pool")}
    wish |= {"backbone": _placed(config.backbone), "weights": _placed(config.weights), "keras": str(models_folder())}
    facts = _recall(wish)
    if facts is None:
        return _build(config, wish, story)
    origin = Origin(**facts | {"image_size": tuple(facts["image_size"])})

    def build() -> "keras.Model":
        built, source = _build(config, wish, story)
        if built != origin:
            _place(wish).unlink(missing_ok=True)
            raise TlkitError(f"{origin.backbone} is not the network that it was.", "run the same command again.")
        return source.built

    source = FeatureSource(
        model=build,
        outputs=(origin.output,),
        weights_sha256=origin.weights_sha256,
        contract=_contract(origin, config),
        name=origin.backbone,
    )
    return origin, source.asked(config)


def _build(config: FeaturesConfig, wish: dict[str, Any], story: Story) -> tuple[Origin, FeatureSource]:
    """Build the network, and remember it where its weights came from files."""
    from tlkit.backbones import runtime
    from tlkit.backbones.build import build_backbone, files_of

    runtime.seed_everything(config.seed)
    backbone = build_backbone(
        config.backbone, weights=config.weights, image_size=config.image_size, seed=config.seed, story=story
    )
    tap = find_tap(backbone, config.layer, config.pool)
    origin = Origin(
        backbone=backbone.name,
        weights=backbone.weights,
        weights_sha256=backbone.weights_sha256,
        preprocess=backbone.preprocess,
        image_size=backbone.image_size,
        output=tap.name,
    )
    if files := files_of(config.backbone, config.weights, backbone.image_size):
        hashes = {str(file.absolute()): sha256_file(file) for file in files}
        write_checked_json(_place(wish), {"wish": wish, "files": hashes, "facts": asdict(origin)})
    return origin, FeatureSource.of_backbone(backbone, _contract(origin, config), tap).asked(config)


def _contract(origin: Origin, config: FeaturesConfig) -> InputContract:
    height, width = origin.image_size
    return InputContract(height=height, width=width, fit=config.fit)


def _placed(name: str) -> str:
    """A file by its whole path, any other name as it is."""
    return str(Path(name).absolute()) if Path(name).is_file() else name


def _recall(wish: Mapping[str, Any]) -> dict[str, Any] | None:
    """What came of this wish the last time; None where it is new, or where code, versions or a weight file changed."""
    try:
        found = read_checked_json(_place(wish))
        unchanged = all(sha256_file(Path(file)) == sha256 for file, sha256 in found["files"].items())
        return dict(found["facts"]) if unchanged else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or damaged: found out again
        return None


def _place(wish: Mapping[str, Any]) -> Path:
    code = {file.name: sha256_file(file) for file in sorted(BUILDERS.glob("*.py"))}
    name = sha256_json({"wish": dict(wish), "code": code, "versions": versions()})
    return cache_dir()[0] / "networks" / f"{name[:32]}.json"
