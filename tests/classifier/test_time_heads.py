"""Heads over time: missing frames change nothing, order matters where it should, and files load in plain Keras."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tests import processes
from tlkit.backbones.build import build_backbone
from tlkit.classifier.facts import ClipFacts, read_facts
from tlkit.classifier.heads.build import ORDER, build_time_head, put_mean
from tlkit.classifier.model import compose_clips, load, of_images, over_time, save
from tlkit.data.dataset import InputContract
from tlkit.extraction.onnx_engine import open_session
from tlkit.extraction.onnx_graph import to_onnx
from tlkit.options.catalog import TIMES

FRAMES, CHANNELS, CLASSES = 6, 16, 3
OPTIONS = SimpleNamespace(pooling="avg", hidden=(8,), activation="relu", dropout=0.0, l2=0.0)
ORDERED = ("rnn", "lstm", "gru", "transformer", "conv1d")


def head_of(time, frames=FRAMES, options=OPTIONS):
    """A head whose last layers are not zero, so that the order has an effect."""
    head = build_time_head(options, time, (frames, CHANNELS), CLASSES, seed=1)
    for last in (layer for layer in head.model.layers if layer.name in ("logits", ORDER)):
        last.set_weights([np.random.default_rng(3).normal(size=weight.shape) for weight in last.get_weights()])
    return head


def clips(count, real, frames=FRAMES):
    rows = np.random.default_rng(5).normal(size=(count, frames, CHANNELS)).astype(np.float32)
    rows[:, real:] = 0
    return rows


def said(model, rows):
    return np.asarray(model(rows))


@pytest.mark.parametrize("time", TIMES)
def test_frames_that_are_not_there_change_no_answer(time):
    """Four frames of six give the same logits as four frames with the same weights."""
    long, short = head_of(time), head_of(time, 4)
    weights = [np.array(weight) for weight in long.model.get_weights()]
    wanted = [weight.shape for weight in short.model.get_weights()]
    cut = [one[: shape[0]] if one.shape != shape else one for one, shape in zip(weights, wanted, strict=True)]
    short.model.set_weights(cut)
    rows = clips(5, 4)
    assert np.allclose(said(long.model, rows), said(short.model, rows[:, :4]), atol=1e-5)


@pytest.mark.parametrize("time", TIMES)
def test_order_counts_where_it_should(time):
    model, rows = head_of(time).model, clips(5, FRAMES)
    apart = np.abs(said(model, rows) - said(model, rows[:, ::-1])).max()
    assert (apart > 1e-2) == (time in ORDERED), apart


@pytest.mark.parametrize("time", TIMES)
def test_training_starts_from_the_solved_mean(time):
    head = build_time_head(OPTIONS, time, (FRAMES, CHANNELS), CLASSES)
    kernel = np.random.default_rng(2).normal(size=(CHANNELS, CLASSES)).astype(np.float32)
    put_mean(head, kernel, np.arange(3, dtype=np.float32))
    rows = clips(4, 3)
    assert np.allclose(said(head.model, rows), rows[:, :3].mean(axis=1) @ kernel + np.arange(3), atol=1e-5)


def test_layers_over_time_read_many_channels_through_a_projection():
    """No more weights than with 64 channels, besides the projection; heads with one number per channel read all channels."""
    sizes = {}
    for time in ("gru", "conv1d", "max"):
        model = build_time_head(OPTIONS, time, (FRAMES, 200), CLASSES).model
        sizes[time] = {layer.name: layer.count_params() for layer in model.layers if layer.count_params()}
    mean = {"logits": 200 * 3 + 3}
    assert sizes["conv1d"] == mean | {"head_projection": 200 * 64, "head_conv_1": 3 * 64 * 8 + 8, ORDER: 8 * 3}
    assert sizes["gru"]["head_projection"] == 200 * 64 and sizes["gru"]["head_gru_1"] == 3 * 8 * (64 + 8 + 2)
    assert sizes["max"] == mean | {ORDER: 200 * 3}


def classifier_of(tiny_backbone, time):
    backbone = build_backbone(str(tiny_backbone))
    clip = ClipFacts(frames=FRAMES, stride=2, time=time, pooling="avg")
    contract = InputContract(height=32, width=32)
    return compose_clips(backbone, head_of(time), ("a", "b", "c"), contract, clip)


PLAIN = """
import sys
import keras
import numpy as np

for time in sys.argv[1:]:
    model = keras.models.load_model(f"{time}.keras", safe_mode=True)
    given = np.load(f"{time}.npz")
    found = np.asarray(model([given["images"], given["mask"]]))
    print(time, float(np.abs(found - given["logits"]).max()))
assert "tlkit" not in sys.modules
"""


@pytest.fixture(scope="module")
def written(tiny_backbone, tmp_path_factory):
    """A folder, and for each kind of head its classifier, which is there as a file, its inputs and its logits."""
    folder, made = tmp_path_factory.mktemp("heads"), {}
    images = np.random.default_rng(0).uniform(0, 255, (3, FRAMES, 32, 32, 3)).astype(np.float32)
    mask = np.ones((3, FRAMES), np.float32)
    mask[1, 2:] = 0
    for time in TIMES:
        classifier = classifier_of(tiny_backbone, time)
        save(classifier, folder / f"{time}.keras")
        logits = said(classifier.model, [images, mask])
        np.savez(folder / f"{time}.npz", images=images, mask=mask, logits=logits)
        made[time] = classifier, images, mask, logits
    return folder, made


@pytest.fixture(scope="module")
def in_plain_keras(written):
    """The difference of the logits of each file, in plain Keras, from those of its classifier."""
    (written[0] / "plain.py").write_text(PLAIN)
    done = processes.run(["-P", "plain.py", *TIMES], cwd=written[0])
    assert done.returncode == 0, done.stderr[-2000:]
    return {time: float(apart) for time, apart in map(str.split, done.stdout.splitlines())}


@pytest.mark.parametrize("time", TIMES)
def test_the_file_takes_clips_and_a_mask_in_plain_keras(written, in_plain_keras, time):
    file, (classifier, images, mask, logits) = written[0] / f"{time}.keras", written[1][time]
    assert read_facts(file).clip == classifier.facts.clip
    assert in_plain_keras[time] < 1e-5

    other = images.copy()
    other[1, 2:] = 99.0  # what is masked
    assert np.array_equal(said(classifier.model, [other, mask]), logits)
    again = load(file)
    features = np.asarray(of_images(again)(images.reshape(-1, 32, 32, 3))).mean(axis=(1, 2))
    rows = features.reshape(3, FRAMES, -1) * mask[..., None]
    assert np.allclose(said(over_time(again), rows), logits, atol=1e-4)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("hidden", [(8,), (8, 8)], ids=["one layer", "two"])
def test_a_head_is_written_layer_by_layer(tmp_path, time, hidden):
    """As ONNX, without TensorFlow; a frame may be missing anywhere."""
    pytest.importorskip("onnxruntime")
    model = head_of(time, options=SimpleNamespace(**{**vars(OPTIONS), "hidden": hidden})).model
    (tmp_path / "head.onnx").write_bytes(to_onnx(model, ("logits",), "features").SerializeToString())
    rows = clips(5, FRAMES)
    rows[0, 4:], rows[1, 2], rows[2, 0], rows[3, 1:] = 0, 0, 0, 0
    assert np.allclose(open_session(tmp_path / "head.onnx")(rows)["logits"], said(model, rows), atol=1e-5)


@pytest.mark.parametrize("time", ["mean", "gru", "transformer", "conv1d"])
def test_onnx_answers_the_same(written, tmp_path, time):
    tf = pytest.importorskip("tensorflow")
    tf2onnx, runtime = pytest.importorskip("tf2onnx"), pytest.importorskip("onnxruntime")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf2onnx reads TensorFlow's graphs")
    model = written[1][time][0].model
    signature = [tf.TensorSpec((None, *one.shape[1:]), tf.float32, name=one.name) for one in model.inputs]
    traced = tf.function(lambda images, mask: model([images, mask], training=False), input_signature=signature)
    tf2onnx.convert.from_function(traced, input_signature=signature, opset=17, output_path=str(tmp_path / "m.onnx"))
    images = np.random.default_rng(0).uniform(0, 255, (2, FRAMES, 32, 32, 3)).astype(np.float32)
    mask = np.array([[1] * 6, [1, 1, 1, 0, 0, 0]], np.float32)
    found = runtime.InferenceSession(str(tmp_path / "m.onnx")).run(None, {"images": images, "mask": mask})[0]
    assert np.allclose(found, said(model, [images, mask]), atol=1e-4)
