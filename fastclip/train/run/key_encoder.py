"""The encoder of the keys of a queue: an average of the model that follows it, and is not trained.

Keys of many steps are compared with each other. A trained model changes from step to step; an
average of it changes little, and so its keys are of nearly one encoder.

Source: He et al. 2020, arXiv:1911.05722 (MoCo); Li et al. 2021, arXiv:2107.07651 (ALBEF).
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from torch import Tensor

from fastclip.train.run.encode_pairs import encode_pairs
from fastclip.train.weights.average import WeightAverage
from fastclip.train.weights.sharding import gathered


class KeyEncoder:
    """Makes the keys of a step, micro-batch by micro-batch: once, and without a gradient.

    It encodes as an evaluation does, without dropout and with the averages of the statistics of
    batch normalisation.

    Args:
        average: on the device of the run, with the weights that the run begins with; who takes the
            steps brings it up to date after each.
        prepare: turns images into those that the average takes.
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
        """What `of_queues` is called with by name: keys (B, D) of all pairs in their order.

        Args:
            pairs: micro-batches of images, uint8 on the host, and tokens.
        """
        model = self.average.module
        with gathered(model):
            found = encode_pairs(model, pairs, self._prepare, self._autocast)
        return {"image_keys": found["image_features"], "text_keys": found["text_features"]}
