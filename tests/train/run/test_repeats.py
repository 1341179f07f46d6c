"""What is said of samples that a batch has several times."""

import pytest

from fastclip.train.run.repeats import repeats_in_a_batch
from fastclip.train.settings.batch_config import Arithmetic
from fastclip.train.settings.run_config import RunConfig


@pytest.mark.parametrize(
    "num, arithmetic, steps, settings, words",
    [
        (24, (1, 1, 96), 1, {}, "24 samples 4 times on average"),
        (24, (1, 1, 96), 1, {"mask_duplicates": "both"}, "leaves out the copies"),
        (24, (1, 3, 4), 2, {}, None),  # a pass has 6 micro-batches, 2 steps
        (24, (2, 3, 2), 2, {}, None),
        (28, (1, 3, 4), 2, {}, "28 samples has 7 micro-batches"),
        (56, (2, 3, 4), 2, {}, "56 samples has 7 micro-batches"),
        (28, (1, 3, 4), 2, {"epochs": 1}, None),  # it ends in the first pass
        (28, (1, 3, 4), 2, {"mask_duplicates": "both"}, None),
        (28, (1, 1, 12), 2, {}, None),  # a micro-batch is of one pass
        (28, (1, 3, 4), 2, {"dataset_type": "synthetic"}, None),
        (None, (1, 3, 4), 2, {}, None),
    ],
)
def test_repeats(num, arithmetic, steps, settings, words):
    config = RunConfig(**{"epochs": 3} | settings)
    said = repeats_in_a_batch(config, num, Arithmetic(*arithmetic), steps)
    assert (said is None) == (words is None) and (words or "") in (said or "")
    assert "has none" not in (said or "")
    assert said is None or "--mask-duplicates both" in said
