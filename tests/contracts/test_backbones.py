"""Every row of the catalogue keeps the same promises, whoever wrote its network."""

import functools
import importlib
import inspect
import os
import warnings

import keras
import numpy as np
import pytest

from tests import processes
from tests.contracts.lively import CLOSE, FAMILIES, classifier_of, furthest, in_format, quickly_drawn
from tlkit.backbones import applications
from tlkit.backbones import weights as pretrained
from tlkit.backbones.applications import preprocess
from tlkit.backbones.build import build_backbone
from tlkit.backbones.weight_files import weight_file
from tlkit.options.catalog import BACKBONES, backbone_row

# One of each kind of graph: made-up names, nested models, bare operations, each preprocessing. The rest is slow.
QUICK = {
    *("nano", "convnexttiny", "densenet121", "efficientnetb0", "inceptionv3"),
    *("mobilenetv2", "mobilenetv3small", "resnet50", "vgg16"),
}
WITHOUT_TLKIT = {"resnet50", "convnexttiny"}

# How constructors repeat themselves: what they call, and how often it shall at least. The first of each family is saved as
# it is; its other members repeat the same layers, up to a hundred times over, and are saved with each of them once or twice.
FEWER = {
    "convnext": ("convnext", "ConvNeXt", {"depths": [1, 1, 1, 1]}),
    "densenet": ("densenet", "DenseNet", {"blocks": [1, 1, 1, 1]}),
    "efficientnet": ("efficientnet", "EfficientNet", {"depth_coefficient": 0.1}),
    "efficientnet_v2": ("efficientnet_v2", "EfficientNetV2", {"depth_coefficient": 0.1}),
    "nasnet": ("nasnet", "NASNet", {"num_blocks": 1}),
    "resnet": ("resnet", "stack_residual_blocks_v1", {"blocks": 2}),
    "resnet_v2": ("resnet", "stack_residual_blocks_v2", {"blocks": 2}),
}

ROWS = [pytest.param(row, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, row in BACKBONES.items()]


class AsForImageNet:
    """Inside, Keras builds networks as for ImageNet weights: which file it looks for is noted, none is loaded.

    Of the first EfficientNets, whose graph would be another with weights, a shallow one is built beside.
    """

    def __enter__(self):
        self.looked_for, self.patch, constructor = [], pytest.MonkeyPatch(), applications.constructor
        efficientnet = importlib.import_module("keras.src.applications.efficientnet")

        def get_file(fname, origin, *, file_hash=None, **options):
            self.looked_for.append((fname, origin, file_hash))

        def built(row):
            whole = constructor(row)

            @functools.wraps(whole)
            def build(**given):
                if not row.attribute.startswith("EfficientNetB"):
                    return whole(**given | {"weights": "imagenet"})
                network, any_size = whole(**given), efficientnet.EfficientNet
                shallow = lambda wide, deep, *rest, **more: any_size(0.1, 0.1, *rest, **more)  # noqa: E731
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(efficientnet, "EfficientNet", shallow)
                    whole(**given | {"weights": "imagenet", "input_tensor": None})
                return network

            return build

        self.patch.setattr(importlib.import_module("keras.src.utils.file_utils"), "get_file", get_file)
        self.patch.setattr(keras.Model, "load_weights", lambda *given, **options: None)
        self.patch.setattr(applications, "constructor", built)
        self.patch.setattr(pretrained, "weights_sha256", lambda model: "")  # for which no test here asks
        return self.looked_for

    def __exit__(self, *error):
        self.patch.undo()


@pytest.fixture(scope="module", params=ROWS)
def built(request):
    """(row, backbone with random weights at the smallest size, files of weights that Keras looked for), one at a time."""
    row = request.param
    with AsForImageNet() as looked_for, quickly_drawn(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`input_shape` is undefined")
        backbone = build_backbone(row.name, weights="none", image_size=row.minimum, seed=3)
    yield row, backbone, looked_for
    keras.utils.clear_session()  # and collects garbage


@pytest.fixture(scope="module")
def case(built):
    """(row, backbone)."""
    return built[:2]


@pytest.fixture(scope="module")
def forward(case):
    """Two images float32 (2, side, side, 3), and the grid of each as the backbone gives it."""
    row, backbone = case
    images = np.random.default_rng(0).integers(0, 256, (2, row.minimum, row.minimum, 3)).astype("float32")
    return images, keras.ops.convert_to_numpy(backbone.model(images))


def test_the_grid_and_the_size_are_as_declared(case, forward):
    row, backbone = case
    grid = forward[1]
    assert grid.shape == (2, *backbone.grid_shape)
    assert backbone.grid_shape[2] == row.channels
    assert backbone.image_size == (row.minimum, row.minimum)
    assert backbone.model.count_params() / 1e6 == pytest.approx(row.parameters, abs=0.051)
    assert np.isfinite(grid).all()


def test_the_graph_is_flat_and_its_names_are_those_of_a_fresh_process(case):
    _, backbone = case
    names = [layer.name for layer in backbone.model.layers]
    assert names[0] == "images"
    assert backbone.model.inputs[0].dtype == "float32"
    assert len(set(names)) == len(names) == len(backbone.model.operations)
    assert not any(isinstance(layer, keras.Model) for layer in backbone.model.layers)
    assert not any(name.startswith("head_") or name == "logits" for name in names)
    assert backbone.model.layers[-1].output is backbone.model.outputs[0]
    first_of_each = {"conv2d_1": "conv2d", "batch_normalization_1": "batch_normalization", "add_1": "add"}
    assert all(first in names for second, first in first_of_each.items() if second in names)
    assert all(len(layer._inbound_nodes) == 1 for layer in backbone.model.layers)


def test_blocks_cover_every_layer_once_and_in_order(case):
    _, backbone = case
    names = [layer.name for layer in backbone.model.layers]
    in_blocks = [name for block in backbone.blocks for name in block.layers]
    assert sorted(in_blocks) == sorted(names)
    assert len({block.name for block in backbone.blocks}) == len(backbone.blocks) >= 2
    assert backbone.blocks[-1].output == names[-1]
    assert all(block.output == block.layers[-1] for block in backbone.blocks)


def test_each_cut_carries_all_that_later_layers_need(case):
    _, backbone = case
    owner = {name: number for number, block in enumerate(backbone.blocks) for name in block.layers}
    outputs = {block.output for block in backbone.blocks}
    for layer in backbone.model.layers:
        for node in layer._inbound_nodes:
            for parent in node.parent_nodes:
                before, after = owner[parent.operation.name], owner[layer.name]
                assert after - before in (0, 1)
                assert before == after or parent.operation.name in outputs


def to_be_saved(row, backbone, patch):
    """The network of a row, or where it only repeats what a smaller one of its family has, itself with fewer repeats."""
    if row.name in FAMILIES.values() or (kind := applications.constructor(row).__module__.split(".")[-1]) not in FEWER:
        return backbone.model
    module, function, changed = FEWER[kind]
    whole = getattr(importlib.import_module(f"keras.src.applications.{module}"), function)

    def shallow(*given, **named):
        bound = inspect.signature(whole).bind(*given, **named)
        bound.arguments |= changed
        return whole(*bound.args, **bound.kwargs)

    patch.setattr(f"keras.src.applications.{module}.{function}", shallow)
    model = build_backbone(row.name, weights="none", image_size=row.minimum, seed=3).model
    assert model.name == backbone.model.name and len(model.layers) < len(backbone.model.layers)
    return model


def test_a_saved_backbone_loads_in_plain_keras_with_difference_zero(case, forward, tmp_path, monkeypatch):
    row, backbone = case
    path, (batch, expected) = tmp_path / "backbone.keras", forward
    with quickly_drawn():
        model = to_be_saved(row, backbone, monkeypatch)
    if model is not backbone.model:
        expected = keras.ops.convert_to_numpy(model(batch))
    model.save(path)
    with quickly_drawn():
        again = keras.models.load_model(path, compile=False)
    assert np.array_equal(keras.ops.convert_to_numpy(again(batch)), expected)
    if row.name in WITHOUT_TLKIT:
        np.save(tmp_path / "images.npy", batch)
        program = (
            "import sys; sys.modules['tlkit'] = None\n"
            "import keras, numpy\n"
            "model = keras.models.load_model('backbone.keras')\n"
            "numpy.save('grid.npy', keras.ops.convert_to_numpy(model(numpy.load('images.npy'))))\n"
        )
        done = processes.run(["-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""})
        assert done.returncode == 0, done.stderr[-2000:]
        assert np.array_equal(np.load(tmp_path / "grid.npy"), expected)


def test_the_weight_file_is_the_one_keras_looks_for(built):
    row, _, looked_for = built
    assert looked_for == ([stated(weight_file(row, {}, (row.minimum, row.minimum)))] if row.attribute else [])


def test_one_of_each_family_can_be_written_as_onnx(case, tmp_path):
    """The last test of a backbone: its statistics and scales are others afterwards."""
    pytest.importorskip("tensorflow", reason="ONNX files are made by TensorFlow")
    row, backbone = case
    if row.name in FAMILIES.values():
        assert furthest(*in_format("onnx", classifier_of(backbone), tmp_path / "onnx")) < CLOSE


@pytest.mark.parametrize("row", [row for row in BACKBONES.values() if row.attribute], ids=lambda row: row.name)
def test_preprocessing_is_the_family_s_own(row):
    module = importlib.import_module(applications.constructor(row).__module__)
    inputs = keras.Input((5, 7, 3), dtype="float32")
    ours = keras.Model(inputs, preprocess(inputs, row.preprocess))
    pixels = np.random.default_rng(1).uniform(0, 255, (3, 5, 7, 3)).astype("float32")
    pixels[0] = np.arange(105).reshape(5, 7, 3) * 255 / 104
    expected = module.preprocess_input(pixels.copy())
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours(pixels)), expected, rtol=0, atol=2e-5)


def test_every_constructor_of_keras_has_a_row():
    constructors = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {row.attribute for row in BACKBONES.values()} == constructors | {""}
    assert all(row.attribute.lower() == name for name, row in BACKBONES.items() if row.attribute)


def stated(file):
    """What Keras gives to its download."""
    return file.name, file.url, next(iter(file.sums.values()), None)


FILES = [
    ("mobilenet", 224, {}),
    ("mobilenetv2", 224, {}),
    ("mobilenet", 128, {"alpha": 0.25}),
    ("mobilenet", 150, {"alpha": 0.75}),
    ("mobilenetv2", 96, {"alpha": 0.35}),
    ("mobilenetv2", 224, {"alpha": 1.4}),
    ("mobilenetv3small", 224, {"alpha": 0.75}),
    ("mobilenetv3small", 64, {"minimalistic": True}),
    ("mobilenetv3large", 224, {"alpha": 0.75}),
]


@pytest.mark.parametrize(("name", "side", "variants"), FILES)
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
def test_the_weight_file_of_a_variant_is_the_one_keras_looks_for(name, side, variants):
    row = backbone_row(name)
    with AsForImageNet() as looked_for, keras.StatelessScope(initialize_variables=False):  # weights need no values
        applications.constructor(row)(include_top=False, input_shape=(side, side, 3), **variants)
    keras.utils.clear_session()  # forgets what waits for them
    assert looked_for == [stated(weight_file(row, variants, (side, side)))]
