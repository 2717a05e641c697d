"""scikit-learn's own checks and habits: clones, pickles, pipelines, searches; and nothing computed twice."""

import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

from tlkit import sklearn as estimators
from tlkit.extraction import source as source_module
from tlkit.sklearn import ImageClassifier, ImageFeatures, ImageRegressor, UnfitInput

FOLDER = tempfile.TemporaryDirectory(prefix="tlkit-drawn-")


def drawn(table):
    """One picture for each row of numbers (n, d): column c is a stripe, brighter where the number is greater."""
    paths = []
    for row in np.asarray(table, np.float64):
        digest = hashlib.sha256(row.tobytes()).hexdigest()[:24]
        path = Path(FOLDER.name) / f"{digest}.png"
        if not path.exists():
            shades = (255 / (1 + np.exp(-row))).astype(np.uint8)
            stripes = np.repeat(shades, -(-32 // len(shades)))[:32] if len(shades) <= 32 else shades[:32]
            Image.fromarray(np.broadcast_to(stripes, (32, 32)).copy()).save(path)
        paths.append(str(path))
    return paths


class _OfTables:
    """scikit-learn's checks feed tables of numbers; each row is drawn as a picture before the estimator sees it."""

    def fit(self, X, y=None, **given):
        return super().fit(drawn(validate_data(self, X)), y, **given)

    def _seen(self, X):
        check_is_fitted(self)
        return drawn(validate_data(self, X, reset=False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags


class FeaturesOfTables(_OfTables, ImageFeatures):
    __init__ = ImageFeatures.__init__

    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)

    def transform(self, X):
        return super().transform(self._seen(X))


class ClassifierOfTables(_OfTables, ImageClassifier):
    __init__ = ImageClassifier.__init__

    def predict_proba(self, X):
        return super().predict_proba(self._seen(X))


class RegressorOfTables(_OfTables, ImageRegressor):
    __init__ = ImageRegressor.__init__

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # a random network looks at drawings of tables
        return tags

    def predict(self, X):
        return super().predict(self._seen(X))


EXPECTED: dict[str, str] = {}  # scikit-learn's checks that fail, each with its reason: none does


def failed(estimator):
    """Name -> what went wrong, of scikit-learn's checks that failed without being expected to."""
    results = check_estimator(estimator, expected_failed_checks=EXPECTED, on_fail=None)
    assert len(results) > 30
    return {row["check_name"]: repr(row["exception"])[:300] for row in results if row["status"] == "failed"}


@pytest.mark.filterwarnings("ignore")
def test_features_pass_the_checks_of_scikit_learn(tiny_backbone, empty_cache):
    assert failed(FeaturesOfTables(str(tiny_backbone))) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_classifier_passes_the_checks_of_scikit_learn(tiny_backbone, empty_cache):
    """Without cross-validation inside, which the regressor's checks have."""
    options = {"views": 1, "validate": "split"}
    assert failed(ClassifierOfTables(str(tiny_backbone), stages=("head",), options=options)) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_regressor_passes_the_checks_of_scikit_learn(tiny_backbone, empty_cache):
    assert failed(RegressorOfTables(str(tiny_backbone), stages=("head",))) == {}


def test_numbers_are_predicted_saved_and_pickled(tiny_backbone, empty_cache, tmp_path):
    random = np.random.default_rng(0)
    table = np.repeat(random.normal(0, 1.5, (90, 1)), 8, axis=1)
    files, numbers = drawn(table), 40 + 10 * np.tanh(table[:, 0])
    regressor = ImageRegressor(str(tiny_backbone), stages=("head",)).fit(files[:70], numbers[:70])
    assert regressor.score(files[70:], numbers[70:]) > 0.9
    said = regressor.predict(files[70:])
    assert said.shape == (20,) and said.dtype == np.float64
    assert regressor.margins_ is None or np.mean(np.abs(said - numbers[70:]) <= regressor.margins_[0]) > 0.7
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(regressor)).predict(files[70:]), said)
    both = np.column_stack([numbers, -numbers])[:70]
    assert ImageRegressor(str(tiny_backbone), stages=("head",)).fit(files[:70], both).predict(files[70:]).shape == (
        20,
        2,
    )
    regressor.save(tmp_path / "model.keras")
    from tlkit.options.commands import PredictConfig
    from tlkit.pipelines import predict

    (row,) = predict.run(PredictConfig(run=str(tmp_path / "model.keras"), paths=(files[70],)))["predictions"]
    assert row["numbers"][0]["value"] == pytest.approx(said[0], rel=1e-3)
    with pytest.raises(UnfitInput, match="takes no sample_weight"):
        regressor.fit(files[:70], numbers[:70], sample_weight=np.ones(70))


@pytest.fixture
def paths(colours):
    files = sorted(colours.rglob("*.png"))
    return [str(file) for file in files], np.array([file.parent.name for file in files])


def test_nothing_loads_keras_before_something_has_to_compute(tiny_backbone):
    program = f"""
import pickle, sys
from sklearn.base import clone
from tlkit.sklearn import ImageClassifier, ImageFeatures, ImageRegressor
for kind in (ImageFeatures, ImageClassifier, ImageRegressor):
    made = pickle.loads(pickle.dumps(clone(kind({str(tiny_backbone)!r})).set_params(weights="none")))
    assert made.weights == "none" and repr(made)
assert not [name for name in ("keras", "tensorflow") if name in sys.modules]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_features_are_those_of_the_command_and_come_as_a_table(paths, tiny_backbone, tmp_path, colours):
    import tlkit

    features = ImageFeatures(str(tiny_backbone)).set_output(transform="pandas").fit(paths[0])
    table = features.transform(paths[0])
    tlkit.features(str(colours), backbone=str(tiny_backbone), out=str(tmp_path / "table.parquet"), verbose=False)
    written = pd.read_parquet(tmp_path / "table.parquet")
    written.index = [str(colours / path) for path in written["path"]]
    assert list(table.columns) == list(features.get_feature_names_out()) == [f"f{i:04d}" for i in range(16)]
    assert np.array_equal(table.to_numpy(), written.loc[paths[0], table.columns].to_numpy())


def test_a_grid_search_computes_every_image_once(paths, tiny_backbone, empty_cache, monkeypatch):
    passes = []
    real = source_module.FeatureSource.extract

    def counted(*given, **options):
        found = real(*given, **options)
        passes.append(found.passes)
        return found

    monkeypatch.setattr(source_module.FeatureSource, "extract", counted)
    monkeypatch.setattr("tlkit.sklearn._recent", {})
    pipeline = make_pipeline(ImageFeatures(str(tiny_backbone)), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]}, cv=3).fit(*paths)
    assert sum(passes) == 36 and len(passes) == 3 * 2 + 1  # each fold's two sides are read once, and all images
    assert search.score(*paths) > 0.9


def test_a_classifier_learns_answers_and_survives_a_pickle(paths, tiny_backbone, tmp_path):
    labels = np.array([{"blue": 3, "green": 7, "red": 20}[name] for name in paths[1]])
    before = np.random.get_state()[1].copy()
    classifier = ImageClassifier(str(tiny_backbone), options={"epochs": 1, "views": 1}, random_state=1)
    classifier.fit(paths[0], labels)
    assert np.array_equal(np.random.get_state()[1], before)
    assert classifier.classes_.tolist() == [3, 7, 20] and classifier.score(paths[0], labels) > 0.9
    chances = classifier.predict_proba(paths[0])
    assert chances.shape == (36, 3) and np.allclose(chances.sum(axis=1), 1)
    again = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(again.predict_proba(paths[0]), chances)
    classifier.save(tmp_path / "model.keras")
    import tlkit

    answers = tlkit.predict(str(tmp_path / "model.keras"), paths[0], verbose=False)["predictions"]
    assert [row["class"] for row in answers] == [str(label) for label in classifier.predict(paths[0])]


@pytest.mark.parametrize("stages", [("head",), ("head", "top")])
def test_what_was_fitted_just_now_is_not_opened_again_and_answers_as_its_file_does(
    paths, tiny_backbone, tmp_path, monkeypatch, stages
):
    def opened(path):
        raise AssertionError(f"{path} is opened")

    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "fitted"))
    options = {"epochs": 1, "views": 1, "validate": "split"}
    classifier = ImageClassifier(str(tiny_backbone), stages=stages, options=options).fit(*paths)
    with monkeypatch.context() as patch, ThreadPoolExecutor(4) as threads:
        patch.setattr("tlkit.classifier.model.load", opened)
        chances = list(threads.map(lambda _: classifier.predict_proba(paths[0]), range(4)))
    assert getattr(estimators._networks[classifier][0].built, "optimizer", None) is None
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "read"))  # where its rows are not
    monkeypatch.setattr(estimators, "_recent", {})
    joblib.dump(classifier, tmp_path / "classifier.joblib")
    again = joblib.load(tmp_path / "classifier.joblib")
    for found in chances:
        np.testing.assert_allclose(again.predict_proba(paths[0]), found, rtol=1e-4, atol=1e-6)
    with pytest.raises(NotFittedError):
        clone(classifier).predict_proba(paths[0])


def test_what_cannot_be_learned_from_is_refused_in_one_sentence(paths, tiny_backbone, tmp_path):
    classifier, features = ImageClassifier(str(tiny_backbone)), ImageFeatures(str(tiny_backbone))
    (tmp_path / "text.png").write_text("no image")
    for wrong, ask in (
        ("sample_weight", lambda: classifier.fit(*paths, sample_weight=np.ones(36))),
        ("1 class", lambda: classifier.fit(paths[0], ["one"] * 36)),
        ("a list of them", lambda: features.fit(paths[0][0])),
        ("expected paths", lambda: features.fit([1.0, 2.0])),
        ("No such file", lambda: features.fit([*paths[0], "gone.png"])),
        ("text.png", lambda: features.fit([*paths[0], str(tmp_path / "text.png")])),
        ("'colour'", lambda: ImageFeatures(options={"colour": 1}).fit(paths[0])),
        ("'out'", lambda: ImageClassifier(options={"out": "run"}).fit(*paths)),
    ):
        with pytest.raises(UnfitInput, match=wrong):
            ask()


def test_a_file_that_changes_is_read_again(tiny_backbone, tmp_path, colours):
    file = tmp_path / "image.png"
    red, blue = colours / "red" / "00.png", colours / "blue" / "00.png"
    features = ImageFeatures(str(tiny_backbone)).fit([red, blue])
    for source in (red, blue):
        file.write_bytes(source.read_bytes())
        assert np.array_equal(features.transform([file]), features.transform([source]))
        os.utime(file, (time.time() - 60, time.time() - 60))
        assert np.array_equal(features.transform([file]), features.transform([source]))
