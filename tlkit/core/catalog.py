"""Every name a user may type, as rows. Adding a backbone or a head starts with a row here."""

from typing import NamedTuple

from tlkit.core.errors import unknown_name


class BackboneRow(NamedTuple):
    """One pretrained network.

    Args:
        name: what users type, lower case.
        attribute: the constructor in `keras.applications`, "" for tlkit's own.
        preprocess: `identity` (inside the network), `tf` (to -1..1), `torch` (ImageNet mean and
            deviation) or `caffe` (BGR minus the mean).
        image_size: native side in pixels.
        minimum: smallest side in pixels that the constructor takes without its top.
        channels: C of its grid.
        parameters: without the top, in millions.
        licence: of the pretrained weights.
    """

    name: str
    attribute: str
    preprocess: str
    image_size: int
    minimum: int
    channels: int
    parameters: float
    licence: str


BACKBONES: dict[str, BackboneRow] = {}  # filled below

HEADS = ("linear", "mlp", "conv", "attention", "transformer", "rnn", "lstm", "gru")
POOLINGS = ("avg", "max", "concat")
ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "elu", "selu", "silu", "leaky_relu", "linear")
LOSSES = ("crossentropy", "focal", "squared")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "lion")
STAGES = ("head", "top", "all")
FITS = ("squash", "crop", "pad")
ON_BAD = ("skip", "fail")
BATCHNORM = ("frozen", "train")
BALANCES = ("none", "weights")
AUGMENTATIONS = ("none", "light", "medium", "strong")
FEATURE_FORMATS = ("csv", "parquet", "npz")
FEATURE_POOLS = ("avg", "max", "none")
MADE_SAMPLES = ("digits", "shapes")  # written with no network
FETCHED_SAMPLES = (  # one recipe each in datasets/recipes
    "caltech101",
    "cats_and_dogs",
    "cats_vs_dogs",
    "flower_photos",
    "hymenoptera",
    "imagenette",
    "oxford_pets",
)


def backbone_row(name: str) -> BackboneRow:
    """The row of a backbone name, whatever its case and with or without variants (`mobilenetv2:alpha=0.35`).

    Raises:
        TlkitError: with the nearest name.
    """
    plain = name.partition(":")[0].lower()
    if plain not in BACKBONES:
        raise unknown_name(
            "a backbone", name, BACKBONES, "`tlkit backbones` lists all; a path to a .keras file also works."
        )
    return BACKBONES[plain]
