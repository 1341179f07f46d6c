"""`fastclip.evaluate.retrieval`: ranks by construction, parity with CLIP_benchmark, intervals."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from clip_benchmark.metrics.zeroshot_retrieval import recall_at_k

from fastclip.evaluate import ranking, retrieval, wilson


def features(num, dim, seed):
    return F.normalize(torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def captioned(num_images, num_texts, noise=1.2):
    """Images and texts near them, of which each image has one at least, in any order."""
    generator = torch.Generator().manual_seed(0)
    image_of = torch.cat(
        [torch.arange(num_images), torch.randint(num_images, (num_texts - num_images,),
                                                 generator=generator)]
    )[torch.randperm(num_texts, generator=generator)]  # fmt: skip
    images = features(num_images, 16, 1)
    return images, F.normalize(images[image_of] + noise * features(num_texts, 16, 2)), image_of


@pytest.mark.parametrize("block", [1, 100, 2**24])
@pytest.mark.parametrize("num_texts", [40, 170])
def test_recalls_are_those_of_clip_benchmark(num_texts, block, monkeypatch):
    monkeypatch.setattr("fastclip.evaluate.scores.arguments.MAX_BLOCK", block)
    images, texts, image_of = captioned(40, num_texts)
    found = retrieval(images, texts, image_of, recall_at=(1, 3, 10))
    scores, pairs = texts @ images.T, F.one_hot(image_of, 40).bool()
    for k in (1, 3, 10):
        for name, values, truth in (("image", scores, pairs), ("text", scores.T, pairs.T)):
            expected = (recall_at_k(values, truth, k) > 0).double().mean().item()
            assert found.metrics[f"{name}_retrieval_recall@{k}"] == pytest.approx(expected)
    assert 0.2 < found.metrics["image_retrieval_recall@1"] < 0.9
    assert found.to_dict()["ties"] == {"image_to_text": 0, "text_to_image": 0}


def test_names_of_both_peers_mean_the_same_and_ranks_are_open_clips():
    images, texts, image_of = captioned(30, 75)
    found = retrieval(images, texts, image_of)
    metrics = found.metrics
    for k in (1, 5, 10):
        assert metrics[f"text_retrieval_recall@{k}"] == metrics[f"image_to_text_R@{k}"]
        assert metrics[f"image_retrieval_recall@{k}"] == metrics[f"text_to_image_R@{k}"]
    order = (texts @ images.T).argsort(1, descending=True)
    expected = 1 + (order == image_of[:, None]).int().argmax(1)
    assert found.text_to_image.ranks.tolist() == expected.tolist()
    assert metrics["text_to_image_mean_rank"] == pytest.approx(expected.double().mean().item())
    assert metrics["text_to_image_median_rank"] == expected.sort().values[37]
    assert metrics["image_to_text_R@1"] != metrics["text_to_image_R@1"]
    assert len(metrics) == 2 * (2 * 3 + 2)


def test_ranks_of_grid_values_are_exact_and_ties_are_counted():
    """Rows of halves: sums are exact, and what is equal is equal."""
    images = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 1]])
    texts = torch.tensor(
        [[1.0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 0.5], [0, 0, 1, 0]]
    )
    found = retrieval(images, texts, [0, 0, 1, 2, 3, 3], recall_at=(1, 2))
    # The similarities, of images by texts:
    #   1   0   1   0    0   0      the best of its own, 1, ties with text 2
    #   0   0   1   .5   0   0      its own is best
    #   .5  0   1   .25  0   0      its own is third
    #   0   1   0   0    .5  0      its best own is second
    assert found.image_to_text.ranks.tolist() == [2, 1, 3, 2]
    assert found.image_to_text.ties.tolist() == [1, 0, 0, 0]
    assert found.text_to_image.ranks.tolist() == [1, 4, 3, 2, 1, 4]
    assert found.text_to_image.ties.tolist() == [0, 2, 2, 0, 0, 3]
    rates = found.rates
    assert (rates["image_to_text_R@1"].hits, rates["image_to_text_R@1"].ties) == (1, 1)
    assert (rates["image_to_text_R@2"].hits, rates["image_to_text_R@2"].ties) == (3, 0)
    # Text 1 has its image after image 3 at best; texts 2 and 5 would be first.
    assert (rates["text_to_image_R@1"].hits, rates["text_to_image_R@1"].ties) == (2, 2)
    assert (rates["text_to_image_R@2"].hits, rates["text_to_image_R@2"].ties) == (3, 3)
    assert found.to_dict()["ties"] == {"image_to_text": 1, "text_to_image": 3}


def test_ties_in_the_models_favour_would_be_seen(monkeypatch):
    point = features(1, 8, 0).expand(12, 8)
    assert retrieval(point, point, range(12)).metrics["image_to_text_R@10"] == 0
    monkeypatch.setattr(ranking, "counts_against", lambda near, best: near > best[:, None])
    assert retrieval(point, point, range(12)).metrics["image_to_text_R@1"] == 1


def test_any_text_of_an_image_is_a_hit_and_not_the_share_of_them():
    images = torch.eye(3)
    texts = torch.eye(3)[[0, 1, 1, 1, 2]]  # of image 0 one text is right, of 1 all, of 2 none
    found = retrieval(images, texts, [0, 0, 1, 1, 1], recall_at=(1, 2))
    assert found.metrics["text_retrieval_recall@1"] == 0.5  # image 1 ties with a text of image 0
    assert found.rates["text_retrieval_recall@1"].ties == 1
    assert found.images_without_text == 1 and found.rates["text_retrieval_recall@1"].n == 2
    assert found.metrics["image_retrieval_recall@1"] == 0.6
    assert found.image_to_text.image_of.tolist() == [0, 1]


def test_images_without_a_text_are_searched_but_do_not_search():
    images, texts, image_of = captioned(20, 60)
    both = torch.cat([features(5, 16, 9), images])
    found = retrieval(both, texts, image_of + 5)
    assert (found.num_images, found.images_without_text) == (25, 5)
    alone = retrieval(images, texts, image_of)
    assert torch.equal(found.image_to_text.ranks, alone.image_to_text.ranks)
    assert (found.text_to_image.ranks >= alone.text_to_image.ranks).all()
    assert (found.text_to_image.ranks > alone.text_to_image.ranks).any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_finds_nothing_even_among_few(bad):
    images, texts = torch.eye(4), torch.eye(4)
    texts = torch.cat([texts, texts[:1]])
    images[2, 0] = bad
    found = retrieval(images, texts, [0, 1, 2, 3, 0])
    assert found.non_finite_images == 1 and found.non_finite_texts == 0
    assert found.image_to_text.ranks[2] == 6 and found.text_to_image.ranks[2] == 5
    assert found.rates["text_retrieval_recall@10"].hits == 3
    assert found.rates["image_retrieval_recall@5"].hits == 4  # of few, all are found but it
    assert found.rates["image_retrieval_recall@1"].hits == 0  # it counts against all others
    texts[4, 1] = bad
    found = retrieval(torch.eye(4), texts, [0, 1, 2, 3, 0])
    assert found.non_finite_texts == 1
    assert found.text_to_image.ranks.tolist() == [1, 1, 1, 1, 5]
    assert found.image_to_text.ranks.tolist() == [6, 2, 2, 2]


def test_intervals_draw_images_with_their_texts_and_are_strict_json():
    images = features(200, 16, 0)
    image_of = torch.arange(200).repeat_interleave(5)
    is_bad = torch.arange(200) % 4 == 0
    texts = images[image_of] + 1e-3 * features(1000, 16, 1)
    texts[is_bad[image_of]] *= -1  # the texts of an image are all right or all wrong
    found = retrieval(images, texts, image_of)
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    name = "image_retrieval_recall@1"
    assert said["metrics"][name] == 0.75
    counts, interval = said["counts"][name], said["intervals"][name]
    assert (counts["hits"], counts["n"]) == (750, 1000)
    assert (counts["low"], counts["high"]) == wilson(750, 1000)
    widths = [values["high"] - values["low"] for values in (counts, interval)]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(5), rel=0.1)
    assert said["intervals"]["text_to_image_R@1"] == interval
    assert said["bootstrap"] == {"of": "images", "resamples": 2000, "seed": 0}
    assert (said["num_images"], said["num_texts"], said["images_without_text"]) == (200, 1000, 0)
    assert found.intervals(seed=3)[name] != found.intervals()[name] == tuple(interval.values())


@pytest.mark.parametrize(
    "changes, error, message",
    [
        (dict(image_features=torch.ones(3)), ValueError, r"image_features must be \(N, D\)"),
        (dict(text_features=torch.ones(0, 4)), ValueError, "text_features must be"),
        (dict(text_features=torch.ones(3, 5)), ValueError, r"same width.*\(3, 4\) and \(3, 5\)"),
        (dict(image_features=torch.ones(3, 4).int()), TypeError, "must be floating point"),
        (dict(text_to_image=[0, 1]), ValueError, "text_to_image must be 3 numbers"),
        (dict(text_to_image=[0, 1, 3]), ValueError, r"in \[0, 3\), got 3 at 2"),
        (dict(text_to_image=[0, 1, -1]), ValueError, "got -1 at 2"),
        (dict(text_to_image=[0.0, 1, 2]), TypeError, "must be integers"),
        (dict(recall_at=()), ValueError, "recall_at must be"),
        (dict(recall_at=(1, 0)), ValueError, r"recall_at must be.*\(1, 0\)"),
        (dict(recall_at=(1.5,)), TypeError, "integer"),
    ],
)
def test_retrieval_rejects(changes, error, message):
    arguments = {
        "image_features": torch.ones(3, 4), "text_features": torch.ones(3, 4),
        "text_to_image": [0, 1, 2],
    }  # fmt: skip
    retrieval(**arguments)
    with pytest.raises(error, match=message):
        retrieval(**arguments | changes)
