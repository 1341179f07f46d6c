"""Reports the numbers of a run to TensorBoard and Weights & Biases, besides its own files.

Names are open_clip's: `train/loss`, `val/image_to_text_R@1`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from fastclip.installation import install_command
from fastclip.train.settings.output_config import LogConfig


class Reporter(ABC):
    """Receives the numbers of steps and of evaluations."""

    @abstractmethod
    def step(self, values: Mapping[str, float], step: int) -> None: ...

    @abstractmethod
    def evaluation(self, values: Mapping[str, float], epoch: int, step: int) -> None:
        """Report the metrics of an evaluation.

        Args:
            epoch: number of finished epochs.
            step: number of finished optimiser steps.
        """

    @abstractmethod
    def close(self) -> None: ...


class TensorBoard(Reporter):
    """Writes event files into `directory`.

    Raises:
        ModuleNotFoundError: `tensorboard` is not installed.
    """

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise _missing("tensorboard") from error
        self.writer = SummaryWriter(str(directory / "tensorboard"))

    def step(self, values: Mapping[str, float], step: int) -> None:
        self._add("train", values, step)

    def evaluation(self, values: Mapping[str, float], epoch: int, step: int) -> None:
        self._add("val", values, epoch)

    def close(self) -> None:
        self.writer.close()

    def _add(self, prefix: str, values: Mapping[str, float], number: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{prefix}/{name}", value, number)


class WeightsAndBiases(Reporter):
    """Logs to the Weights & Biases run of the same name.

    Args:
        settings: all settings of the run.
        is_resumed: an older run of this name continues.

    Raises:
        ModuleNotFoundError: `wandb` is not installed.
        RuntimeError: Weights & Biases refuses, for example because a login is missing.
    """

    def __init__(
        self,
        config: LogConfig,
        directory: Path,
        settings: Mapping[str, object],
        is_resumed: bool,
    ) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise _missing("wandb") from error
        try:
            self.run = wandb.init(
                project=config.wandb_project_name, name=config.name, id=config.name,
                notes=config.wandb_notes or None, config=dict(settings), dir=str(directory),
                resume="allow" if is_resumed else None,
            )  # fmt: skip
        except wandb.Error as error:
            raise RuntimeError(f"--report-to wandb: {error}") from error

    def step(self, values: Mapping[str, float], step: int) -> None:
        self.run.log({f"train/{name}": value for name, value in values.items()}, step=step)

    def evaluation(self, values: Mapping[str, float], epoch: int, step: int) -> None:
        named = {f"val/{name}": value for name, value in values.items()}
        self.run.log({**named, "epoch": epoch}, step=step)

    def close(self) -> None:
        self.run.finish()


def make_reporters(
    config: LogConfig, directory: Path, settings: Mapping[str, object], is_resumed: bool = False
) -> list[Reporter]:
    """Make the reporters of `config.report_to`; see `WeightsAndBiases` for the arguments.

    Raises:
        ModuleNotFoundError: the package of a reporter is not installed.
        RuntimeError: a reporter refuses.
    """
    makers = {
        "tensorboard": lambda: TensorBoard(directory),
        "wandb": lambda: WeightsAndBiases(config, directory, settings, is_resumed),
    }
    return [makers[name]() for name in config.reporters]


def _missing(package: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"--report-to {package} needs this package: {install_command('train', package)}"
    )
