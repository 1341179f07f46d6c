"""A training run: model, data and optimiser, step after step, until it is done or told to stop.

A run is a function of its settings: killed at any moment and resumed, it ends with the parameters
of the run that was not, on a CPU to the bit. What is needed for that is in every checkpoint: the
model, the optimiser, the step, and of each rank its place in the data, its random numbers and what
it has measured.
"""

import signal
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastclip.data.loading.loader import PairLoader
from fastclip.data.pixels import standardize
from fastclip.data.sources.opening import open_source
from fastclip.losses.clip import ClipLoss
from fastclip.losses.siglip import SigLipLoss
from fastclip.models.open_clip_config import to_json
from fastclip.train.checkpoint_store import CheckpointStore
from fastclip.train.config import TrainConfig
from fastclip.train.evaluation import evaluate_retrieval
from fastclip.train.optim import make_optimizer
from fastclip.train.random_state import RandomState
from fastclip.train.ranks import Ranks
from fastclip.train.run_config import RunConfig
from fastclip.train.run_log import RunLog, step_line
from fastclip.train.run_model import RunModel, make_model
from fastclip.train.schedule import learning_rate_at
from fastclip.train.step import CachedStep, StepResult

FLOAT16 = ("amp", "amp_fp16")  # with scaled gradients; "amp" is open_clip's name of it
STOPPED = 143  # 128 + SIGTERM: what a shell says of a process that was told to stop


class Run:
    """Everything of a run on one rank.

    Args:
        config: the same on all ranks.
        directory: of the run; only the first rank writes.

    Raises:
        ValueError, OSError, RuntimeError: model, data or a checkpoint cannot be used as told.
    """

    def __init__(self, config: RunConfig, ranks: Ranks, directory: Path, log: RunLog) -> None:
        self.config, self.ranks, self.log = config, ranks, log
        self.arithmetic = config.arithmetic(ranks.world_size)
        torch.manual_seed(config.seed)
        self.made: RunModel = make_model(config)
        self.model = self.made.model.to(ranks.device)
        self._open_data()
        self.train_config = self._train_config()
        self.optimizer = make_optimizer(self.model, self.train_config)
        wrapped: nn.Module = self.model
        if ranks.world_size > 1:
            devices = [ranks.device] if ranks.device.type == "cuda" else None
            wrapped = DistributedDataParallel(self.model, device_ids=devices)
        self.scaler = (
            torch.amp.GradScaler(ranks.device.type) if config.precision in FLOAT16 else None
        )
        self.compute = CachedStep(
            wrapped, self._loss(), self.arithmetic.micro_batch_size, config.activation_budget,
            autocast=self.autocast, scaler=self.scaler, prepare=self.prepare,
        )  # fmt: skip
        self.store = CheckpointStore(directory / "checkpoints", config.keep_last)
        self.epoch = self.global_step = 0
        self.saved_at = time.monotonic()
        self.stop_asked = False
        torch.manual_seed(config.seed + 1 + ranks.rank)  # other dropout on every rank

    def train(self) -> int:
        """Train to the end, or until SIGTERM or SIGINT; return the exit status."""
        self.model.train()
        handlers = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            while self.epoch < self.config.epochs:
                if not self._train_epoch():
                    return STOPPED
                self.epoch += 1
                self._after_epoch()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self.loader.close()
        return 0

    def resume(self, path: str) -> None:
        """Go to where a checkpoint was written; "latest" is the newest whole one of this run.

        Raises:
            ValueError: it is of a run with other settings.
            FileNotFoundError: there is no checkpoint at `path`.
        """
        if path == "latest":
            found = self.store.newest(self.log.warn)
            if found is None:
                self.log.say("nothing to resume: starting")
                return
            path, content = str(found.path), found.content
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
        if "ranks" not in content:
            raise ValueError(f"{path} is not of `fastclip train`: start from it with --pretrained")
        if len(content["ranks"]) != self.ranks.world_size:
            raise ValueError(
                f"{path} is of {len(content['ranks'])} ranks, this run has {self.ranks.world_size}"
            )
        self.model.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(content["scaler"])
        self.epoch, self.global_step = content["epoch"], content["global_step"]
        own = content["ranks"][self.ranks.rank]
        self.loader.load_state_dict(own["loader"])
        self.compute.load_state_dict(own["compute"])
        RandomState(own["random_cpu"], own["random_device"]).restore()
        self.log.say(f"resumed from {path}, after step {self.global_step}")

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 pixels on the host to standardised ones on the device."""
        pixels = images.to(self.ranks.device, non_blocking=True)
        return standardize(pixels, self.made.mean, self.made.std)

    def autocast(self) -> AbstractContextManager:
        precision = self.config.precision or (
            "amp_bf16" if self.ranks.device.type == "cuda" else "fp32"
        )
        if precision == "fp32":
            return nullcontext()
        dtype = torch.float16 if precision in FLOAT16 else torch.bfloat16
        return torch.autocast(self.ranks.device.type, dtype)

    def _train_epoch(self) -> bool:
        """The rest of an epoch; False if it was told to stop, and has saved."""
        losses, data_seconds, started = [], 0.0, time.perf_counter()
        num = self.arithmetic.num_micro_batches
        batches: list[tuple[Tensor, Tensor]] = []
        for images, tokens, _ in self.loader:
            batches.append((images, tokens.to(self.ranks.device, non_blocking=True)))
            if len(batches) < num:
                continue
            data_seconds = time.perf_counter() - started
            result = self._step(batches)
            batches = []
            losses.append(result.loss.item())
            self._log_step(result, losses, data_seconds, time.perf_counter() - started)
            if not self._save_if_due():
                return False
            started = time.perf_counter()
        return True

    def _step(self, batches: list[tuple[Tensor, Tensor]]) -> StepResult:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.global_step, self.train_config)
        self.optimizer.zero_grad()
        result = self.compute.over(batches)
        if not torch.isfinite(result.loss):
            raise FloatingPointError(
                f"the loss of step {self.global_step + 1} is {result.loss.item()}; the last "
                "checkpoint is from before it; lower --lr"
            )
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if self.config.grad_clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.model.clamp_logit_scale()
        self.global_step += 1
        return result

    def _log_step(
        self, result: StepResult, losses: list[float], data_seconds: float, seconds: float
    ) -> None:
        in_epoch = self.global_step - self.epoch * self.steps_per_epoch
        is_last = in_epoch == self.steps_per_epoch
        if in_epoch % self.config.log_every_n_steps and not is_last and in_epoch != 1:
            return
        size = self.arithmetic.global_batch_size
        rate = learning_rate_at(self.global_step - 1, self.train_config)
        scale, mean = result.logit_scale.item(), sum(losses) / len(losses)
        self.log.say(
            step_line(
                self.epoch, in_epoch * size, self.steps_per_epoch * size, data_seconds, seconds,
                size, self.ranks.world_size, rate, scale, losses[-1], mean, self.ranks.device,
            )
        )  # fmt: skip
        values = {
            "loss": losses[-1], "contrastive_loss": losses[-1], "lr": rate, "scale": scale,
            "data_time": data_seconds, "batch_time": seconds, "samples_per_second": size / seconds,
        }  # fmt: skip
        self.log.scalars("train", values, self.global_step)

    def _save_if_due(self) -> bool:
        """Save where it is time to, on all ranks at once; False if the run is to stop."""
        config = self.config
        every, minutes = config.save_every_steps, config.save_every_minutes
        due = every is not None and self.global_step % every == 0
        if minutes is not None and self.ranks.is_first:
            due = due or time.monotonic() - self.saved_at > 60 * minutes
        due, stop = self.ranks.any([due, self.stop_asked])
        # The end of an epoch saves for itself.
        if stop or (due and self.global_step % self.steps_per_epoch):
            self._save()
        if stop:
            self.log.say(f"told to stop: saved after step {self.global_step}; --resume latest")
        return not stop

    def _after_epoch(self) -> None:
        frequency = self.config.save_frequency
        is_last = self.epoch == self.config.epochs
        keep = bool(frequency) and self.epoch % frequency == 0
        self._save(self.epoch if keep or is_last else None)
        bad = self.loader.bad_samples
        self.log.say(f"epoch {self.epoch - 1} is through; {bad.summary()}")
        values: dict[str, Any] = {"epoch": self.epoch, "global_step": self.global_step}
        values["bad_samples"] = bad.to_dict()
        frequency = self.config.val_frequency
        if self.val_source is not None and frequency and self.epoch % frequency == 0:
            metrics = evaluate_retrieval(
                self.model, self._val_loader(), self.ranks, self.prepare, self.autocast
            )
            if metrics is not None:
                values |= metrics
                shown = "\t".join(f"{k}: {v:.4f}" for k, v in metrics.items())
                self.log.say(f"Eval Epoch: {self.epoch} {shown}")
                self.log.scalars("val", metrics, self.epoch)
        self.log.result(values)

    def _save(self, epoch: int | None = None) -> None:
        state = RandomState.now()
        own = {
            "loader": self.loader.state_dict(),
            "compute": self.compute.state_dict(),
            "random_cpu": state.cpu,
            "random_device": state.device,
        }
        ranks = self.ranks.gather(own)
        if ranks is not None:
            content = {
                "epoch": self.epoch,
                "name": self.config.name,
                "state_dict": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "global_step": self.global_step,
                "samples_seen": self.global_step * self.arithmetic.global_batch_size,
                "config": self.config.to_dict(),
                "model_config": to_json(self.model.config),
                "ranks": ranks,
            }
            if self.scaler is not None:
                content["scaler"] = self.scaler.state_dict()
            self.store.save(content, self.global_step, epoch)
        self.saved_at = time.monotonic()

    def _ask_to_stop(self, number: int, frame: object) -> None:
        self.stop_asked = True

    def _loss(self) -> nn.Module:
        settings = {"backend": self.config.backend, "schedule": self.config.loss_schedule}
        return SigLipLoss(**settings) if self.config.siglip else ClipLoss(**settings)

    def _open_data(self) -> None:
        config, made = self.config, self.made
        columns = {
            "separator": config.csv_separator,
            "image_key": config.csv_img_key,
            "caption_key": config.csv_caption_key,
            "image_size": made.model.config.vision_cfg.image_size,
        }
        source = open_source(
            config.train_data, config.dataset_type, num_samples=config.train_num_samples, **columns
        )
        num_samples = config.train_num_samples or source.num_samples()
        if num_samples is None:
            raise ValueError("the data does not say how many samples it has: --train-num-samples")
        self.steps_per_epoch = num_samples // self.arithmetic.global_batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"{num_samples:,} samples are fewer than one batch of "
                f"{self.arithmetic.global_batch_size:,}"
            )
        self.loader = PairLoader(
            source, made.train_transform, made.tokenizer,
            batches_per_epoch=self.steps_per_epoch * self.arithmetic.num_micro_batches,
            **self._loading(),
        )  # fmt: skip
        self.val_source = None
        if config.val_data is not None:
            self.val_source = open_source(config.val_data, **columns)

    def _loading(self) -> dict[str, Any]:
        config = self.config
        return {
            "batch_size": self.arithmetic.micro_batch_size,
            "seed": config.seed,
            "rank": self.ranks.rank,
            "world_size": self.ranks.world_size,
            "num_workers": config.workers,
            "shuffle_buffer": config.shuffle_buffer,
            "max_bad_rate": config.max_bad_rate,
        }

    def _val_loader(self) -> PairLoader:
        settings = self._loading() | {"shuffle_buffer": 1, "drop_last": False}
        made = self.made
        return PairLoader(self.val_source, made.val_transform, made.tokenizer, **settings)

    def _train_config(self) -> TrainConfig:
        config = self.config
        steps = config.epochs * self.steps_per_epoch
        warmup = min(config.warmup, steps)
        cooldown = (config.epochs_cooldown or 0) * self.steps_per_epoch
        return TrainConfig(
            batch_size=self.arithmetic.global_batch_size, steps=steps, warmup_steps=warmup,
            learning_rate=config.lr, weight_decay=config.wd, beta1=config.beta1,
            beta2=config.beta2, eps=config.eps, lr_scheduler=config.lr_scheduler,
            lr_cooldown_steps=min(cooldown, steps - warmup),
            lr_cooldown_power=config.lr_cooldown_power, lr_cooldown_end=config.lr_cooldown_end,
        )  # fmt: skip
