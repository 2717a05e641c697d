"""Tables of every name a user may type. Adding a backbone or a head starts with a row here."""

from typing import NamedTuple

from tlkit.base.errors import unknown_name


class BackboneRow(NamedTuple):
    """One pretrained network.

    Args:
        name: as typed, lower case.
        attribute: constructor in `keras.applications`, "" for tlkit's own.
        preprocess: `identity` (inside the network), `tf` (to -1..1), `torch` (ImageNet mean and
            deviation) or `caffe` (BGR minus the mean).
        image_size: native input side in pixels.
        minimum: smallest input side in pixels that the constructor accepts without its top.
        channels: C of its grid.
        parameters: parameters without the top, in millions.
        accuracy: top-1 accuracy of the whole network on ImageNet's validation images, in percent, from
            keras.io/api/applications (MobileNetV3: from its constructor's documentation); None if not published.
        licence: licence of the pretrained weights.
    """

    name: str
    attribute: str
    preprocess: str
    image_size: int
    minimum: int
    channels: int
    parameters: float
    accuracy: float | None
    licence: str


# name, constructor, preprocess, native and smallest side, channels, million parameters, ImageNet accuracy, licence of the weights
_ROWS = """
nano               -                  identity  112 32  512   1.2     -  Apache-2.0
convnexttiny       ConvNeXtTiny       identity  224 32  768  27.8  81.3  MIT
convnextsmall      ConvNeXtSmall      identity  224 32  768  49.5  82.3  MIT
convnextbase       ConvNeXtBase       identity  224 32 1024  87.6  85.3  MIT
convnextlarge      ConvNeXtLarge      identity  224 32 1536 196.2  86.3  MIT
convnextxlarge     ConvNeXtXLarge     identity  224 32 2048 348.1  86.7  MIT
densenet121        DenseNet121        torch     224 32 1024   7.0  75.0  BSD-3-Clause
densenet169        DenseNet169        torch     224 32 1664  12.6  76.2  BSD-3-Clause
densenet201        DenseNet201        torch     224 32 1920  18.3  77.3  BSD-3-Clause
efficientnetb0     EfficientNetB0     identity  224 32 1280   4.0  77.1  Apache-2.0
efficientnetb1     EfficientNetB1     identity  240 32 1280   6.6  79.1  Apache-2.0
efficientnetb2     EfficientNetB2     identity  260 32 1408   7.8  80.1  Apache-2.0
efficientnetb3     EfficientNetB3     identity  300 32 1536  10.8  81.6  Apache-2.0
efficientnetb4     EfficientNetB4     identity  380 32 1792  17.7  82.9  Apache-2.0
efficientnetb5     EfficientNetB5     identity  456 32 2048  28.5  83.6  Apache-2.0
efficientnetb6     EfficientNetB6     identity  528 32 2304  41.0  84.0  Apache-2.0
efficientnetb7     EfficientNetB7     identity  600 32 2560  64.1  84.3  Apache-2.0
efficientnetv2b0   EfficientNetV2B0   identity  224 32 1280   5.9  78.7  Apache-2.0
efficientnetv2b1   EfficientNetV2B1   identity  240 32 1280   6.9  79.8  Apache-2.0
efficientnetv2b2   EfficientNetV2B2   identity  260 32 1408   8.8  80.5  Apache-2.0
efficientnetv2b3   EfficientNetV2B3   identity  300 32 1536  12.9  82.0  Apache-2.0
efficientnetv2s    EfficientNetV2S    identity  384 32 1280  20.3  83.9  Apache-2.0
efficientnetv2m    EfficientNetV2M    identity  480 32 1280  53.2  85.3  Apache-2.0
efficientnetv2l    EfficientNetV2L    identity  480 32 1280 117.7  85.7  Apache-2.0
inceptionresnetv2  InceptionResNetV2  tf        299 75 1536  54.3  80.3  Apache-2.0
inceptionv3        InceptionV3        tf        299 75 2048  21.8  77.9  MIT
mobilenet          MobileNet          tf        224 32 1024   3.2  70.4  Apache-2.0
mobilenetv2        MobileNetV2        tf        224 32 1280   2.3  71.3  Apache-2.0
mobilenetv3large   MobileNetV3Large   identity  224 32  960   3.0  75.6  Apache-2.0
mobilenetv3small   MobileNetV3Small   identity  224 32  576   0.9  68.1  Apache-2.0
nasnetlarge        NASNetLarge        tf        331 32 4032  84.9  82.5  Apache-2.0
nasnetmobile       NASNetMobile       tf        224 32 1056   4.3  74.4  Apache-2.0
resnet50           ResNet50           caffe     224 32 2048  23.6  74.9  MIT
resnet101          ResNet101          caffe     224 32 2048  42.7  76.4  MIT
resnet152          ResNet152          caffe     224 32 2048  58.4  76.6  MIT
resnet50v2         ResNet50V2         tf        224 32 2048  23.6  76.0  Apache-2.0
resnet101v2        ResNet101V2        tf        224 32 2048  42.6  77.2  Apache-2.0
resnet152v2        ResNet152V2        tf        224 32 2048  58.3  78.0  Apache-2.0
vgg16              VGG16              caffe     224 32  512  14.7  71.3  CC-BY-4.0
vgg19              VGG19              caffe     224 32  512  20.0  71.3  CC-BY-4.0
xception           Xception           tf        299 71 2048  20.9  79.0  MIT
"""


def _read_row(line: str) -> BackboneRow:
    name, attribute, preprocess, *numbers, accuracy, licence = line.split()
    image_size, minimum, channels, parameters = numbers
    published = None if accuracy == "-" else float(accuracy)
    size = (int(image_size), int(minimum), int(channels), float(parameters))
    return BackboneRow(name, attribute.strip("-"), preprocess, *size, published, licence)


BACKBONES: dict[str, BackboneRow] = {row.name: row for row in map(_read_row, _ROWS.strip().splitlines())}


class Family(NamedTuple):
    """Networks from a source other than `keras.applications`, written `PREFIX:NAME`.

    Args:
        prefix: what stands before the colon.
        example: one of them, as typed.
        title: description in prose.
        module: module of `build(spec, image_size, *, random_weights, seed, story)`, which returns a flat functional
            model from `images` float32 (H, W, 3), 0..255, to a grid (h, w, C) and optionally a second output (C,) for
            the whole image. An optional `files(spec)` lists the files it reads, so that a network seen before is
            identified without being built.
    """

    prefix: str
    example: str
    title: str
    module: str


FAMILIES = {
    row.prefix: row for row in (Family("hub", "hub:resnet_18_imagenet", "a KerasHub preset", "tlkit.backbones.hub"),)
}
HUB = "hub:"  # prefix of KerasHub presets


def family_of(spec: str) -> Family | None:
    """The family of a name such as `hub:resnet_18_imagenet`; None for a catalogue name or a file."""
    prefix, colon, _ = spec.partition(":")
    return FAMILIES.get(prefix) if colon else None


class HeadRow(NamedTuple):
    """One kind of head.

    Args:
        name: what users type.
        reads: `pooled`, features (B, C), or `grid`, (B, h, w, C).
        module: module with a function of the same name, which adds the layers between its input and the logits.
        uses: options for the layers in between that apply to it.
    """

    name: str
    reads: str
    module: str
    uses: tuple[str, ...] = ("hidden", "activation")


_IN = "tlkit.classifier.heads"
HEADS = {
    row.name: row
    for row in (
        HeadRow("linear", "pooled", f"{_IN}.dense", uses=()),
        HeadRow("mlp", "pooled", f"{_IN}.dense"),
        HeadRow("conv", "grid", f"{_IN}.conv"),
        HeadRow("attention", "grid", f"{_IN}.attention", uses=("hidden",)),
        HeadRow("transformer", "grid", f"{_IN}.attention"),
        HeadRow("rnn", "grid", f"{_IN}.recurrent", uses=("hidden",)),
        HeadRow("lstm", "grid", f"{_IN}.recurrent", uses=("hidden",)),
        HeadRow("gru", "grid", f"{_IN}.recurrent", uses=("hidden",)),
    )
}


class TimeRow(NamedTuple):
    """One way to combine the frames of a clip.

    Args:
        name: what users type.
        function: function that adds layers between the frames and the logits, beside their mean; "" for the mean alone.
        updates: approximate number of training updates; measured in benchmarks/results/clips.md.
        module: module of that function.
        uses: options for the layers in between that apply to it.
    """

    name: str
    function: str = ""
    updates: int = 400
    module: str = f"{_IN}.time"
    uses: tuple[str, ...] = ("hidden", "activation")


TIMES = {
    row.name: row
    for row in (
        TimeRow("mean", uses=()),
        TimeRow("max", "largest", uses=()),
        TimeRow("rnn", "rnn", uses=("hidden",)),
        TimeRow("lstm", "lstm", uses=("hidden",)),
        TimeRow("gru", "gru", updates=200, uses=("hidden",)),
        TimeRow("transformer", "transformer"),
        TimeRow("conv1d", "conv1d"),
    )
}
TIME = "conv1d"  # the default; benchmarks/results/clips.md compares it with the others
FRAMES = 16  # per clip, by default


def head_reads(head: str, pooling: str) -> str:
    """What a head reads, `pooled` or `grid`; a head that flattens reads the grid."""
    return "grid" if pooling == "flatten" else HEADS[head].reads


class Format(NamedTuple):
    """One export format.

    Args:
        name: as typed; also the name of its folder.
        title: as written in prose.
        model: file or folder that a runtime opens.
        extra: the extra of tlkit that installs its packages, "" if tlkit already depends on them.
        writing: modules needed to write it.
        running: modules that can run it; the first one installed is used.
        package: what to install to run it without tlkit.
        module: module that writes and opens it (`write`, `open_model`) and has the lines of a stand-alone program
            (`IMPORTS`, `RUN`).
        batch: images per call; None for any number.
        encoded: whether it can have a second signature that takes the bytes of image files.
        exact: whether logits must match within the tolerance; a quantised format only keeps decisions.
    """

    name: str
    title: str
    model: str
    extra: str
    writing: tuple[str, ...]
    running: tuple[str, ...]
    package: str
    module: str
    batch: int | None = None
    encoded: bool = False
    exact: bool = True


_BY = "tlkit.exporting.in_"
_TF = ("tensorflow",)
_LITE = ("ai_edge_litert", "tensorflow")  # TensorFlow has its own interpreter
_LITERT = Format("litert", "LiteRT", "model.tflite", "litert", _TF, _LITE, "ai-edge-litert", f"{_BY}litert", batch=1)
_ONNX = ("tf2onnx", "onnx")

FORMATS = {
    row.name: row
    for row in (
        Format("keras", "Keras", "model.keras", "", (), ("keras",), "keras tensorflow", f"{_BY}keras"),
        Format("savedmodel", "SavedModel", "model", "", _TF, _TF, "tensorflow", f"{_BY}savedmodel", encoded=True),
        Format("onnx", "ONNX", "model.onnx", "", _ONNX, ("onnxruntime",), "onnxruntime", f"{_BY}onnx"),
        _LITERT,
        _LITERT._replace(name="litert-int8", title="LiteRT, 8-bit", exact=False),
        Format(
            "openvino", "OpenVINO", "model.xml", "openvino", ("openvino",), ("openvino",), "openvino", f"{_BY}openvino"
        ),
    )
}

CLASS_POOLINGS = ("cls", "cls+avg")  # for networks with a class token
POOLINGS = ("avg", "max", "concat", "flatten", *CLASS_POOLINGS)
ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "elu", "selu", "silu", "leaky_relu", "linear")
TASKS = ("auto", "single", "multi", "ordinal", "number")
LOSSES = ("crossentropy", "focal", "squared", "mse", "huber")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "lion")
SPLITS = ("train", "val", "test")
STAGES = ("head", "top", "all")
FITS = ("squash", "crop", "pad")
ON_BAD = ("skip", "fail")
UNFREEZE = ("last", "middle", "first", "all")
CENTRALIZE = ("auto", "on", "off")
BATCHNORM = ("frozen", "train")
SYNTHESIZERS = {  # ways to synthesise features of rare classes, and the module of `draw_NAME`
    "smote": "tlkit.training.synthesis.draw",
    "gaussian": "tlkit.training.synthesis.draw",
    "gan": "tlkit.training.synthesis.gan",
}
BALANCES = ("none", "weights", "sample", "logit-adjust", "post-hoc", *SYNTHESIZERS, "auto")
VALIDATIONS = ("auto", "split", "folds")
AUGMENTATIONS = ("auto", "none", "light", "medium", "strong")
MIXES = ("auto", "none", "mixup", "cutmix")
TRACKERS = ("mlflow", "wandb")
FEATURE_FORMATS = ("csv", "parquet", "npz")
ENGINES = ("auto", "tensorflow-frozen", "keras")
EXECUTORS = ("here", "ray")  # where features are computed
ANSWERING = (*ENGINES, "onnx")  # a finished classifier may come with an ONNX file
PRECISIONS = ("float32", "bfloat16", "auto")
STORED_AS = ("float32", "float16")
FEATURE_POOLS = ("avg", "max", "none", *CLASS_POOLINGS)
MADE_SAMPLES = ("digits", "motion", "shapes", "sheets")  # written without network access
FETCHED_SAMPLES = (  # each has a recipe in datasets/recipes
    "caltech101",
    "cats_and_dogs",
    "cats_vs_dogs",
    "flower_photos",
    "hymenoptera",
    "imagenette",
    "oxford_pets",
)


class Preset(NamedTuple):
    """Several options under one name; options given explicitly take precedence.

    Args:
        name: as typed.
        words: what it is for.
        stages: value of `--stages`; None for the default.
        views: stored views per training image; None for the planned number.
        longer: factor on the planned epochs.
        every_from: number of training images from which every block learns in the top stage; None for the planned
            blocks.
        measured: its gain and cost relative to the default, measured by benchmarks/presets.py or the nearest program;
            "" for none.
    """

    name: str
    words: str
    stages: tuple[str, ...] | None = None
    views: int | None = None
    longer: int = 1
    every_from: int | None = None
    measured: str = ""

    @property
    def told(self) -> str:
        """The text for the help: what it is for, its measured gain and cost."""
        return f"{self.name} ({self.words}{'; ' * bool(self.measured)}{self.measured})"


PRESETS = {
    row.name: row
    for row in (
        Preset(
            name="fast",
            words="the head alone, fitted on the images without augmented views",
            stages=("head",),
            views=1,
            measured="0.3 to 12 points lower accuracy in a quarter to two fifths of the time",
        ),
        Preset(name="default", words="the plan without a preset"),
        Preset(
            name="best",
            words="as many blocks, views and epochs as --minutes plans when there is ample time",
            longer=2,
            every_from=2000,
            measured="no gain on two small sets in twice the time, 1 point on one of thousands in four times the time",
        ),
    )
}


def backbone_row(name: str) -> BackboneRow:
    """The row of a backbone name, in any case, with or without variants (`mobilenetv2:alpha=0.35`).

    Raises:
        TlkitError: for an unknown name; suggests the nearest.
    """
    plain = name.partition(":")[0].lower()
    if plain not in BACKBONES:
        raise unknown_name(
            "a backbone", name, BACKBONES, "`tlkit backbones` lists all; a path to a .keras file also works."
        )
    return BACKBONES[plain]
