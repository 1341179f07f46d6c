import pytest
import torch
import torch.nn.functional as F

from fastclip.evaluate.retrieval import nearest, ranks, recall_at, retrieval


def brute_force_ranks(queries, gallery):
    found = []
    for i, query in enumerate(queries.double()):
        own = float(query @ gallery[i].double())
        found.append(1 + sum(float(query @ other.double()) >= own
                             for j, other in enumerate(gallery) if j != i))  # fmt: skip
    return found


def features(num, dim, seed):
    return F.normalize(torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("chunk", [1, 7, 33, 1000])
def test_ranks_match_brute_force_at_any_chunk(chunk):
    text_features = features(33, 8, 0)
    image_features = F.normalize(text_features + 1.2 * features(33, 8, 1))
    found = retrieval(image_features, text_features, chunk)
    assert found.image_to_text.tolist() == brute_force_ranks(image_features, text_features)
    assert found.text_to_image.tolist() == brute_force_ranks(text_features, image_features)
    assert found.image_to_text.unique().numel() > 3  # hard enough to tell ranks apart


def test_directions_are_not_confused():
    image_features = torch.eye(3)[[0, 0, 2]]
    text_features = torch.eye(3)
    found = retrieval(image_features, text_features)
    assert found.image_to_text.tolist() == [1, 3, 1]  # image 1 ties with text 2, loses to text 0
    assert found.text_to_image.tolist() == [2, 3, 1]  # all images are orthogonal to text 1


def test_ties_count_against_the_match():
    collapsed = features(1, 33, 0).expand(100, 33)
    found = retrieval(collapsed, collapsed, chunk=7)
    assert (found.image_to_text == 100).all()
    assert recall_at(5, found.image_to_text) == 0


@pytest.mark.parametrize("num", [5, 17, 64, 130])
@pytest.mark.parametrize("dim", [3, 47, 200])
def test_duplicates_tie_exactly_wherever_they_stand(num, dim):
    """A matrix product may sum its last columns in another order than the others."""
    gallery = features(num, dim, 0)
    gallery[-1] = gallery[0]
    found = ranks(gallery.clone(), gallery, chunk=num)
    assert found[0] == 2
    assert found[-1] == 2
    assert (found[1:-1] == 1).all()


def test_recall_counts_ranks_up_to_k():
    found = torch.tensor([1, 2, 5, 6])
    assert [recall_at(k, found) for k in (1, 5, 10)] == [0.25, 0.75, 1.0]


def test_nearest_returns_the_best_match_at_any_chunk():
    queries, gallery = features(20, 6, 0), features(30, 6, 1)
    expected = [(gallery @ query).argmax().item() for query in queries]
    for chunk in (1, 7, 100):
        assert nearest(queries, gallery, chunk).tolist() == expected


@pytest.mark.parametrize(
    "image_shape, text_shape, chunk, message",
    [
        ((3, 4), (2, 4), 8, "must both be"),
        ((3,), (3,), 8, "must both be"),
        ((0, 4), (0, 4), 8, "at least one pair"),
        ((3, 4), (3, 4), 0, "chunk"),
    ],
)
def test_retrieval_rejects(image_shape, text_shape, chunk, message):
    with pytest.raises(ValueError, match=message):
        retrieval(torch.ones(image_shape), torch.ones(text_shape), chunk)
