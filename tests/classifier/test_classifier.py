import shutil
import zipfile

import keras
import numpy as np
import pytest

from tests import processes
from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.classifier.facts import read_facts
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose, load, save
from tlkit.data.dataset import InputContract
from tlkit.options.catalog import HEADS
from tlkit.options.commands import FinetuneConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def backbone(tiny_backbone):
    return build_backbone(str(tiny_backbone))


def classifier(backbone, head="linear", **options):
    sizes = {} if head == "linear" else {"hidden": (8,)}
    config = FinetuneConfig(images="images", head=head, **sizes, **options)
    made = build_head(config, backbone.grid_shape, 2)
    return compose(backbone, made, ("ants", "bées"), InputContract(height=32, width=32, fit="pad")), made


@pytest.mark.parametrize("head", HEADS)
def test_one_flat_graph_that_shares_the_head(backbone, head):
    whole, part = classifier(backbone, head, pooling="concat" if head == "mlp" else "avg")
    assert not any(isinstance(layer, keras.Model) for layer in whole.model.layers)
    logits = whole.model.get_layer("logits")
    logits.bias.assign(logits.bias + 1)
    assert part.model.get_layer("logits") is logits
    grid = np.asarray(backbone.model(IMAGES))
    features = {"linear": grid.mean(axis=(1, 2))}.get(head, grid)
    if head == "mlp":
        features = np.concatenate([grid.mean(axis=(1, 2)), grid.max(axis=(1, 2))], axis=1)
    np.testing.assert_allclose(np.asarray(whole.model(IMAGES)), np.asarray(part.model(features)), atol=1e-5)


def test_facts_travel_inside_the_file(backbone, tmp_path):
    made, _ = classifier(backbone)
    made = made.with_facts(temperature=1.5, trained_on=("00", "ff"))
    save(made, tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    assert again.facts == made.facts == read_facts(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(again.model(IMAGES)), np.asarray(made.model(IMAGES)))


def test_plain_keras_loads_the_file_without_tlkit(backbone, tmp_path):
    made, _ = classifier(backbone, "attention")
    save(made, tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "logits.npy", made.model.predict(IMAGES, verbose=0))
    program = (
        "import sys; sys.modules['tlkit'] = None\n"
        "import keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "found = model.predict(np.load('images.npy'), verbose=0)\n"
        "assert np.array_equal(found, np.load('logits.npy')), np.abs(found - np.load('logits.npy')).max()\n"
    )
    done = processes.run(["-c", program], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_what_is_no_classifier_is_refused(backbone, tiny_backbone, tmp_path):
    with pytest.raises(TlkitError, match="does not exist"):
        load(tmp_path / "none.keras")
    with pytest.raises(TlkitError, match="no class names"):
        load(tiny_backbone)
    (tmp_path / "text.keras").write_text("not a zip")
    with pytest.raises(TlkitError, match="no class names"):
        load(tmp_path / "text.keras")


def test_a_file_of_another_format_is_refused(backbone, tmp_path):
    made, _ = classifier(backbone)
    save(made, tmp_path / "model.keras")
    shutil.copy(tmp_path / "model.keras", tmp_path / "later.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as old, zipfile.ZipFile(tmp_path / "later.keras", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b'"format": 1', b'"format": 99') if name == "tlkit.json" else content)
    with pytest.raises(TlkitError, match="another version"):
        load(tmp_path / "later.keras")
