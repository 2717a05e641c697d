"""Vision transformers of Keras's own layers, with random weights; their equality with KerasHub's is in test_hub.py."""

import os
import sys
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tests import processes
from tlkit.backbones.arithmetic import operations, quicker
from tlkit.backbones.blocks import set_trainable
from tlkit.backbones.build import build_backbone
from tlkit.backbones.transformers.network import Architecture, build
from tlkit.backbones.transformers.positions import interpolated, rotations
from tlkit.base.errors import TlkitError
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose
from tlkit.data.dataset import InputContract
from tlkit.explanation.heat_maps import Witness, last_tokens
from tlkit.exporting.formats import installed
from tlkit.exporting.golden import Inputs
from tlkit.exporting.in_litert import finds_ranges
from tlkit.exporting.runtimes import Runtime
from tlkit.exporting.writers import in_keras, write
from tlkit.extraction.engine import build_engine
from tlkit.extraction.onnx_engine import open_parts
from tlkit.extraction.onnx_graph import to_onnx
from tlkit.options import catalog
from tlkit.options.catalog import FORMATS
from tlkit.options.commands import EvaluateConfig, FeaturesConfig, FinetuneConfig
from tlkit.options.groups import HeadOptions
from tlkit.pipelines import evaluate, finetune

SIZE = (32, 48)
SMALL = {"patch": 8, "width": 24, "blocks": 3, "heads": 2, "hidden": 40}
KINDS = {
    "vit": Architecture(**SMALL),
    "registers, gated": Architecture(**SMALL, prefix=4, gated=True, activation="silu"),
    "rotary": Architecture(**SMALL | {"width": 32}, prefix=5, rotary=100.0, epsilon=1e-5),
    "pooled by attention": Architecture(**SMALL, prefix=0, activation="gelu_tanh", pools="attention"),
    "without a summary": Architecture(**SMALL, prefix=0, pools=None),
}


def lively(model, seed=0):
    """Random weights as training leaves them, nothing zero or one."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(np.asarray(weight) + random.normal(0, 0.1, weight.shape).astype("float32"))
    return model


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request):
    keras.utils.set_random_seed(1)
    return request.param


@pytest.fixture
def family(monkeypatch):
    """`tiny:KIND` as a backbone."""

    def made(spec, image_size, *, random_weights, seed, story):
        keras.utils.set_random_seed(seed)
        return lively(build(KINDS[spec.removeprefix("tiny:")], image_size or SIZE))

    monkeypatch.setitem(sys.modules, "tiny_transformers", SimpleNamespace(build=made))
    monkeypatch.setitem(
        catalog.FAMILIES, "tiny", catalog.Family("tiny", "tiny:vit", "a small one", "tiny_transformers")
    )


def pixels(count=3, size=SIZE):
    return np.random.default_rng(2).integers(0, 256, (count, *size, 3)).astype("float32")


def outputs(model, images):
    return [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(model(images))]


def test_patch_tokens_are_the_grid_and_a_second_output_tells_of_the_image(kind):
    model = lively(build(kind, SIZE))
    grid, *summary = outputs(model, pixels())
    assert grid.shape == (3, 4, 6, kind.width) and np.isfinite(grid).all()
    assert [each.shape for each in summary] == [(3, kind.width)] * (kind.pools is not None)
    assert model.layers[0].name == "images" and len({layer.name for layer in model.layers}) == len(model.layers)


def test_another_patch_changes_every_token_and_without_positions_order_does_not_matter():
    """Attention sees all patches; only positions show their order."""
    model = lively(build(KINDS["without a summary"], SIZE))
    kernel, bias = model.get_layer("tokens").get_weights()
    images = pixels(1)
    swapped = images.copy()
    swapped[0, :8, :8], swapped[0, 8:16, 8:16] = images[0, 8:16, 8:16], images[0, :8, :8]
    placed = outputs(model, images)[0], outputs(model, swapped)[0]
    assert np.abs(placed[0][0, 3, 5] - placed[1][0, 3, 5]).max() > 1e-4
    model.get_layer("tokens").set_weights([kernel, np.tile(bias[:1], (len(bias), 1))])
    one, two = outputs(model, images)[0], outputs(model, swapped)[0]
    np.testing.assert_allclose(one[0, 0, 0], two[0, 1, 1], atol=1e-5)
    np.testing.assert_allclose(one[0, 3, 5], two[0, 3, 5], atol=1e-5)


def test_a_turned_product_depends_on_how_far_apart_patches_are():
    """The property of rotary positions: <R(a) q, R(b) k> is a function of a - b."""
    cosine, sine = (array.astype(np.float64) for array in rotations((5, 7), 2, 16, 100.0))
    assert cosine.shape == sine.shape == (2 + 35, 8)
    assert (cosine[:2] == 1).all() and (sine[:2] == 0).all()
    query, key = np.random.default_rng(0).normal(size=(2, 2, 8))

    def turned(halves, row, column):
        place = 2 + row * 7 + column
        first, second = halves
        return np.concatenate(
            [first * cosine[place] - second * sine[place], second * cosine[place] + first * sine[place]]
        )

    products = [turned(query, r, c) @ turned(key, r + 1, c + 2) for r, c in ((0, 0), (3, 4), (1, 3))]
    np.testing.assert_allclose(products, products[0], rtol=1e-4)
    assert abs(turned(query, 0, 0) @ turned(key, 2, 2) - products[0]) > 1e-3


def test_positions_for_another_grid_keep_their_own_and_follow_a_plane():
    rows, columns = np.mgrid[0:8, 0:8]
    table = np.stack([rows.ravel(), columns.ravel()], axis=1).astype("float32")
    assert interpolated(table, (8, 8), (8, 8)) is table
    made = interpolated(table, (8, 8), (16, 12)).reshape(16, 12, 2)
    inside = made[4:-4, 3:-3]
    np.testing.assert_allclose(
        inside[..., 0], np.tile(((np.arange(4, 12) + 0.5) / 2 - 0.5)[:, None], (1, 6)), atol=1e-3
    )
    np.testing.assert_allclose(inside[..., 1], np.tile((np.arange(3, 9) + 0.5) * 8 / 12 - 0.5, (8, 1)), atol=1e-3)


def test_images_that_patches_do_not_divide_are_refused_with_the_nearest_size():
    with pytest.raises(TlkitError, match="patches of 8 by 8 pixels do not divide images of 30 by 48") as refused:
        build(KINDS["vit"], (30, 48))
    assert "32 by 48" in refused.value.hint


def test_a_block_is_attention_and_dense_layers_and_every_cut_carries_all(family):
    for name in KINDS:
        backbone = build_backbone(f"tiny:{name}")
        assert [block.name for block in backbone.blocks][1:] == ["block1", "block2", "block3"], name
        assert sorted(n for block in backbone.blocks for n in block.layers) == sorted(
            layer.name for layer in backbone.model.layers
        )
        shape = backbone.model.get_layer(backbone.blocks[1].output).output.shape
        assert shape == (None, KINDS[name].prefix + 24, KINDS[name].width)
        assert backbone.blocks[-1].output == "grid" and backbone.foreign == ()


def test_layer_normalisation_learns_in_blocks_that_learn(family):
    backbone = build_backbone("tiny:rotary")
    set_trainable(backbone.model, 1)
    learning = {weight.path for weight in backbone.model.trainable_weights}
    assert {"block3_norm1/gamma", "block3_norm2/beta", "block3_first/kernel", "norm/gamma"} <= learning
    assert not any(path.startswith(("tokens", "block1", "block2")) for path in learning)


def test_the_cost_of_attention_counts(family):
    whole = operations(build_backbone("tiny:vit").model.layers)
    block = 25 * (4 * 24 * 24 + 2 * 25 * 24 + 2 * 24 * 40)
    assert whole == 25 * 8 * 8 * 3 * 24 + 3 * block


def test_a_saved_one_loads_in_plain_keras_with_difference_zero(kind, tmp_path):
    model = lively(build(kind, SIZE))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", pixels())
    program = (
        "import sys; sys.modules['tlkit'] = sys.modules['keras_hub'] = None\n"
        "import keras, numpy\n"
        "model = keras.models.load_model('model.keras')\n"
        "made = keras.tree.flatten(model(numpy.load('pixels.npy')))\n"
        "numpy.savez('made.npz', *map(keras.ops.convert_to_numpy, made))\n"
    )
    done = processes.run(["-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "made.npz") as made:
        for name, expected in zip(made.files, outputs(model, pixels()), strict=True):
            assert np.array_equal(made[name], expected)


def test_the_engine_gives_what_keras_gives(kind):
    model = lively(build(kind, SIZE))
    for found, expected in zip(build_engine(model).run(pixels()), outputs(model, pixels()), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_it_is_written_as_onnx_layer_by_layer(kind, tmp_path):
    pytest.importorskip("onnxruntime", reason="comes with tlkit")
    model = lively(build(kind, SIZE))
    (tmp_path / "network.onnx").write_bytes(to_onnx(model).SerializeToString())
    found = open_parts(tmp_path / "network.onnx")(pixels())().values()
    for one, expected in zip(found, outputs(model, pixels()), strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-4 * np.abs(expected).max())


def test_a_file_of_one_is_a_backbone(kind, tmp_path):
    whole = lively(build(kind, SIZE))
    model = keras.Model(whole.input, whole.outputs[0])
    model.save(tmp_path / "model.keras")
    backbone = build_backbone(str(tmp_path / "model.keras"))
    assert backbone.grid_shape == (4, 6, kind.width)
    assert [block.name for block in backbone.blocks][1:] == ["block1", "block2", "block3"]
    np.testing.assert_array_equal(outputs(backbone.model, pixels())[0], outputs(model, pixels())[0])


LAYERS = {
    "attention": lambda: keras.layers.MultiHeadAttention(3, 4),
    "attention without biases": lambda: keras.layers.MultiHeadAttention(2, 5, use_bias=False),
    "dense": lambda: keras.layers.Dense(7, activation="gelu"),
    "dense without bias": lambda: keras.layers.Dense(7, activation="relu", use_bias=False),
}


def drawn(made, spread):
    """TensorFlow, a layer with weights drawn with this spread, and its arguments."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("other backends compile the layers as they are")
    layer, random = made(), np.random.default_rng(0)
    tensor = tf.constant(random.normal(size=(2, 6, 8)).astype("float32"))
    inputs = (tensor, tensor) if "attention" in layer.name else (tensor,)
    layer(*inputs)
    for weight in layer.weights:
        weight.assign(random.normal(0, spread, size=weight.shape))
    return tf, layer, inputs


@pytest.mark.parametrize("made", LAYERS.values(), ids=LAYERS)
def test_products_of_matrices_have_the_layer_s_numbers_and_gradients(made):
    tf, layer, inputs = drawn(made, 1.0)
    tensor = inputs[0]
    found = []
    for function in (layer, quicker(layer), partial(quicker(layer), training=True)):
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            total = tf.reduce_sum(tf.sin(made_of := function(*inputs)))
        sources = [tensor, *(weight.value for weight in layer.trainable_weights)]
        found.append([made_of, *tape.gradient(total, sources)])
    for own, *others in zip(*found, strict=True):
        np.testing.assert_allclose(others, [own] * 2, atol=2e-4)


@pytest.mark.parametrize("made", LAYERS.values(), ids=LAYERS)
def test_products_in_bfloat16_are_near_those_of_float32_and_their_gradients_are_float32(made):
    tf, layer, inputs = drawn(made, 0.3)
    found = []
    for policy in ("float32", "mixed_bfloat16"):
        layer.dtype_policy = policy
        with tf.GradientTape() as tape:
            made_of = quicker(layer)(*inputs, training=True)
            total = tf.reduce_sum(tf.sin(tf.cast(made_of, "float32")))
        assert made_of.dtype == layer.compute_dtype
        found.append([made_of, *tape.gradient(total, [weight.value for weight in layer.trainable_weights])])
    for exact, half in zip(*found, strict=True):
        assert half is found[1][0] or half.dtype == "float32"
        difference = np.linalg.norm(np.asarray(tf.cast(half, "float32")) - exact)
        assert difference < 0.03 * np.linalg.norm(exact) + 0.01  # that of the keys' bias is zero
    assert not np.array_equal(tf.cast(found[1][0], "float32"), found[0][0])


def test_layers_of_another_kind_compute_themselves():
    tensor = keras.Input((6, 8))
    across = keras.layers.MultiHeadAttention(2, 4)
    across(tensor, keras.layers.Dense(8)(tensor))
    one, two = np.random.default_rng(0).normal(size=(2, 3, 6, 8)).astype("float32")
    if function := quicker(across):
        np.testing.assert_allclose(function(one, two), across(one, two), atol=1e-5)
    for layer in (
        keras.layers.LayerNormalization(),
        keras.layers.MultiHeadAttention(2, 4, dropout=0.1),
        keras.layers.MultiHeadAttention(2, 4, value_dim=3),
        keras.layers.Dense(3, dtype="mixed_float16"),
        keras.layers.Dense(3, dtype="bfloat16"),
    ):
        assert quicker(layer) is None


# -- The class token ---


def classifier_of(spec, pooling):
    backbone = build_backbone(spec).read_as(pooling)
    head = build_head(HeadOptions(pooling=pooling), backbone.grid_shape, 3)
    contract = InputContract(height=SIZE[0], width=SIZE[1], fit="squash")
    return compose(backbone, head, ("a", "b", "c"), contract)


def test_poolings_of_a_class_token(family):
    for name in ("vit", "rotary", "pooled by attention"):
        whole = build_backbone(f"tiny:{name}")
        width = KINDS[name].width
        model = keras.Model(whole.model.input, [whole.model.output, whole.summary])
        grid, summary = outputs(model, pixels())
        token, both = whole.read_as("cls"), whole.read_as("cls+avg")
        assert token.grid_shape == (1, 1, width) and both.grid_shape == (1, 1, 2 * width)
        np.testing.assert_allclose(outputs(token.model, pixels())[0][:, 0, 0], summary, atol=1e-6)
        joined = np.concatenate([summary, grid.mean(axis=(1, 2))], axis=1)
        np.testing.assert_allclose(outputs(both.model, pixels())[0][:, 0, 0], joined, atol=1e-5)
        assert whole.read_as("avg") is whole
        more = ["pool1"] if KINDS[name].pools == "attention" else []
        assert [block.name for block in token.blocks][1:] == ["block1", "block2", "block3", *more]


def test_a_network_without_a_class_token_says_so(family):
    for spec in ("tiny:without a summary", "nano"):
        with pytest.raises(TlkitError, match="has no class token that the pooling 'cls' could read"):
            build_backbone(spec).read_as("cls")
    with pytest.raises(TlkitError, match="--head gru reads the grid"):
        FinetuneConfig(images=".", head="gru", pooling="cls")
    with pytest.raises(TlkitError, match="--pool cls reads the class token, and --layer block1 asks for another"):
        FeaturesConfig(images=".", pool="cls", layer="block1")


@pytest.mark.parametrize("pooling", ["avg", "cls", "cls+avg"])
def test_evidence_lies_on_patches(family, pooling):
    """Integrated gradients: on the positions of the patches, summing to nearly the change of the score along the path."""
    for name in ("vit", "rotary", "pooled by attention"):
        classifier = classifier_of(f"tiny:{name}", pooling)
        witness = Witness(classifier)
        images = pixels().astype("uint8")
        grids = witness.grids(images)
        for method in ("integrated", "gradcam"):
            found = witness.evidence(method, images, grids, np.array([0, 1, 2]))
            assert found.values.shape == (3, 4, 6) and found.values.std() > 0
        np.testing.assert_allclose(witness.logits(grids), outputs(classifier.model, images)[0], atol=1e-4)
        seam = classifier.model.get_layer(classifier.facts.grid_layer).output
        features = outputs(keras.Model(classifier.model.input, seam), images)[0].mean(axis=(1, 2))
        np.testing.assert_allclose(witness.features(grids), features, atol=1e-4)


@pytest.mark.parametrize("pooling", ["avg", "cls"])
def test_rollout_is_the_product_of_what_blocks_mix(family, pooling):
    classifier = classifier_of("tiny:vit", pooling)
    model, images, total = classifier.model, pixels(), np.eye(25)
    for number in (1, 2, 3):
        tokens = keras.Model(model.input, model.get_layer(f"block{number}_norm1").output)(images)
        attention = model.get_layer(f"block{number}_attention")
        _, shares = attention(tokens, tokens, return_attention_scores=True)
        total = (keras.ops.convert_to_numpy(shares)[0].mean(axis=0) + np.eye(25)) / 2 @ total
    expected = (total[0] if pooling == "cls" else total[1:].mean(axis=0))[1:]
    found = Witness(classifier).evidence("rollout", images.astype("uint8"), None, np.zeros(3, int))
    np.testing.assert_allclose(found.values[0].ravel(), expected, atol=1e-5)


def test_rollout_of_every_kind_shares_out_one_and_other_networks_refuse(family):
    images = pixels().astype("uint8")
    for name, pooling in (("rotary", "cls"), ("pooled by attention", "cls"), ("without a summary", "avg")):
        values = Witness(classifier_of(f"tiny:{name}", pooling)).rollout(images).values
        assert values.shape == (3, 4, 6) and (values > 0).all() and (values.sum(axis=(1, 2)) <= 1 + 1e-5).all(), name
        assert np.abs(values[0] - values[1]).max() > 0
    with pytest.raises(TlkitError, match="attention rollout needs attention between all patches"):
        Witness(classifier_of("nano", "avg")).rollout(images)


def test_evidence_of_a_class_token_is_taken_before_its_last_attention(family):
    assert last_tokens(classifier_of("tiny:vit", "cls").model) == ("block2_output", 1, (4, 6))
    assert last_tokens(classifier_of("tiny:pooled by attention", "cls").model) == ("norm", 0, (4, 6))
    assert last_tokens(build_backbone("nano").model) is None


@cache
def in_two_blocks(name):
    """A classifier of a kind, and its outputs in Keras, for every format; a third block would add nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, name, replace(KINDS[name], blocks=2))
        classifier = classifier_of(f"tiny:{name}", "cls+avg")
    return classifier, in_keras(classifier, Inputs(pixels().astype("uint8")))["logits"]


@pytest.mark.parametrize("format_name", ["savedmodel", "onnx", "litert", "openvino"])
@pytest.mark.parametrize("name", ["vit", "registers, gated", "rotary", "pooled by attention"])
def test_other_runtimes_give_the_same(family, name, format_name, tmp_path):
    if not all(map(installed, FORMATS[format_name].writing)):
        pytest.skip(f"{format_name} cannot be written here")
    classifier, expected = in_two_blocks(name)
    write(FORMATS[format_name], classifier, tmp_path / FORMATS[format_name].model, None)
    found = Runtime(FORMATS[format_name], tmp_path)(Inputs(pixels().astype("uint8")))["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_in_8_bits_the_dense_layers_are_a_quarter_of_the_file_and_near_float32(family, tmp_path, monkeypatch):
    if not all(map(installed, FORMATS["litert-int8"].writing)):
        pytest.skip("LiteRT's files cannot be written here")
    monkeypatch.setitem(KINDS, "vit", Architecture(patch=8, width=96, blocks=1, heads=2, hidden=384))
    classifier, images, row = (
        classifier_of("tiny:vit", "avg"),
        Inputs(pixels(8).astype("uint8")),
        FORMATS["litert-int8"],
    )
    assert not finds_ranges(classifier)
    write(row, classifier, tmp_path / row.model, None)
    assert (tmp_path / row.model).stat().st_size < 0.4 * 4 * classifier.model.count_params()
    rounded, exact = Runtime(row, tmp_path)(images)["logits"], in_keras(classifier, images)["logits"]
    assert 0 < np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()


def test_a_run_from_the_folder_to_answers_in_plain_keras(family, colours, tmp_path):
    """Every stage, with the cut stored and a class token read; then the command that evaluates the saved run."""
    config = FinetuneConfig(
        images=str(colours),
        backbone="tiny:vit",
        pooling="cls+avg",
        stages=("head", "top", "all"),
        blocks=1,
        epochs=(1,),
        views=2,
        val=0.25,
        test=0.25,
        validate="split",
        out=str(tmp_path / "run"),
    )
    result = finetune.run(config)
    model = keras.models.load_model(result["model"], compile=False)
    assert [layer.name for layer in model.layers][-3:] == ["class_cell", "head_pool_avg", "logits"]
    again = evaluate.run(EvaluateConfig(run=str(tmp_path / "run"), out=str(tmp_path / "again")))
    assert again["metrics"]["test"]["accuracy"] == result["metrics"]["test"]["accuracy"]
