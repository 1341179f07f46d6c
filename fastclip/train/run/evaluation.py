"""Evaluates a run after its epochs: by retrieval, and by zero-shot classification."""

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
    """Evaluates models after the epochs in which an evaluation is due, on all ranks together.

    Args:
        data: the data to evaluate on.
        evaluator: for models of the precision that is evaluated.
        say: called with sentences about the metrics and about the data.
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
        """Run the evaluations that are due after an epoch.

        Args:
            model: is left in evaluation mode.
            epoch: the number of finished epochs.
            is_last: no other epoch follows, so that everything is due.

        Returns:
            The metrics and the account of bad samples; on ranks other than the first both are
            empty.
        """
        data, config = self._data, self._config
        model.eval()
        metrics, bad = {}, BadSamples()
        with gathered(model):
            if data.validation is not None and is_due(config.val_frequency, epoch, is_last):
                with contextlib.closing(data.validation_loader()) as loader:
                    metrics |= self._evaluator.retrieval(model, loader)
                if (said := repeats(metrics)) is not None:
                    self._say(f"in the validation data, {said}")
                bad = bad.merge(account_of(loader, self._processes))
            for task in data.tasks if is_due(config.zeroshot_frequency, epoch, is_last) else ():
                with contextlib.closing(data.task_loader(task)) as loader:
                    metrics |= self._evaluator.zero_shot(model, task, loader)
                bad = bad.merge(account_of(loader, self._processes))
        if metrics:
            shown = "\t".join(f"{name}: {value:.4f}" for name, value in metrics.items())
            self._say(f"Eval Epoch: {epoch} {shown}")
            self._say(f"in the evaluation, {bad.summary()}")
        return metrics, bad


def account_of(loader: PairLoader, processes: Processes) -> BadSamples:
    """Return the account of bad samples of all ranks on the first rank, elsewhere an empty one."""
    accounts = processes.gather(loader.bad_samples) or []
    return functools.reduce(BadSamples.merge, accounts, BadSamples())


def is_due(frequency: int, epoch: int, is_last: bool) -> bool:
    """Return whether something is due after `epoch` epochs that happens every `frequency` epochs.

    It is also due after the last epoch; with a frequency of 0 it is never due.
    """
    return bool(frequency) and (epoch % frequency == 0 or is_last)
