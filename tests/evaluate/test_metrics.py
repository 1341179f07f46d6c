"""The numbers of an evaluation: functions of features alone, to the names that runs write."""

import pytest
import torch
import torch.nn.functional as F

from fastclip.evaluate.metrics import repeats, retrieval_metrics
from fastclip.evaluate.ranking import recall_at, retrieval


def test_retrieval_metrics_are_those_of_ranks_and_of_the_dense_loss():
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(40, 8, generator=generator))
    texts = F.normalize(images + torch.randn(40, 8, generator=generator))
    image_ids, text_ids = [i // 2 for i in range(40)], [min(i, 35) for i in range(40)]
    found = retrieval_metrics(
        images, texts, torch.tensor(20.0), image_ids=image_ids, text_ids=torch.tensor(text_ids)
    )
    logits, own = 20 * images @ texts.T, torch.arange(40)
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    ranks = retrieval(images, texts, image_ids=image_ids, text_ids=text_ids)
    expected = {"clip_val_loss": loss, "num_samples": 40, "num_images": 20, "num_texts": 36}
    for direction, values in ranks._asdict().items():
        middle = values.sort().values[[len(values) // 2 - 1, len(values) // 2]]
        expected |= {
            f"{direction}_mean_rank": values.sum() / len(values),
            f"{direction}_median_rank": middle.sum() // 2,
            **{f"{direction}_R@{k}": recall_at(k, values) for k in (1, 5, 10)},
        }
    assert found == pytest.approx({name: float(value) for name, value in expected.items()})
    assert list(found) == [
        f"{direction}_{name}"
        for direction in ("image_to_text", "text_to_image")
        for name in ("mean_rank", "median_rank", "R@1", "R@5", "R@10")
    ] + ["clip_val_loss", "num_samples", "num_images", "num_texts"]
    assert repeats(found).startswith("the 40 pairs have 20 different images and 36 different texts")
