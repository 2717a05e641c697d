import hashlib

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.data.scan import scan
from tlkit.options.commands import SampleConfig
from tlkit.pipelines import sample
from tlkit.samples.drawn import draw_sheet
from tlkit.tasks.multi import MULTI


def test_sheets_are_a_table_of_several_labels(tmp_path):
    result = sample.run(SampleConfig(name="sheets", out=str(tmp_path / "s"), count=60, seed=2))
    assert result["images"] == 60 and result["classes"] == ["circle", "square", "star", "triangle"]
    dataset = scan(tmp_path / "s" / "images.csv")
    counts = dataset.targets.sum(axis=1)
    assert dataset.task is MULTI and set(counts.tolist()) >= {0, 1, 2} and (dataset.class_counts() > 10).all()
    for number in (0, 7):
        assert dataset.label_name(number) == ("|".join(draw_sheet(2, number)[1]) or "|")
    assert decode(dataset.file(0), InputContract(height=192, width=192)).shape == (192, 192, 3)


def test_the_same_seed_draws_the_same_and_an_empty_place_holds_no_shape():
    def digest(seed, number):
        return hashlib.sha256(draw_sheet(seed, number)[0].tobytes()).hexdigest()

    assert digest(1, 3) == digest(1, 3) != digest(2, 3)
    for number in range(40):
        sheet, names = draw_sheet(0, number)
        tiles = np.asarray(sheet, float).reshape(2, 96, 2, 96, 3).swapaxes(1, 2).reshape(4, -1)
        assert (tiles.std(axis=1) > 12).sum() >= len(names)  # the background alone has a deviation of 6
        if not names:
            assert tiles.std(axis=1).max() < 12


def test_faults_are_for_shapes():
    with pytest.raises(TlkitError, match="--corrupt has no effect on the sample 'sheets'"):
        SampleConfig(name="sheets", out="s", corrupt=0.1)
