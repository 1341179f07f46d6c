"""Features are loaded into the memory that they take, and no second time."""

import tracemalloc

import pytest
import torch
import torch.nn.functional as F

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.evaluate.sets.cache import FeatureCache
from fastclip.evaluate.sets.features import LabelledFeatures, PairFeatures
from tests.support.ideal import ideal_model

NUM, DIM = 8000, 512
BYTES = NUM * DIM * 4


def labelled(vectors, numbers, keys):
    return LabelledFeatures(vectors, numbers, keys, BadSamples())


def pairs(vectors, numbers, keys):
    """Every image has two captions."""
    return PairFeatures(
        vectors[: NUM // 2], vectors.flip(0), numbers // 2, keys, keys, BadSamples()
    )  # fmt: skip


@pytest.mark.parametrize(("features_of", "arrays"), [(labelled, 1), (pairs, 1.5)])
def test_what_is_loaded_is_copied_once(features_of, arrays, tmp_path):
    vectors = F.normalize(torch.randn(NUM, DIM, generator=torch.Generator().manual_seed(0)))
    features = features_of(vectors, torch.arange(NUM), [f"{i:05d}" for i in range(NUM)])
    cache = FeatureCache(tmp_path, ideal_model(), "a set", "c", "s", features_of is pairs)
    assert cache.save(features) is None
    tracemalloc.start()
    try:
        found = cache.load()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert torch.equal(found.image_features, features.image_features)
    if features_of is pairs:
        assert torch.equal(found.text_features, features.text_features)
        assert torch.equal(found.text_to_image, features.text_to_image)
    assert peak < (arrays + 1) * BYTES  # with what is known of each row
