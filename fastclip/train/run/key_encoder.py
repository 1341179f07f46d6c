"""The encoder of a queue's keys: an average of the model, which follows it and is not trained.

A step compares its pairs with keys of many steps. A trained model changes from step to step, but
its average changes little, so that nearly the same encoder has made all keys.

Source: He et al. 2020, arXiv:1911.05722 (MoCo); Li et al. 2021, arXiv:2107.07651 (ALBEF).
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from torch import Tensor

from fastclip.train.run.encode_pairs import encode_pairs
from fastclip.train.weights.average import WeightAverage
from fastclip.train.weights.sharding import gathered


class KeyEncoder:
    """Makes the keys of a step, micro-batch by micro-batch, once and without a gradient.

    The average encodes in evaluation mode, without dropout and with the running statistics of
    batch normalisation.

    Args:
        average: on the device of the run, with the weights that the run begins with;
            `OptimizerStep` updates it after each step.
        prepare: turns pixels into the images that the average takes.
        autocast: makes the context of a forward.
    """

    def __init__(
        self,
        average: WeightAverage,
        prepare: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager],
    ) -> None:
        self.average = average
        average.module.eval()
        self._prepare, self._autocast = prepare, autocast

    def __call__(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return the (B, D) keys of all pairs in their order, under the names of `of_queues`.

        Args:
            pairs: micro-batches of images, uint8 on the host, and tokens.
        """
        model = self.average.module
        with gathered(model):
            found = encode_pairs(model, pairs, self._prepare, self._autocast)
        return {"image_keys": found["image_features"], "text_keys": found["text_features"]}
