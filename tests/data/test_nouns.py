import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax as oracle

from tlkit.base.errors import TlkitError, nearest, unknown_name
from tlkit.base.files import read_json, replacing, sha256_file, sha256_json, write_json
from tlkit.base.machine import cache_dir
from tlkit.base.story import PlainStory
from tlkit.classifier.answers import Predictions, softmax
from tlkit.data.dataset import Dataset, Files, InputContract, Problem, Splits
from tlkit.runs.folder import RunDir, refuse_occupied

NAMES = ["a/1.png", 'a/"2", x.png', "b/é\n.png", "b/\udcff.png"]


@pytest.fixture
def dataset():
    random = np.random.default_rng(0)
    return Dataset(
        root=Path("/images"),
        classes=("a", "b"),
        paths=NAMES,
        labels=np.array([0, 0, 1, -1], np.int32),
        sha256=random.integers(0, 256, (4, 32)).astype(np.uint8),
        sizes=np.array([1, 2, 3, 2**40]),
        given=np.array([-1, 0, 1, 2], np.int8),
        groups=["g", "g", "h", "h"],
        extra={"camera": ["x", "", "y", "y"]},
    )


def test_files_are_made_when_they_are_asked_for_and_are_those_of_the_rows(dataset):
    files = dataset.files
    assert list(files) == [dataset.file(row) for row in range(4)] and len(files) == 4
    assert files[-1] == dataset.file(3) and list(files[1:3]) == [dataset.file(1), dataset.file(2)]
    assert files[1] is not files[1]  # nothing is kept
    assert list(Files(["/elsewhere/a.png", "b.png"])) == [Path("/elsewhere/a.png"), Path("b.png")]


def test_a_manifest_survives_its_file(dataset, tmp_path):
    dataset.write_csv(tmp_path / "manifest.csv")
    again = Dataset.read_csv(tmp_path / "manifest.csv", dataset.root, dataset.classes)
    assert again.paths == dataset.paths and again.groups == dataset.groups and again.extra == dataset.extra
    for name in ("labels", "sha256", "sizes", "given"):
        np.testing.assert_array_equal(getattr(again, name), getattr(dataset, name))
    assert again.fingerprint() == dataset.fingerprint()


def test_selecting_keeps_columns_together(dataset):
    part = dataset.select([2, 0])
    assert part.paths == [NAMES[2], NAMES[0]] and part.groups == ["h", "g"] and part.extra["camera"] == ["y", "x"]
    assert part.label_name(0) == "b" and dataset.label_name(3) == "" and part.class_counts().tolist() == [1, 1]
    rest = dataset.without([Problem(NAMES[0], "broken")])
    assert rest.paths == NAMES[1:] and rest.set_aside == (Problem(NAMES[0], "broken"),)


def test_a_fingerprint_is_about_content_and_labels_only(dataset):
    shuffled = dataset.select([3, 1, 0, 2])
    assert shuffled.fingerprint() == dataset.fingerprint()
    dataset.labels[0] = 1
    assert shuffled.fingerprint() != dataset.fingerprint()


def test_predictions_survive_their_file(tmp_path):
    logits = np.array([[2.0, -1.0, 0.5], [-300.0, 0.0, 300.0]], np.float32)
    found = Predictions(
        NAMES[2:], ["00", "ff"], np.array([0, -1], np.int32), np.array([1, -1], np.int8), logits, ("a", "b,", "ç"), 2.0
    )
    found.write_csv(tmp_path / "p.csv")
    again = Predictions.read_csv(tmp_path / "p.csv")
    assert again.paths == found.paths and again.classes == found.classes and again.labels.tolist() == [0, -1]
    np.testing.assert_allclose(again.probabilities, found.probabilities, atol=1e-8)
    assert again.predicted.tolist() == [0, 2] and len(again.of_split("val")) == 1


def test_softmax_is_scipys_and_finite_for_large_logits():
    logits = np.random.default_rng(0).normal(0, 300, (20, 5)).astype(np.float32)
    np.testing.assert_allclose(softmax(logits, 3.0), oracle(logits.astype(float) / 3, axis=1), atol=1e-12)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"old": 1} and [found.name for found in path.parent.iterdir()] == ["file.json"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": float("nan")})


def test_equal_content_has_equal_names(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf")
    assert sha256_json({"b": 1, "a": [2]}) == sha256_json({"a": [2], "b": 1})
    assert InputContract(height=8, width=8).as_json() != InputContract(height=8, width=8, fit="pad").as_json()


def test_the_nearest_name_is_offered_only_when_near():
    assert nearest("ResNet5O", ["resnet50", "vgg16"]) == "resnet50"
    assert nearest("zebra", ["resnet50", "vgg16"]) is None
    error = unknown_name("a head", "zebra", ["linear"])
    assert error.message == "'zebra' is not a head." and error.hint == "one of: linear."


def test_an_occupied_place_is_refused_an_empty_folder_is_free(tmp_path):
    refuse_occupied(tmp_path / "new", overwrite=False)
    refuse_occupied(tmp_path, overwrite=False)
    (tmp_path / "x").touch()
    with pytest.raises(TlkitError, match="already exists"):
        refuse_occupied(tmp_path, overwrite=False)
    refuse_occupied(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("text", "words"), [(None, "no run.json"), ("{", "damaged"), ("[]", "damaged"), ('{"format": 9}', "format 9")]
)
def test_what_is_no_run_says_why(tmp_path, text, words):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(TlkitError, match=words):
        RunDir(tmp_path).read_record()


def test_splits_by_name():
    splits = Splits(np.array([0, 2, -1, 1], np.int8), "rule")
    assert splits.names() == ["train", "test", "", "val"] and splits.indices("test").tolist() == [1]
    assert splits.select(np.array([3, 0])).names() == ["val", "train"]


def test_the_cache_is_where_the_environment_says_or_somewhere_writable(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "c"))
    assert cache_dir() == (tmp_path / "c", "TLKIT_CACHE")
    monkeypatch.delenv("TLKIT_CACHE")
    monkeypatch.setattr("tlkit.base.machine._writable", lambda folder: False)
    folder, why = cache_dir()
    assert "tlkit-" in folder.name and "cannot be written" in why


def test_a_plain_story_is_quiet_when_asked_and_counts_by_length(capsys, monkeypatch):
    PlainStory(0).say("hidden")
    PlainStory(1).detail("hidden")
    now = [100.0]
    monkeypatch.setattr("tlkit.base.story.time.monotonic", lambda: now[0])
    for _ in PlainStory().track(["aa", "bbb"], "reading", 5):
        now[0] += 6
    assert (
        capsys.readouterr().err
        == "  40 %, 9 s left: reading, 2 of 5 (0.3/s)\n  100 %, 0 s left: reading, 5 of 5 (0.4/s)\n"
    )


def test_metrics_json_is_plain(tmp_path):
    assert json.loads(json.dumps(InputContract(height=8, width=9).as_json())) == {
        "height": 8,
        "width": 9,
        "fit": "squash",
        "version": 2,
    }


def test_what_c_code_writes_is_kept_apart_and_python_is_heard(tmp_path):
    program = (
        "import os, sys, pathlib\n"
        "from tlkit.base.process import native_stderr_apart, native_stderr_silenced\n"
        f"log = pathlib.Path({str(tmp_path / 'native.log')!r})\n"
        "with native_stderr_apart(log):\n"
        "    os.write(2, b'libtiff grumbles\\n')\n"
        "    print('the story', file=sys.stderr)\n"
        "    assert 'TLKIT_DEBUG' in os.environ or log.read_text() == 'libtiff grumbles\\n'\n"
        "    if 'crash' in sys.argv: os.abort()\n"
        "with native_stderr_silenced(): os.write(2, b'tensorflow greets\\n')\n"
        "os.write(2, b'as before\\n')\n"
    )
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "the story\nas before\n")
    assert not (tmp_path / "native.log").exists()
    loud = subprocess.run(run, capture_output=True, text=True, env=os.environ | {"TLKIT_DEBUG": "1"})
    assert "libtiff grumbles" in loud.stderr and "tensorflow greets" in loud.stderr
    assert subprocess.run([*run, "crash"], capture_output=True).returncode < 0
    assert (tmp_path / "native.log").read_text() == "libtiff grumbles\n"
