"""The gradient of one loss over a batch that is too large to encode at once.

    1  encode      micro-batch by micro-batch; keep features, and the graphs of as many
                   micro-batches as the activation budget holds
    2  one loss    over all features (of all ranks): its value, its gradients w.r.t. features,
                   logit_scale and logit_bias
    3  encode again what kept no graph, with the random numbers of the first time, and go back
                   through it with the features' gradients

The sum over micro-batches of step 3 is the chain rule, nothing else: parameters get the gradient of
the plain step over the whole batch, the scale and the bias theirs once, whatever the number of
micro-batches. Gradients are synchronised between ranks once, in the last backward.

    budget 0           a second forward for every micro-batch: memory of one
    budget unlimited   no second forward: a plain step

Running statistics of batch normalisation see a sample once. Texts are encoded without their padding
where the text tower allows it (`text_order.py`).

Source: Gao et al. 2021 (GradCache), arXiv:2101.06983; the budget in between is ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastclip.models.batch_norm import without_statistics
from fastclip.train.activation_budget import available_bytes, measure_kept, parse_budget
from fastclip.train.gradient_sync import (
    average_over_ranks,
    gradient_sync,
    is_replicated,
    least_over_ranks,
    unwrapped,
)
from fastclip.train.random_state import RandomState
from fastclip.train.sharding import is_sharded
from fastclip.train.text_order import TextOrder, order_by_length

Texts = Tensor | Mapping[str, Tensor]
OUTPUTS = ("image_features", "text_features", "logit_scale", "logit_bias")


class StepResult(NamedTuple):
    """What one step found; gradients are where autograd puts them.

    Attributes:
        loss: () of the whole batch, detached, before any scaling.
        logit_scale: () multiplicative, that the loss was computed with.
        num_micro_batches: of this rank.
        num_kept: of them that kept their graphs, and were encoded once.
        kept_bytes: measured, of the graph of a full micro-batch.
    """

    loss: Tensor
    logit_scale: Tensor
    num_micro_batches: int
    num_kept: int
    kept_bytes: int


class Encoded(NamedTuple):
    """A micro-batch after its first encoding.

    `outputs` are the model's, with their graph if `is_kept`; `random_state` is what its forward
    drew from.
    """

    images: Tensor
    texts: Texts
    outputs: dict[str, Tensor]
    random_state: RandomState
    is_kept: bool


class CachedStep:
    """Computes the gradients of a loss over batches of any size; see the module.

    Args:
        model: called with (images, texts); returns (image_features, text_features, logit_scale
            [, logit_bias]) or a dict with those names, as fastclip's and open_clip's models do. It
            may be wrapped in DistributedDataParallel, or sharded by FSDP2 with its scalars left
            out (`sharding.py`); then every rank needs equally many micro-batches.
        loss: called with those outputs of the whole batch; returns a scalar, or a dict of scalars
            that are added up. Its own parameters get their gradients too, averaged over ranks.
        micro_batch_size: samples that are encoded at once, by this rank.
        activation_budget: bytes, "20GiB", "unlimited", or "auto" for the memory that is free
            after the first step, which keeps no graph.
        autocast: makes the context in which the model runs; the loss stays outside.
        scaler: `torch.amp.GradScaler` for float16: gradients are those of the scaled loss.
        prepare: applied to the images of a micro-batch before each encoding, such as moving uint8
            pixels to the device and standardising them there.

    Raises:
        ValueError: `micro_batch_size` < 1, or the budget is not one.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module | Callable[..., Tensor],
        micro_batch_size: int,
        activation_budget: str | float = 0,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        scaler: torch.amp.GradScaler | None = None,
        prepare: Callable[[Tensor], Tensor] = lambda images: images,
    ) -> None:
        if micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, got {micro_batch_size}")
        self.model = model
        self.loss = loss
        self.micro_batch_size = micro_batch_size
        self.is_auto = activation_budget == "auto"
        self.budget = 0.0 if self.is_auto else parse_budget(activation_budget)
        self.autocast = autocast
        self.scaler = scaler
        self.prepare = prepare
        self.kept_bytes: int | None = None
        self._needs_grad: dict[str, bool] = {}

    def __call__(self, images: Tensor, texts: Texts) -> StepResult:
        """Add the gradients of the loss over (images, texts) to `.grad` of the parameters.

        Args:
            images: (B, ...), what `prepare` takes, on any device.
            texts: (B, T) tokens, or a mapping of tensors with B rows each.

        Raises:
            ValueError: the batch is empty, or images and texts are not equally many.
        """
        return self.over(list(self.micro_batches(images, texts)))

    def over(self, batches: Sequence[tuple[Tensor, Texts]]) -> StepResult:
        """The same for a batch that comes in micro-batches of (images, texts)."""
        num = len(batches)
        batches = list(batches)
        order = order_by_length(unwrapped(self.model), [texts for _, texts in batches])
        if order is not None:
            batches = [(images, order.cut(i)) for i, (images, _) in enumerate(batches)]
        encoded = []
        if self.kept_bytes is None:
            # Not cut: what is measured is the most that a micro-batch is going to take.
            whole = batches[0] if order is None else (batches[0][0], order.texts[0])
            encoded = [self._measured(*whole, num)]
        elif self.is_auto and self.budget == 0:
            # Not in the first step, before which the optimiser has no averages.
            device = next(self.model.parameters()).device
            self.budget = available_bytes(device, transient=2 * self.kept_bytes)
        num_kept = self._num_kept(num)
        # One context for all: autocast converts the weights once, and graphs share the copies. Not
        # those of shares: the first backward through a copy would be the last that weights hear of.
        together, alone = self.autocast, nullcontext
        if is_sharded(self.model):
            together, alone = alone, together
        with together(), gradient_sync(self.model, enabled=num == 1):
            while len(encoded) < num_kept:
                with alone():
                    encoded.append(self._encode(self.model, *batches[len(encoded)], keep=True))
        with self.autocast(), torch.no_grad():
            for batch in batches[len(encoded) :]:
                encoded.append(self._encode(unwrapped(self.model), *batch, keep=False))
        after = RandomState.now()
        value, logit_scale, gradients = self._loss_and_gradients(encoded, order)
        self._backward(encoded, gradients)
        after.restore()
        num_kept = sum(e.is_kept for e in encoded)
        return StepResult(value, logit_scale, num, num_kept, self.kept_bytes)

    def state_dict(self) -> dict:
        """What was measured: a run that goes on with it takes the same steps to the bit."""
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

    def micro_batches(self, images: Tensor, texts: Texts) -> Iterator[tuple[Tensor, Texts]]:
        """Cut a batch as `over` takes it; raises as a call does."""
        parts = texts.values() if isinstance(texts, Mapping) else (texts,)
        B = len(images)
        if B == 0 or any(len(part) != B for part in parts):
            raise ValueError(
                f"a batch needs as many texts as images, at least one: got {B} images and "
                f"{[len(part) for part in parts]} texts"
            )
        for start in range(0, B, self.micro_batch_size):
            rows = slice(start, start + self.micro_batch_size)
            part = (
                {k: v[rows] for k, v in texts.items()}
                if isinstance(texts, Mapping)
                else (texts[rows])
            )
            yield images[rows], part

    def _num_kept(self, num_micro_batches: int) -> int:
        if self.kept_bytes == 0:  # nothing is trained
            return 0
        affordable = min(self.budget / self.kept_bytes, num_micro_batches)
        if is_replicated(self.model) and num_micro_batches > 1:
            # The backward that synchronises must follow its own forward: one is encoded again.
            affordable = min(affordable, num_micro_batches - 1)
        return least_over_ranks(int(affordable), self.model)

    def _measured(self, images: Tensor, texts: Texts, num_micro_batches: int) -> Encoded:
        """The first micro-batch of all, encoded with a graph to see what one takes."""
        state = RandomState.now()
        # Not by the wrapper, which would wait for the backward of a graph that may be dropped.
        model = unwrapped(self.model)
        alive = [*model.parameters(), *model.buffers(), images]
        alive += texts.values() if isinstance(texts, Mapping) else [texts]
        with self.autocast():
            outputs, self.kept_bytes = measure_kept(
                lambda: self._forward(model, images, texts), alive
            )
        self._needs_grad = {name: output.requires_grad for name, output in outputs.items()}
        synchronises = is_replicated(self.model) and num_micro_batches == 1
        if self._num_kept(num_micro_batches) > 0 and not synchronises:
            return Encoded(images, texts, outputs, state, is_kept=True)
        outputs = {name: output.detach() for name, output in outputs.items()}
        return Encoded(images, texts, outputs, state, is_kept=False)

    def _encode(self, model: nn.Module, images: Tensor, texts: Texts, keep: bool) -> Encoded:
        state = RandomState.now()
        return Encoded(images, texts, self._forward(model, images, texts), state, keep)

    def _forward(self, model: nn.Module, images: Tensor, texts: Texts) -> dict[str, Tensor]:
        outputs = model(self.prepare(images), texts)
        if not isinstance(outputs, Mapping):
            outputs = dict(zip(OUTPUTS, outputs, strict=False))
        return {name: outputs[name] for name in OUTPUTS if outputs.get(name) is not None}

    def _loss_and_gradients(
        self, encoded: list[Encoded], order: TextOrder | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss, the scale, and the gradients of the (scaled) loss w.r.t. the outputs.

        Features of texts come, and their gradients go, in the order of the micro-batches.
        """
        leaves = {}
        for name in encoded[0].outputs:
            if name.endswith("_features"):
                leaf = torch.cat([e.outputs[name].detach() for e in encoded])
                if order is not None and name == "text_features":
                    leaf = order.put_back(leaf)
            else:
                leaf = encoded[0].outputs[name].detach().clone()
            leaves[name] = leaf.requires_grad_(self._needs_grad[name])
        value = self.loss(*leaves.values())
        if isinstance(value, Mapping):
            value = sum(value.values())
        scaled = value if self.scaler is None else self.scaler.scale(value)
        own = [p for p in self._loss_parameters() if p.requires_grad]
        wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
        found = torch.autograd.grad(scaled, [*wanted.values(), *own], allow_unused=True)
        for parameter, gradient in zip(own, found[len(wanted) :], strict=True):
            if gradient is not None:
                average_over_ranks(gradient, self.model)
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        gradients = {
            name: torch.zeros_like(leaf) if gradient is None else gradient
            for (name, leaf), gradient in zip(wanted.items(), found, strict=False)
        }
        if order is not None and "text_features" in gradients:
            gradients["text_features"] = order.take(gradients["text_features"])
        return value.detach(), leaves["logit_scale"].detach(), gradients

    def _loss_parameters(self) -> list[nn.Parameter]:
        return list(self.loss.parameters()) if isinstance(self.loss, nn.Module) else []

    def _backward(self, encoded: list[Encoded], gradients: dict[str, Tensor]) -> None:
        """Go back through every micro-batch, those with a graph first.

        What is encoded again comes last, because the last backward synchronises the gradients of
        all, and must follow its own forward. The scale and the bias take part once, in the last.
        """
        of_features = {k: v for k, v in gradients.items() if k.endswith("_features")}
        starts = [0]
        for e in encoded:
            starts.append(starts[-1] + len(e.images))
        order = sorted(range(len(encoded)), key=lambda i: not encoded[i].is_kept)
        for i in order:
            is_last = i == order[-1]
            wanted = gradients if is_last else of_features
            if not wanted:
                continue
            e = encoded[i]
            with gradient_sync(self.model, enabled=is_last):
                outputs = e.outputs if e.is_kept else self._encode_again(e)
                rows = slice(starts[i], starts[i + 1])
                torch.autograd.backward(
                    [outputs[name] for name in wanted],
                    [g[rows] if name in of_features else g for name, g in wanted.items()],
                )

    def _encode_again(self, e: Encoded) -> dict[str, Tensor]:
        e.random_state.restore()
        with self.autocast(), without_statistics(unwrapped(self.model)):
            return self._forward(self.model, e.images, e.texts)


def cached_step(
    model: nn.Module,
    batch: tuple[Tensor, Texts],
    loss: nn.Module | Callable[..., Tensor],
    micro_batch_size: int,
    activation_budget: str | float = 0,
    **settings,
) -> StepResult:
    """Add the gradients of `loss` over `batch` to the parameters' `.grad`, in bounded memory.

        optimizer.zero_grad()
        result = fastclip.cached_step(model, (images, tokens), fastclip.ClipLoss(), 256, "20GiB")
        optimizer.step()

    The parameters' gradients are those of `loss(*model(images, tokens)).backward()`, to rounding.
    In a loop, a `CachedStep` measures the budget once and not at every step.

    Args and Raises:
        as `CachedStep`; `batch` is (images, texts) of its call.
    """
    return CachedStep(model, loss, micro_batch_size, activation_budget, **settings)(*batch)
