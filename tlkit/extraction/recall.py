"""Networks used before: the keys of their features in the store, without building them again.

    CACHE/networks/KEY.json     the request, the weight files with their sha256, the result, and what is known of the ONNX
                                file beside it (`kept`)

Building a network and reading its weights takes seconds, importing Keras first several more. When all
its features that are asked for are in the store, only its key is needed; what is missing is computed by the ONNX file.
The key is looked up by everything it depends on: the request, the code that builds and writes networks, the versions of
its dependencies, and the content of the weight files.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tlkit.backbones.weight_files import is_path, models_folder
from tlkit.base.errors import TlkitError
from tlkit.base.files import known_sha256, read_checked_json, sha256_json, write_checked_json
from tlkit.base.machine import versions
from tlkit.base.story import Story
from tlkit.data.dataset import InputContract
from tlkit.extraction import kept
from tlkit.extraction.source import FeatureSource, find_tap
from tlkit.options.catalog import HUB, backbone_row
from tlkit.options.commands import FeaturesConfig

if TYPE_CHECKING:
    import keras

    from tlkit.extraction.engine import Engine

_HERE = Path(__file__).parent
CODE = (  # on which a network and its ONNX file depend
    *sorted(_HERE.with_name("backbones").rglob("*.py")),
    *sorted((_HERE / "onnx_parts").glob("*.py")),
    *(_HERE / f"{name}.py" for name in ("frozen", "onnx_graph", "translate")),
)


@dataclass(frozen=True)
class Origin:
    """What is known of the network that features come from."""

    backbone: str
    weights: str  # `imagenet`, `none` or the path they were read from
    weights_sha256: str
    preprocess: str  # mode of the preprocessing inside
    image_size: tuple[int, int]  # (H, W)
    output: str  # name of the layer and pooling in the store
    shape: tuple[int, ...]  # of the features of one image


class Built(NamedTuple):
    """A network in memory, and where it comes from."""

    origin: Origin
    source: FeatureSource


class Note(NamedTuple):
    """A network used before.

    Args:
        origin: where it comes from.
        onnx: what is known of its ONNX file; empty where none has been tried.
    """

    origin: Origin
    onnx: kept.About


@contextlib.contextmanager
def expecting(config: FeaturesConfig) -> Iterator[None]:
    """Within this context, a new network is written by a separate process, until `feature_source` needs it."""
    wish = _wish(config)
    place = _place(wish)
    if not kept.why_not(config) and _recall(wish) is None:
        with contextlib.suppress(OSError):  # tried again, and reported, when it is needed
            kept.begin(place, config, wish)
    try:
        yield
    finally:
        kept.abandon(place)


def feature_source(config: FeaturesConfig, story: Story) -> tuple[Origin, FeatureSource]:
    """The network: as remembered by a note, which is written now where its weights allow it; otherwise built."""
    wish = _wish(config)
    place, note, obstacle = _place(wish), _recall(wish), ""
    if note is None and not kept.why_not(config):
        obstacle = kept.write(place, config, wish, story)
        note = _recall(wish)
    if note is None:
        return _build_here(config, wish, story, {"obstacle": obstacle} if obstacle else {})
    origin = note.origin

    def rebuild() -> "keras.Model":
        built = _build_here(config, wish, story, note.onnx)
        _refuse_another(origin, built.origin, place)
        return built.source.built

    source = FeatureSource(
        model=rebuild,
        outputs=(origin.output,),
        weights_sha256=origin.weights_sha256,
        contract=_contract(origin, config),
        name=origin.backbone,
        shapes=(origin.shape,),
        quick=partial(_by_onnx, config, wish, origin, story),
    )
    return origin, source.asked(config)


def _wish(config: FeaturesConfig) -> dict[str, Any]:
    wish = {name: getattr(config, name) for name in ("image_size", "layer", "pool")}
    return wish | {
        "backbone": _placed(config.backbone),
        "weights": _placed(config.weights),
        "keras": str(models_folder()),
    }


def _by_onnx(
    config: FeaturesConfig, wish: Mapping[str, Any], origin: Origin, story: Story, images: int
) -> "Engine | None":
    """The engine of the network's ONNX file, written now where it is missing or changed.

    None where it cannot be written, and where there is so much to compute that TensorFlow, if faster, makes up for its start.
    """
    if kept.why_not(config):
        return None
    place = _place(wish)
    for write in (False, True):
        if write and kept.write(place, config, wish, story):
            return None
        note = _recall(wish)
        if note is None or "obstacle" in note.onnx:
            return None
        _refuse_another(origin, note.origin, place)
        if note.onnx and note.onnx["gain"] <= 0 and images * note.onnx["seconds"] > kept.ENOUGH:
            story.say(f"loading TensorFlow, which pays with {images:,} images")
            return None
        if note.onnx and (found := kept.open_kept(place, note.onnx)):
            return found
    return None


def _refuse_another(origin: Origin, found: Origin, place: Path) -> None:
    """Raise where the note was of another network than was built; the next command looks it up anew."""
    if found != origin:
        place.unlink(missing_ok=True)
        raise TlkitError(f"{origin.backbone} is no longer the same network.", "run the same command again.")


def build(config: FeaturesConfig, story: Story | None = None) -> Built:
    """Build the network that is asked for, with the current backend of Keras."""
    from tlkit.backbones.build import build_backbone

    backbone = build_backbone(
        config.backbone, weights=config.weights, image_size=config.image_size, seed=config.seed, story=story
    ).read_as(config.pool)
    tap = find_tap(backbone, config.layer, config.pool)
    size = backbone.image_size
    source = FeatureSource.of_backbone(backbone, InputContract(height=size[0], width=size[1], fit=config.fit), tap)
    origin = Origin(
        backbone=backbone.name,
        weights=backbone.weights,
        weights_sha256=backbone.weights_sha256,
        preprocess=backbone.preprocess,
        image_size=size,
        output=tap.name,
        shape=tuple(source.built.outputs[0].shape[1:]),
    )
    return Built(origin, source.asked(config))


def _build_here(config: FeaturesConfig, wish: Mapping[str, Any], story: Story, onnx: kept.About) -> Built:
    """Build the network in this process, and remember it with what is known of its ONNX file, so that later decisions agree."""
    from tlkit.backbones import runtime

    runtime.seed_everything(config.seed)
    built = build(config, story)
    remember(_place(wish), config, wish, built.origin, onnx)
    return built


def weights_here(config: FeaturesConfig) -> bool:
    """Whether the weights that are asked for are in files of this machine."""
    from tlkit.backbones.build import files_of

    side = 0 if is_path(config.backbone) else backbone_row(config.backbone).image_size
    return bool(files_of(config.backbone, config.weights, _pair(config.image_size or side)))


def remember(
    place: Path, config: FeaturesConfig, wish: Mapping[str, Any], origin: Origin, onnx: Mapping[str, Any]
) -> None:
    """Write the note of a network whose weights came from files, where the cache can be written."""
    from tlkit.backbones.build import files_of

    if files := files_of(config.backbone, config.weights, origin.image_size):
        hashes = {str(file.absolute()): known_sha256(file) for file in files}
        with contextlib.suppress(OSError):  # the cache is read-only or full; the next command looks it up anew
            write_checked_json(place, {"wish": wish, "files": hashes, "facts": asdict(origin), "onnx": dict(onnx)})


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _contract(origin: Origin, config: FeaturesConfig) -> InputContract:
    height, width = origin.image_size
    return InputContract(height=height, width=width, fit=config.fit)


def _placed(name: str) -> str:
    """The absolute path of a file or of a preset in a folder; any other name unchanged."""
    folder = Path(name.removeprefix(HUB)).expanduser()
    if name.startswith(HUB) and folder.is_dir():
        return f"{HUB}{folder.absolute()}"
    return str(Path(name).absolute()) if Path(name).is_file() else name


def _recall(wish: Mapping[str, Any]) -> Note | None:
    """The result of this request the last time; None where it is new, or code, versions or a weight file changed."""
    try:
        found = read_checked_json(_place(wish))
        if any(known_sha256(Path(file)) != sha256 for file, sha256 in found["files"].items()):
            return None
        facts = found["facts"] | {name: tuple(found["facts"][name]) for name in ("image_size", "shape")}
        return Note(Origin(**facts), found.get("onnx", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing or damaged: determined again
        return None


def _place(wish: Mapping[str, Any]) -> Path:
    code = {f"{file.parent.name}/{file.name}": known_sha256(file) for file in CODE}
    name = sha256_json({"wish": dict(wish), "code": code, "versions": versions()})
    return kept.networks_dir() / f"{name[:32]}.json"
