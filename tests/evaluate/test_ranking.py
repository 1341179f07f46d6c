import warnings

import pytest
import torch
import torch.nn.functional as F

from fastclip.evaluate.ranking import nearest, ranks, recall_at, retrieval


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
    found = retrieval(image_features, text_features, image_ids=range(3))
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


def brute_force(queries, gallery, matches):
    """For each query, the rank of its best match, and of the rest what is at least as near."""
    found = []
    for query, own in zip(queries.double(), matches, strict=True):
        scores = (gallery.double() @ query).tolist()
        best = max(scores[j] for j in own)
        found.append(1 + sum(scores[j] >= best for j in range(len(gallery)) if j not in own))
    return found


@pytest.mark.parametrize("chunk", [1, 4, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_any_caption_of_an_image_and_any_image_of_a_caption_is_a_hit(chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    images, texts = features(12, 6, seed), features(15, 6, seed + 100)
    image_of = torch.cat([torch.arange(12), torch.randint(12, (18,), generator=generator)])
    text_of = torch.cat([torch.arange(15), torch.randint(15, (15,), generator=generator)])
    order = torch.randperm(30, generator=generator)
    image_of, text_of = image_of[order], text_of[order]
    names = [f"image {i}" for i in image_of.tolist()]
    found = retrieval(images[image_of], texts[text_of], chunk, image_ids=names, text_ids=text_of)
    texts_of = [set(text_of[image_of == i].tolist()) for i in range(12)]
    images_of = [set(image_of[text_of == i].tolist()) for i in range(15)]
    first_seen = list(dict.fromkeys(image_of.tolist()))
    expected = torch.tensor(brute_force(images, texts, texts_of))[first_seen]
    assert found.image_to_text.tolist() == expected.tolist()
    expected = torch.tensor(brute_force(texts, images, images_of))[text_of]
    assert found.text_to_image.tolist() == expected.tolist()


@pytest.mark.parametrize("num_captions", [2, 5, (1, 7, 3, 5, 1)])
def test_recall_with_several_captions_is_that_of_clip_benchmark(num_captions):
    """Its definition, with dense scores: 1 if one of the matches is among the K best."""
    repeats = torch.tensor(num_captions).expand(5) if isinstance(num_captions, int) else None
    repeats = torch.tensor(num_captions) if repeats is None else repeats
    image_of = torch.arange(60).repeat_interleave(repeats.repeat(12))
    images = features(60, 16, 0)
    texts = F.normalize(images[image_of] + 1.6 * features(len(image_of), 16, 1))
    found = retrieval(images[image_of], texts, image_ids=image_of)
    scores, matches = texts @ images.T, F.one_hot(image_of, 60).bool()
    for k in (1, 5, 10):
        for ranks_found, score, match in (
            (found.text_to_image, scores, matches), (found.image_to_text, scores.T, matches.T)
        ):  # fmt: skip
            hits = match.gather(1, score.topk(k).indices).any(1)
            assert recall_at(k, ranks_found) == pytest.approx(hits.double().mean().item())
    assert len(found.image_to_text) == 60 and len(found.text_to_image) == len(image_of)
    assert 0.1 < recall_at(1, found.text_to_image) < 0.9


def test_a_perfect_model_finds_all_captions_of_equal_images_and_that_is_said():
    images = features(100, 64, 0).repeat_interleave(5, 0)
    texts = F.normalize(images + 0.02 * features(500, 64, 1))
    with pytest.warns(UserWarning, match="400 of 500 rows of image_features") as warned:
        found = retrieval(images, texts)
    assert warned[0].filename == __file__  # the line that called it
    assert recall_at(1, found.image_to_text) == recall_at(1, found.text_to_image) == 1
    with pytest.warns(UserWarning, match="400 of 500 rows of text_features"):
        found = retrieval(texts, images)  # one text of five images
    assert recall_at(1, found.image_to_text) == recall_at(1, found.text_to_image) == 1
    assert (len(found.image_to_text), len(found.text_to_image)) == (500, 500)


def test_a_collapsed_model_finds_nothing_with_names_and_without():
    point, others = features(1, 8, 0).expand(60, 8), features(60, 8, 1)
    names = torch.arange(20).repeat_interleave(3)
    for images, texts in ((point, point), (point, others), (others, point)):
        for ids in (None, names):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = retrieval(images, texts, image_ids=ids)
            # With other texts than images, the captions of one image may be best by chance.
            assert (
                recall_at(5, found.text_to_image if texts is others else found.image_to_text) == 0
            )
    points = features(4, 8, 2).repeat(15, 1)  # collapsed to four points, images and texts alike
    found = retrieval(points, points)
    assert recall_at(10, found.image_to_text) == recall_at(10, found.text_to_image) == 0


def test_rows_that_are_not_numbers_are_no_hit_and_no_repeats():
    images, texts = features(6, 4, 0), features(6, 4, 1)
    images[1] = images[4] = float("nan")
    found = retrieval(images, texts)
    assert found.image_to_text[[1, 4]].tolist() == [6, 6] and len(found.image_to_text) == 6


def test_names_must_be_one_per_pair():
    with pytest.raises(ValueError, match="text_ids must have 3 ids, one per pair, got 2"):
        retrieval(torch.eye(3), torch.eye(3), text_ids=["a", "b"])


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
