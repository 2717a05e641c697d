import re
from dataclasses import fields

import pytest

from tlkit.base.errors import NoEffect, TlkitError
from tlkit.options import catalog
from tlkit.options.commands import FinetuneConfig
from tlkit.options.groups import HeadOptions, SplitOptions, TrainingOptions
from tlkit.options.option import as_word, changed_options, resolve, write_toml


def finetune(**options):
    return resolve(FinetuneConfig, {"images": "images", **options})


def test_text_from_the_command_line_becomes_the_type_of_the_field():
    config = finetune(
        epochs="3,4", stages="head,top", head="mlp", hidden="128, 64", learning_rate="1e-3", classes="a,b c"
    )
    assert config.epochs == (3, 4) and config.hidden == (128, 64) and config.learning_rate == (0.001,)
    assert config.classes == ("a", "b c")


def test_what_is_written_is_read_back(tmp_path):
    config = finetune(epochs="3", head="mlp", hidden="16", classes='a,"quoted" é', flip=False, group_by=r"(\d+)_")
    (tmp_path / "config.toml").write_text(write_toml(config), encoding="utf-8")
    assert resolve(FinetuneConfig, {}, tmp_path / "config.toml") == config


def test_given_beats_file_beats_default(tmp_path):
    (tmp_path / "c.toml").write_text('images = "x"\n[head]\ndropout = 0.5\n[training]\npatience = 9\n')
    config = resolve(FinetuneConfig, {"patience": 4, "dropout": None}, tmp_path / "c.toml")
    assert (config.patience, config.dropout, config.batch_size) == (4, 0.5, 32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epoch": 3}, ["'epoch'", "did you mean 'epochs'"]),
        ({"epochs": "many"}, ["--epochs", "'many'", "whole number"]),
        ({"epochs": 2.5}, ["--epochs", "2.5"]),
        ({"epochs": "0"}, ["--epochs", "at least 1"]),
        ({"flip": "yes"}, ["--flip", "true or false"]),
        ({"dropout": True}, ["--dropout", "True"]),
        ({"val": 2}, ["--val", "between 0 and 0.9"]),
        ({"head": "lineer"}, ["--head", "'lineer'"]),
        ({"stages": "top"}, ["--stages", "in order"]),
        ({"stages": "head,all,top"}, ["--stages", "in order"]),
        ({"epochs": "1,2,3"}, ["--epochs", "3 values for 2 stages"]),
        ({"loss": "focal", "label_smoothing": 0.1}, ["--label-smoothing", "focal"]),
        ({"val": 0.6, "test": 0.5}, ["--val", "--test"]),
        ({"backbone": "resnet5O"}, ["'resnet5O'"]),
        ({"resume": "run"}, ["either IMAGES or --resume"]),
    ],
)
def test_wrong_options_name_value_place_and_expectation(options, words):
    with pytest.raises(TlkitError) as caught:
        finetune(**options)
    for word in words:
        assert word in caught.value.message
    assert caught.value.hint


def test_all_unknown_keys_of_a_file_are_reported_at_once(tmp_path):
    (tmp_path / "c.toml").write_text('epoch = 3\nbakbone = "x"\n')
    with pytest.raises(TlkitError, match=r"c\.toml.*'epoch'.*'bakbone' \(did you mean 'backbone'"):
        resolve(FinetuneConfig, {"images": "i"}, tmp_path / "c.toml")


@pytest.mark.parametrize(("text", "words"), [("epochs = ", "not valid TOML"), ("a = 1\n[t]\na = 2", "twice")])
def test_files_that_make_no_sense_are_refused(tmp_path, text, words):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(TlkitError, match=words):
        resolve(FinetuneConfig, {"images": "i"}, tmp_path / "c.toml")
    with pytest.raises(TlkitError, match="does not exist"):
        resolve(FinetuneConfig, {"images": "i"}, tmp_path / "none.toml")


def test_differences_are_listed_old_to_new():
    assert changed_options({"seed": 0, "val": 0.1}, {"seed": 1, "val": 0.1}) == ["seed: 0 -> 1"]


def test_every_choice_of_the_options_is_in_the_catalogue_and_defaults_are_valid():
    for kind in (HeadOptions, TrainingOptions, SplitOptions):
        kind()
    for spec in fields(FinetuneConfig):
        choices = spec.metadata.get("choices")
        if choices:
            assert choices in vars(catalog).values()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"val": float("nan")}, "--val is nan, expected a number"),
        ({"minutes": float("nan")}, "--minutes is nan"),
        ({"l2": float("inf")}, "--l2 is inf"),
        ({"learning_rate": (1e-3, float("nan"))}, "--learning-rate is nan"),
        ({"task": "number", "target": ("age", "age")}, "--target names 'age' twice"),
        ({"keras_split": 0.2, "test": 0.3}, "--test 0.3 has no effect with --keras-split 0.2"),
        ({"momentum": 0.5, "optimizer": "adam"}, "--momentum 0.5 has no effect with --optimizer adam"),
        ({"blocks": 3, "stages": ("head", "all")}, "--blocks 3 has no effect without a top stage: --stages head,all"),
        ({"hidden": (64, 32)}, "--hidden 64,32 has no effect with --head linear"),
        ({"head": "lstm", "activation": "gelu"}, "--activation gelu has no effect with --head lstm"),
        ({"time": "max", "hidden": (64,)}, "--hidden 64 has no effect with --time max"),
        ({"log": ("mlflow", "mlflow")}, "--log names 'mlflow' twice"),
        ({"executor": "ray:"}, "--executor ray:: the address is missing"),
    ],
)
def test_what_says_nothing_is_refused(given, message):
    with pytest.raises(TlkitError, match=re.escape(message)):
        FinetuneConfig(images="images", **given)


def test_sizes_of_layers_that_are_there_are_taken():
    FinetuneConfig(images="images", head="gru", hidden=(64,))
    FinetuneConfig(images="images", frames=8, hidden=(64,), activation="gelu")  # of conv1d, the default for clips
    config = FinetuneConfig(images="table.csv", hidden=(64,))  # it may hold clips
    config.refuse_idle(config.over_time)
    with pytest.raises(NoEffect, match="--hidden 64 has no effect") as caught:
        config.refuse_idle(None)
    assert caught.value.option == "hidden"


@pytest.mark.parametrize("names", [("cat, black", "dog"), ('5" pipe', "a,b"), ('"', ",", "x"), ("plain", "others")])
def test_names_with_commas_are_given_in_quotation_marks(names):
    assert finetune(classes=as_word(names)).classes == names


def test_quotation_marks_that_are_none_of_csv_are_letters():
    assert finetune(classes='"cat" black,dog"').classes == ('"cat" black', 'dog"')
    assert finetune(classes='"cat, black", dog').classes == ("cat, black", "dog")
