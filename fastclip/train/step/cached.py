"""The gradient of one loss over a batch that is too large to encode at once.

    1  encode      micro-batch by micro-batch; keep features, and the graphs of as many
                   micro-batches as the activation budget holds
    2  one loss    over all features (of all ranks): its value, its gradients w.r.t. features,
                   logit_scale and logit_bias
    3  encode again what kept no graph, with the random numbers of the first time, and go back
                   through it with the features' gradients

The sum over micro-batches in step 3 is the chain rule, nothing else: parameters get the gradient of
the plain step over the whole batch, and the scale and the bias get their gradients once, whatever
the number of micro-batches. Gradients are synchronised between ranks once, in the last backward.

    budget 0           a second forward for every micro-batch; the memory of one micro-batch
    budget unlimited   no second forward: a plain step

A second encoding that differs from the first is an error (`second_encoding.py`), because its
gradient would be wrong. Random generators and buffers are restored for the second encoding, and
are left as a plain step leaves them (`replay.py`); running statistics of batch normalisation see a
sample once. Texts are encoded without their padding if the text tower allows it (`text_order.py`).

Source: Gao et al. 2021 (GradCache), arXiv:2101.06983; the budget in between is ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from fastclip.train.memory.activation_budget import available_bytes, measure_kept, parse_budget
from fastclip.train.step.gradient_sync import (
    GradientSync,
    check_average_over,
    parameters_of,
    unwrapped,
)
from fastclip.train.step.model_call import (
    OF_SAMPLES,
    Batch,
    call,
    length,
    rows_of,
    tensors_of,
)
from fastclip.train.step.replay import Mark, Replay
from fastclip.train.step.second_encoding import (
    SecondEncodings,
    coarsest,
    objection,
    rounding_explains,
)
from fastclip.train.step.step_result import StepResult, call_loss
from fastclip.train.step.text_order import TextOrder, order_by_length
from fastclip.train.weights.sharding import is_sharded


class Encoded(NamedTuple):
    """A micro-batch after its first encoding.

    `outputs` are the model's, with their graph if `is_kept`; `mark` is the state of random
    generators and buffers before the forward.
    """

    images: Batch
    texts: Batch
    outputs: dict[str, Tensor]
    mark: Mark
    is_kept: bool


def _as_they_are(images: Batch) -> Batch:  # a named function, so that a step can be pickled
    return images


class CachedStep:
    """Computes the gradients of a loss over batches of any size; see the module.

    Args:
        model: called with (images, texts); returns (image_features, text_features, logit_scale
            [, logit_bias]) or a dict with those names, as fastclip's and open_clip's models do; or
            a model of transformers, such as `CLIPModel` and `SiglipModel`, which is called with
            pixel_values and input_ids by name. The model, or a part of it, may be wrapped in
            DistributedDataParallel, or sharded by FSDP2 with its scalars left out
            (`sharding.py`); then every rank needs equally many micro-batches.
        loss: called with (image_features, text_features, logit_scale[, logit_bias]) of the whole
            batch, and with the keyword arguments of the step's call; returns a scalar, or a dict of
            scalars that are added up. It is called once per step, and its own parameters get their
            gradients too. With a model that writes captions it is called with keyword arguments
            only, which include (B,) caption_losses and caption_tokens, see `CoCa.forward`.
        micro_batch_size: the samples that this rank encodes at once.
        activation_budget: how much memory may hold activations between the two passes: bytes,
            "20GiB", "unlimited", or "auto" for the memory that is free after the first step,
            which keeps no graph. With 0, every micro-batch is encoded twice.
        autocast: makes the context in which the model runs; the loss stays outside.
        scaler: a `torch.amp.GradScaler` for float16; gradients are then of the scaled loss.
        prepare: applied to the images of a micro-batch before each encoding, for example to move
            uint8 pixels to the device and standardise them there.
        average_over: the ranks over which gradients are averaged after the last backward, in one
            all-reduce, if neither DistributedDataParallel nor FSDP averages them. "auto" is the
            ranks of fastclip's losses (this process alone, if they have `world_size=1`), and for
            other losses all ranks of torch.distributed, if it is initialised. None leaves the
            average to the caller.

    Attributes:
        before_encoding: called without arguments before each encoding of a micro-batch, to say how
            far a step is; None calls nothing.
        num_kept: the micro-batches of the newest step that are not encoded a second time; 0 before
            the first step.

    Raises:
        TypeError: `average_over` is of the wrong type.
        ValueError: `micro_batch_size` < 1, the budget is malformed, or `average_over` is neither
            "auto" nor a group with this process.

    Example:
        >>> step = fastclip.CachedStep(model, fastclip.ClipLoss(), micro_batch_size=256)
        >>> result = step(images, tokens)  # 32,768 pairs, one loss; .grad is of the whole batch
        >>> optimizer.step()
        >>> print(float(result.loss), result.num_micro_batches)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module | Callable[..., Tensor],
        micro_batch_size: int,
        activation_budget: str | float = 0,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        scaler: torch.amp.GradScaler | None = None,
        prepare: Callable[[Batch], Batch] = _as_they_are,
        average_over: str | ProcessGroup | None = "auto",
    ) -> None:
        if micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, got {micro_batch_size}")
        check_average_over(average_over)
        self.model = model
        self.loss = loss
        self.micro_batch_size = micro_batch_size
        self.is_auto = activation_budget == "auto"
        self.budget = 0.0 if self.is_auto else parse_budget(activation_budget)
        self.autocast = autocast
        self.scaler = scaler
        self.prepare = prepare
        self.average_over = average_over
        self.before_encoding: Callable[[], None] | None = None
        self.num_kept = 0
        self.kept_bytes: int | None = None
        self._needs_grad: dict[str, bool] = {}

    def __call__(self, images: Batch, texts: Batch, **of_loss: Any) -> StepResult:
        """Add the gradients of the loss over (images, texts) to `.grad` of the parameters.

        Args:
            images: (B, ...), what `prepare` takes, on any device; or a mapping of tensors with B
                rows each, for a model that takes them by name.
            texts: (B, T) tokens, or such a mapping.
            of_loss: keyword arguments of the loss, for the whole batch in its order, such as the
                indices of the samples for a `SogCLRLoss`.

        Raises:
            ValueError: the batch is empty, or has not as many texts as images; or ranks would
                average the gradients of different parameters.
            TypeError: the model returns no features or no scale.
            RuntimeError: the second encoding of a micro-batch differs from the first by more than
                rounding explains. All ranks of the step raise it, random generators are as after a
                plain step, and `.grad` of all parameters of the model and of the loss is None.
        """
        return self.over(list(self.micro_batches(images, texts)), **of_loss)

    def over(self, batches: Sequence[tuple[Batch, Batch]], **of_loss: Any) -> StepResult:
        """Do the same for a batch that comes in micro-batches of (images, texts)."""
        num = len(batches)
        batches = list(batches)
        sync = GradientSync(self.model, self.loss, self.average_over)
        replay = Replay(unwrapped(self.model), self.prepare)
        order = order_by_length(unwrapped(self.model), [texts for _, texts in batches])
        if order is not None:
            batches = [(images, order.cut(i)) for i, (images, _) in enumerate(batches)]
        encoded = []
        if self.kept_bytes is None:
            # The texts are not cut here, in order to measure the most that a micro-batch will take.
            whole = batches[0] if order is None else (batches[0][0], order.texts[0])
            encoded = [self._measured(*whole, replay.mark(), num, sync)]
        elif self.is_auto and self.budget == 0:
            # Measured from the second step on, because AdamW has no averages before the first.
            device = next(self.model.parameters()).device
            self.budget = available_bytes(device, transient=2 * self.kept_bytes)
        num_kept = self._num_kept(num, sync)
        # One context for all: autocast converts the weights once, and graphs share the copies. Not
        # for sharded weights: only the first backward through a copy would reach them.
        together, alone = self.autocast, nullcontext
        if is_sharded(self.model):
            together, alone = alone, together
        with together(), sync.synchronised(num == 1):
            while len(encoded) < num_kept:
                images, texts = batches[len(encoded)]
                mark = replay.mark()
                with alone():
                    outputs = self._forward(self.model, images, texts)
                encoded.append(Encoded(images, texts, outputs, mark, is_kept=True))
        with self.autocast(), torch.no_grad():
            for images, texts in batches[len(encoded) :]:
                mark = replay.mark()
                outputs = self._forward(unwrapped(self.model), images, texts)
                encoded.append(Encoded(images, texts, outputs, mark, is_kept=False))
        self.num_kept = sum(e.is_kept for e in encoded)
        found = self._loss_and_gradients(encoded, order, of_loss)
        terms, value, logit_scale, gradients, stats = found
        after = replay.mark()
        try:
            compared = self._backward(encoded, gradients, replay, sync)
        finally:
            replay.go_back(after)
        self._finish(compared, encoded[0].outputs, sync)
        return StepResult(value, logit_scale, num, self.num_kept, self.kept_bytes, terms, stats)

    def state_dict(self) -> dict:
        """Return what was measured; a run that resumes with it takes the same steps to the bit."""
        return {
            "auto_budget": self.budget if self.is_auto else None,
            "kept_bytes": self.kept_bytes,
            "needs_grad": self._needs_grad,
        }

    def load_state_dict(self, state: dict) -> None:
        if self.is_auto and state["auto_budget"] is not None:
            self.budget = state["auto_budget"]
        self.kept_bytes = state["kept_bytes"]
        self._needs_grad = dict(state["needs_grad"])

    def micro_batches(self, images: Batch, texts: Batch) -> Iterator[tuple[Batch, Batch]]:
        """Cut a batch into micro-batches for `over`; raises as a call does."""
        B = length(images)
        if B == 0 or any(len(part) != B for part in tensors_of(texts)):
            raise ValueError(
                f"a batch needs as many texts as images, at least one: got {B} images and "
                f"{[len(part) for part in tensors_of(texts)]} texts"
            )
        for start in range(0, B, self.micro_batch_size):
            rows = slice(start, start + self.micro_batch_size)
            yield rows_of(images, rows), rows_of(texts, rows)

    def _num_kept(self, num_micro_batches: int, sync: GradientSync) -> int:
        if self.kept_bytes == 0:  # nothing is trained
            return 0
        affordable = min(self.budget / self.kept_bytes, num_micro_batches)
        if sync.is_replicated and num_micro_batches > 1:
            # The backward that synchronises must follow its own forward: one is encoded again.
            affordable = min(affordable, num_micro_batches - 1)
        return sync.least(int(affordable))

    def _measured(
        self, images: Batch, texts: Batch, mark: Mark, num_micro_batches: int, sync: GradientSync
    ) -> Encoded:
        """Encode the very first micro-batch with a graph, in order to measure the graph."""
        # Without the wrapper, which would wait for the backward of a graph that may be dropped.
        model = unwrapped(self.model)
        alive = [*model.parameters(), *model.buffers(), *tensors_of(images), *tensors_of(texts)]
        with self.autocast(), sync.synchronised(False):
            outputs, self.kept_bytes = measure_kept(
                lambda: self._forward(model, images, texts), alive
            )
        self._needs_grad = {name: output.requires_grad for name, output in outputs.items()}
        synchronises = sync.is_replicated and num_micro_batches == 1
        if self._num_kept(num_micro_batches, sync) > 0 and not synchronises:
            return Encoded(images, texts, outputs, mark, is_kept=True)
        outputs = {name: output.detach() for name, output in outputs.items()}
        return Encoded(images, texts, outputs, mark, is_kept=False)

    def _forward(self, model: nn.Module, images: Batch, texts: Batch) -> dict[str, Tensor]:
        if self.before_encoding is not None:
            self.before_encoding()
        return call(model, self.prepare(images), texts)

    def _loss_and_gradients(
        self, encoded: list[Encoded], order: TextOrder | None, of_loss: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, dict[str, Tensor], Any]:
        """Return the loss's terms and the loss, the scale, the gradients w.r.t. the outputs, and
        the loss's statistics.

        Gradients are of the scaled loss. The features of texts, and their gradients, are in the
        order of the micro-batches.
        """
        leaves = {}
        for name in encoded[0].outputs:
            if name in OF_SAMPLES:
                leaf = torch.cat([e.outputs[name].detach() for e in encoded])
                if order is not None and name == "text_features":
                    leaf = order.put_back(leaf)
            else:
                leaf = encoded[0].outputs[name].detach().clone()
            leaves[name] = leaf.requires_grad_(self._needs_grad[name])
        terms, value, stats = call_loss(unwrapped(self.loss), leaves, **of_loss)
        scaled = value if self.scaler is None else self.scaler.scale(value)
        own = [p for p in parameters_of(self.loss) if p.requires_grad]
        wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
        found = torch.autograd.grad(scaled, [*wanted.values(), *own], allow_unused=True)
        for parameter, gradient in zip(own, found[len(wanted) :], strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        gradients = {
            name: torch.zeros_like(leaf) if gradient is None else gradient
            for (name, leaf), gradient in zip(wanted.items(), found, strict=False)
        }
        if order is not None and "text_features" in gradients:
            gradients["text_features"] = order.take(gradients["text_features"])
        terms = {name: torch.as_tensor(term).detach() for name, term in terms.items()}
        scale = leaves["logit_scale"].detach().reshape(())
        return terms, value.detach(), scale, gradients, stats

    def _backward(
        self,
        encoded: list[Encoded],
        gradients: dict[str, Tensor],
        replay: Replay,
        sync: GradientSync,
    ) -> SecondEncodings:
        """Go back through every micro-batch; encode those without a graph again, and compare them.

        Micro-batches that are encoded again come last, because the last backward synchronises all
        gradients, and must follow its own forward. The scale and the bias take part in it only.
        """
        compared = SecondEncodings()
        of_samples = {k: v for k, v in gradients.items() if k in OF_SAMPLES}
        starts = [0]
        for e in encoded:
            starts.append(starts[-1] + length(e.images))
        order = sorted(range(len(encoded)), key=lambda i: not encoded[i].is_kept)
        for i in order:
            is_last = i == order[-1]
            wanted = gradients if is_last else of_samples
            if not wanted:
                continue
            e = encoded[i]
            with sync.synchronised(is_last):
                outputs = e.outputs
                if not e.is_kept:
                    with self.autocast(), replay.again(e.mark):
                        outputs = self._forward(self.model, e.images, e.texts)
                    compared.compare(i, e.outputs, {name: outputs[name] for name in wanted})
                rows = slice(starts[i], starts[i + 1])
                torch.autograd.backward(
                    [outputs[name] for name in wanted],
                    [g[rows] if name in of_samples else g for name, g in wanted.items()],
                )
        return compared

    def _finish(
        self, compared: SecondEncodings, outputs: dict[str, Tensor], sync: GradientSync
    ) -> None:
        """Average the gradients over ranks if they are right on all ranks; otherwise drop them."""
        if not compared and sync.group is None:
            return
        found = sync.gather(compared.largest(outputs["image_features"].device))
        explained = 0.0
        if any(difference for difference, *_ in found):
            with self.autocast():
                explained = rounding_explains(self.model, coarsest(self.model, outputs))
        if message := objection(found, explained):
            for parameter in (*self.model.parameters(), *parameters_of(self.loss)):
                parameter.grad = None
            raise RuntimeError(message)
        sync.average()


def cached_step(
    model: nn.Module,
    batch: tuple[Batch, Batch],
    loss: nn.Module | Callable[..., Tensor],
    micro_batch_size: int,
    activation_budget: str | float = 0,
    **settings,
) -> StepResult:
    """Add the gradients of `loss` over `batch` to the parameters' `.grad`, in bounded memory.

    The parameters get the gradients of `loss(*model(images, tokens)).backward()`, to rounding. In a
    loop, use a `CachedStep`, which measures a graph once and not at every step.

    Args and Raises:
        as `CachedStep`; `batch` is (images, texts) of its call.

    Example:
        >>> optimizer.zero_grad()
        >>> result = fastclip.cached_step(model, (images, tokens), fastclip.ClipLoss(), 256)
        >>> optimizer.step()
    """
    return CachedStep(model, loss, micro_batch_size, activation_budget, **settings)(*batch)
