"""What a run is evaluated by after its epochs: retrieval, and zero-shot classification."""

import contextlib
import functools
from collections.abc import Callable

from torch import nn

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.loading.loader import PairLoader
from fastclip.distributed.processes import Processes
from fastclip.evaluate.evaluator import Evaluator
from fastclip.evaluate.metrics import repeats
from fastclip.train.run.evaluation_data import EvaluationData
from fastclip.train.settings.evaluation_config import EvaluationConfig
from fastclip.train.weights.sharding import gathered


class RunEvaluation:
    """Evaluates models after the epochs in which that is due, all ranks together.

    Args:
        data: on which it evaluates.
        evaluator: for models of the precision that is evaluated.
        say: called with metrics, and with what there is to say about the data.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        data: EvaluationData,
        evaluator: Evaluator,
        processes: Processes,
        say: Callable[[str], None],
    ) -> None:
        self._config, self._data, self._evaluator = config, data, evaluator
        self._processes, self._say = processes, say

    def after_epoch(
        self, model: nn.Module, epoch: int, is_last: bool
    ) -> tuple[dict[str, float], BadSamples]:
        """Metrics of what is due after an epoch, and the account of its data, on the first rank.

        Args:
            model: is left in evaluation mode.
            epoch: the number of epochs that are done.
            is_last: no other epoch follows, so that everything is due.
        """
        data, config = self._data, self._config
        model.eval()
        metrics, bad = {}, BadSamples()
        with gathered(model):
            if data.validation is not None and is_due(config.val_frequency, epoch, is_last):
                with contextlib.closing(data.validation_loader()) as loader:
                    metrics |= self._evaluator.retrieval(model, loader)
                if (said := repeats(metrics)) is not None:
                    self._say(f"in validation {said}")
                bad = bad.merge(account_of(loader, self._processes))
            for task in data.tasks if is_due(config.zeroshot_frequency, epoch, is_last) else ():
                with contextlib.closing(data.task_loader(task)) as loader:
                    metrics |= self._evaluator.zero_shot(model, task, loader)
                bad = bad.merge(account_of(loader, self._processes))
        if metrics:
            shown = "\t".join(f"{name}: {value:.4f}" for name, value in metrics.items())
            self._say(f"Eval Epoch: {epoch} {shown}")
            self._say(f"in validation {bad.summary()}")
        return metrics, bad


def account_of(loader: PairLoader, processes: Processes) -> BadSamples:
    """Of the bad samples of all ranks, on the first; an empty one on others."""
    accounts = processes.gather(loader.bad_samples) or []
    return functools.reduce(BadSamples.merge, accounts, BadSamples())


def is_due(frequency: int, epoch: int, is_last: bool) -> bool:
    """Is it the time, after `epoch` epochs, for what is done every `frequency` ones?

    What is done at all is done after the last epoch too; 0 is never.
    """
    return bool(frequency) and (epoch % frequency == 0 or is_last)
