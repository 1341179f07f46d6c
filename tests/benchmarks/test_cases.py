"""The cases are what tests and benchmarks stand on: the same numbers every time, truly paired."""

import pytest
import torch

from fastclip.benchmarks.cases import DATA, RAGGED, RECTANGLES, Case, make_features, make_inputs


def test_make_inputs_same_seed_gives_same_numbers():
    case = Case(N=17, D=33, data="trained")
    for first, second in zip(make_inputs(case, seed=3), make_inputs(case, seed=3), strict=True):
        assert torch.equal(first, second)


def test_make_inputs_other_seed_gives_other_numbers():
    case = Case(N=17, D=33)
    assert not torch.equal(make_inputs(case, seed=3)[0], make_inputs(case, seed=4)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_make_inputs_low_precision_is_the_float32_case_rounded(dtype):
    exact, rounded = make_inputs(Case(N=9, D=24)), make_inputs(Case(N=9, D=24, dtype=dtype))
    assert torch.equal(exact[0].to(dtype), rounded[0])
    assert torch.equal(exact[1].to(dtype), rounded[1])
    assert rounded[2].dtype == torch.float32


@pytest.mark.parametrize("data", DATA)
def test_make_inputs_rows_have_unit_norm(data):
    for features in make_inputs(Case(N=40, D=64, data=data))[:2]:
        assert features.shape == (40, 64)
        torch.testing.assert_close(features.norm(dim=1), torch.ones(40))


def test_trained_data_pairs_are_nearest_at_their_cosine():
    image, text, _ = make_inputs(Case(N=200, D=512, data="trained"))
    similarity = image @ text.T
    assert torch.equal(similarity.argmax(1), torch.arange(200))
    assert torch.equal(similarity.argmax(0), torch.arange(200))
    # |image + 0.5 noise| is about sqrt(1.25): the cosine is 1 / sqrt(1.25) = 0.894.
    assert abs(similarity.diagonal().mean() - 0.894) < 0.01


def test_random_data_has_no_pairs():
    image, text, _ = make_inputs(Case(N=200, D=512))
    assert abs((image * text).sum(1).mean()) < 0.02


def test_trained_data_at_scale_100_has_subnormal_probabilities():
    image, text, scale = make_inputs(Case(N=256, D=512, data="trained"))
    probability = torch.softmax((scale * image @ text.T).double(), dim=1)
    assert ((probability > 0) & (probability < torch.finfo(torch.float32).tiny)).any()


def test_cone_data_are_all_similar():
    image, text, _ = make_inputs(Case(N=64, D=128, data="cone"))
    assert (image @ text.T).min() > 0.5


def test_adversarial_data_span_opposite_row_maxima():
    image, text, _ = make_inputs(Case(N=64, D=128, data="adversarial"))
    maxima = (image @ text.T).amax(1)
    assert maxima.min() < -0.9 and maxima.max() > 0.9


@pytest.mark.parametrize("shape", RECTANGLES, ids=str)
def test_make_features_pairs_stand_at_the_offset(shape):
    rows, cols = make_features(shape._replace(D=256), "trained")
    assert rows.shape == (shape.M, 256) and cols.shape == (shape.N, 256)
    paired = {
        (i, i + shape.positives.offset)
        for i in range(shape.M)
        if 0 <= i + shape.positives.offset < shape.N
    }
    close = {tuple(pair) for pair in (rows @ cols.T > 0.7).nonzero().tolist()}
    assert close == paired


def test_named_shapes_have_distinct_names():
    for shapes in (RAGGED, RECTANGLES):
        assert len({str(shape) for shape in shapes}) == len(shapes)


def test_make_inputs_unknown_data_raises_with_the_known_names():
    with pytest.raises(ValueError, match=r"random.*got 'shuffled'"):
        make_inputs(Case(N=2, data="shuffled"))
