import functools
import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tlkit.base.errors import TlkitError
from tlkit.extraction.store import Rows
from tlkit.extraction.transforms import autoencoder, components
from tlkit.extraction.transforms.autoencoder import Autoencoder, VariationalAutoencoder, explained
from tlkit.extraction.transforms.components import Components
from tlkit.extraction.transforms.table import TRANSFORMS, load_transform, parse_reduction, save_transform
from tlkit.options.commands import FeaturesConfig
from tlkit.pipelines import features as table


def test_components_are_those_of_the_training_rows_alone():
    random = np.random.default_rng(0)
    features = (random.random((40, 6)) @ random.random((6, 6))).astype(np.float32)
    train = np.arange(0, 40, 2)
    found = Components.fit(Rows(features).select(train), 3, seed=0)
    oracle = PCA(3, svd_solver="full").fit(features[train])
    np.testing.assert_allclose(np.abs(found.apply(features)), np.abs(oracle.transform(features)), atol=1e-4)
    assert found.explained == pytest.approx(oracle.explained_variance_ratio_.sum(), abs=1e-5)


def test_more_components_than_images_are_refused():
    with pytest.raises(TlkitError, match="more components") as caught:
        Components.fit(Rows(np.zeros((4, 9), np.float32)), 5, seed=0)
    assert "pca:4" in caught.value.hint


def test_many_rows_are_sampled_once_and_the_same(monkeypatch):
    monkeypatch.setattr(components, "FIT_ROWS", 10)
    features = np.random.default_rng(0).random((50, 4), dtype=np.float32)
    seen = []

    class Watched(Rows):
        def __getitem__(self, chosen):
            seen.append(chosen)
            return super().__getitem__(chosen)

    for _ in range(2):
        assert Components.fit(Watched(features), 2, seed=1).rows == 10
    assert len(seen[0]) == 10 and (seen[0] == seen[1]).all()


def curved(count, seed=0):
    """Points on a half circle in a plane of 12 dimensions: one number determines each, but they are not on a line."""
    random = np.random.default_rng(seed)
    angles = random.uniform(0, np.pi, count)
    plane = np.linalg.qr(np.random.default_rng(9).normal(size=(12, 2)))[0]
    return (3 * np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T + 1).astype(np.float32)


def briefly(transform, rows, width):
    """Autoencoders train for six epochs, for tests that do not depend on their quality."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoencoder, "EPOCHS", 6)
        return transform.fit(rows, width, seed=0)


@functools.cache
def fitted(name):
    """Two numbers for each of 60 points on the half circle; training takes seconds, and no test changes the result."""
    return briefly(TRANSFORMS[name], Rows(curved(60)), 2)


OF = {"weights_sha256": "abc", "output": "top:avg"}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_is_saved_reduces_and_restores_alike(name, tmp_path):
    features, found = curved(60), fitted(name)
    save_transform(found, tmp_path / "t.reduce.npz", OF)
    again = load_transform(tmp_path / "t.reduce.npz", OF)
    codes = found.apply(features)
    assert codes.shape == (60, 2) and found.restore(codes).shape == (60, 12)
    np.testing.assert_array_equal(again.apply(features), codes)
    np.testing.assert_array_equal(again.restore(codes), found.restore(codes))
    assert again.describe() == found.describe() and found.describe()["method"] == name
    with pytest.raises(TlkitError, match="differs: output"):
        load_transform(tmp_path / "t.reduce.npz", OF | {"output": "block:max"})


def test_components_restore_what_scikit_learn_restores():
    features = curved(40)
    oracle = PCA(1, svd_solver="full").fit(features)
    found = Components.fit(Rows(features), 1, seed=0)
    expected = oracle.inverse_transform(oracle.transform(features))
    np.testing.assert_allclose(found.restore(found.apply(features)), expected, atol=1e-4)


def test_an_autoencoder_follows_a_curve_that_a_component_cannot():
    known, new = curved(400), curved(200, seed=1)
    code = Autoencoder.fit(Rows(known), 1, seed=0)
    straight = Components.fit(Rows(known), 1, seed=0)
    rest = ((straight.restore(straight.apply(new)) - new) ** 2).sum() / ((new - known.mean(axis=0)) ** 2).sum()
    assert explained(code, new) > 0.95 > 0.9 > 1 - rest
    assert code.explained == pytest.approx(explained(code, known)) and 0.9 < code.held_out <= 1


def test_numpy_applies_what_keras_trained():
    keras = pytest.importorskip("keras")
    found = fitted("ae")
    layers = [keras.layers.Dense(len(found.weights[i + 1]), activation) for i, activation in ((0, "tanh"), (2, None))]
    model = keras.Sequential([keras.Input((12,)), *layers])
    model.set_weights(found.weights[:4])
    standard = (curved(20, 3) - found.mean) / found.scale
    np.testing.assert_allclose(found.apply(curved(20, 3)), np.asarray(model(standard)), atol=1e-5)


def test_the_same_seed_trains_the_same():
    one, two = fitted("vae"), briefly(VariationalAutoencoder, Rows(curved(60)), 2)
    assert one is not two
    np.testing.assert_array_equal(one.apply(curved(9)), two.apply(curved(9)))


def test_an_autoencoder_of_few_images_is_refused():
    with pytest.raises(TlkitError, match="12 training images") as caught:
        Autoencoder.fit(Rows(curved(12)), 2, seed=0)
    assert "pca:N" in caught.value.hint


def test_a_reduction_is_a_row_of_the_table(monkeypatch):
    assert parse_reduction("pca:7")[:2] == ("pca", 7)
    monkeypatch.setitem(TRANSFORMS, "other", Components)
    assert parse_reduction("other:3")[:2] == ("other", 3)
    with pytest.raises(TlkitError, match="other:N with N at least 1"):
        parse_reduction("third:3")


@pytest.mark.parametrize("text", ["pca", "pca:", "pca:0", "pca:-1", "pca:x", "umap:2"])
def test_anything_but_a_method_and_a_number_is_refused(text):
    with pytest.raises(TlkitError, match="pca:N"):
        parse_reduction(text)


def test_other_images_are_reduced_alike(colours, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "EPOCHS", 6)
    given = {"images": str(colours), "backbone": str(tiny_backbone)}
    table.run(FeaturesConfig(**given, out=str(tmp_path / "one.npz"), reduce="ae:3"))
    saved = str(tmp_path / "one.npz.reduce.npz")
    table.run(FeaturesConfig(**given, out=str(tmp_path / "two.npz"), reduce=saved, seed=5))
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        np.testing.assert_array_equal(one["features"], two["features"])
        assert one["features"].shape[1] == 3
    about = json.loads((tmp_path / "two.npz.json").read_text())["reduce"]
    assert about["method"] == "ae" and about["epochs"] >= 1
    assert not (tmp_path / "two.npz.reduce.npz").exists()
    monkeypatch.setattr("tlkit.extraction.source.FeatureSource.extract", None)  # refused before anything is computed
    with pytest.raises(TlkitError, match="differs: input"):
        table.run(FeaturesConfig(**given, out=str(tmp_path / "three.npz"), reduce=saved, fit="crop"))
    with pytest.raises(TlkitError, match="is not a file"):
        table.run(FeaturesConfig(**given, out=str(tmp_path / "four.npz"), reduce=str(tmp_path / "gone.npz")))
