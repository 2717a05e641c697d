"""The table of weight files says what the installed Keras says; a Keras that changes a file fails here."""

import importlib
import inspect
import re

import keras
import pytest

from tlkit.backbones import applications
from tlkit.backbones.weight_files import PARAMETERS, PUBLISHER, SUMS, every_file, read_spec
from tlkit.options.catalog import backbone_row

FILES = list(every_file())
NO_SUMS = ("mobilenet", "mobilenetv2")
# Of networks that Keras builds but does not publish under a constructor.
OTHERS = {"resnext50", "resnext101"}


def source(row):
    """The program text of a family, its broken string constants joined."""
    module = importlib.import_module(applications.constructor(row).__module__)
    if row.name.endswith("v2") and row.name.startswith("resnet"):
        module = importlib.import_module("keras.src.applications.resnet")
    return re.sub(r'"\s*\n\s*f?"', "", inspect.getsource(module))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.spec)
def test_address_and_sum_are_those_in_keras(file):
    text = source(file.row)
    folder = file.url.rpartition("/")[0] + "/"
    assert folder.startswith(PUBLISHER) and folder in text
    assert all(wanted in text for wanted in file.sums.values())
    assert bool(file.sums) != (file.row.name in NO_SUMS)
    if file.row.name in NO_SUMS:
        assert "file_hash" not in text  # when Keras states sums, the table should have them


def test_no_sum_that_keras_states_is_left_out():
    stated = set()
    for family in ("convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3", "resnet"):
        table = importlib.import_module(f"keras.src.applications.{family}").WEIGHTS_HASHES
        stated |= {without_top for name, (_, without_top) in table.items() if name not in OTHERS}
    assert stated <= set(SUMS.values())
    assert len(set(SUMS.values())) == len(SUMS) == sum(bool(file.sums) for file in FILES)


def test_names_and_specs_lead_to_one_file_each():
    assert len({file.name for file in FILES}) == len({file.spec for file in FILES}) == len(FILES)
    assert all(read_spec(file.spec) == file for file in FILES)
    assert {file.row.name for file in FILES} == {row.row.name for row in FILES if ":" not in row.spec}


@pytest.mark.slow
@pytest.mark.parametrize("spec", PARAMETERS)
def test_parameters_are_those_of_the_network(spec):
    row = backbone_row(spec)
    variants = applications.parse_variants(row, spec)
    with keras.StatelessScope(initialize_variables=False):  # shapes are enough
        network = applications.constructor(row)(include_top=False, weights=None, input_shape=(224, 224, 3), **variants)
    assert network.count_params() == PARAMETERS[spec]
    keras.utils.clear_session()  # forgets what waits for its values
