"""Named cases: the shapes and the data that both the tests and the benchmarks run.

Random unit vectors alone are an easy case: their similarities are all near zero, every probability
is about 1/N and nothing underflows. Four kinds of embeddings (`DATA`) cover what training meets:

    random        unrelated unit vectors, as at the first step
    trained       text = image + 0.5 * unit noise, renormalised: a model that fits. Positives have
                  a cosine of 0.89; at logit_scale 100 the negatives' probabilities are subnormal
    cone          all vectors close to one direction, as the towers of a new model emit them
    adversarial   half of the images opposite to all texts, the other half along them: the maxima
                  of rows differ by 2 * logit_scale, so that no common shift serves them all

A case is square, because the losses are; a `Shape` describes a rectangle for their primitive.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.rectangle import MAIN_DIAGONAL, Diagonal

Draw = Callable[[int], Tensor]  # number of rows -> (rows, D) standard normal, float32
Pairs = tuple[slice, slice]  # the rows that have a pair, and their columns


@dataclass(frozen=True)
class Case:
    """One loss of N pairs; `str(case)` is its name."""

    N: int
    D: int = 512
    dtype: torch.dtype = torch.float32
    logit_scale: float = 100.0
    data: str = "random"
    autocast: bool = False  # the loss runs under torch.autocast(device, torch.bfloat16)
    normalize: bool = False  # L2-normalising the features is measured too
    device: str = "cpu"

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        autocast = "-autocast" if self.autocast else ""
        normalize = "-normalize" if self.normalize else ""
        scale = f"scale{self.logit_scale:g}"
        return f"{self.data}-{self.N}x{self.D}-{dtype}{autocast}{normalize}-{scale}"


class Shape(NamedTuple):
    """The M x N rectangle of the primitive, and where its pairs are."""

    name: str
    M: int
    N: int
    D: int
    positives: Diagonal = MAIN_DIAGONAL

    def __str__(self) -> str:
        return self.name


# One pair; two; exact tiles of 16 to 256; one less and one more; D a power of two, a multiple of
# a vector, odd, and one. Each size occurs once with an aligned D and once with an awkward one.
RAGGED = tuple(
    Case(N, D)
    for N, D in [
        (1, 1), (1, 512), (2, 3), (15, 64), (16, 16), (17, 33), (63, 96), (64, 64), (65, 100),
        (127, 48), (128, 128), (129, 7), (255, 257), (256, 32), (257, 40), (300, 513),
    ]
)  # fmt: skip

RECTANGLES = (
    Shape("one-by-one", 1, 1, 1),
    Shape("square", 64, 64, 32),
    Shape("strip-of-first-rank", 48, 192, 40),
    Shape("strip-of-last-rank", 48, 192, 40, Diagonal(144)),
    Shape("tall", 257, 65, 33),
    Shape("tall-pairs-in-last-rows", 257, 65, 33, Diagonal(-192)),
    Shape("wide-with-queue", 65, 300, 17),
    Shape("wide-odd-offset", 65, 300, 17, Diagonal(131)),
    Shape("pairs-run-out-of-columns", 100, 90, 24, Diagonal(37)),
    Shape("pairs-start-late", 100, 90, 24, Diagonal(-41)),
    Shape("no-pairs", 33, 47, 16, Diagonal(47)),
    Shape("single-row", 1, 129, 64, Diagonal(128)),
    Shape("single-column", 129, 1, 64, Diagonal(-128)),
)

BATCHES = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def make_inputs(case: Case, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return the case's image_features (N, D), text_features (N, D) and logit_scale ().

    The same case and seed give the same numbers. Rows have unit norm up to the dtype's rounding;
    logit_scale is float32 (float64 for float64 features), as a model keeps it.
    """
    shape = Shape(str(case), case.N, case.N, case.D)
    features = make_features(shape, case.data, case.dtype, seed, case.device)
    scale_dtype = torch.float64 if case.dtype == torch.float64 else torch.float32
    return *features, torch.tensor(case.logit_scale, dtype=scale_dtype, device=case.device)


def make_features(
    shape: Shape,
    data: str = "random",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Return row_features (M, D) and col_features (N, D) whose pairs are `shape.positives`.

    The device's own generator draws the numbers, so another device has other numbers.
    """
    if data not in DATA:
        raise ValueError(f"data must be one of {tuple(DATA)}, got {data!r}")
    generator = torch.Generator(device).manual_seed(seed)

    def draw(num_rows: int) -> Tensor:
        return torch.randn(num_rows, shape.D, generator=generator, device=device)

    rows, cols = DATA[data](draw, shape.M, shape.N, _pairs(shape))
    return tuple(F.normalize(x.double(), dim=1).to(dtype) for x in (rows, cols))


def _pairs(shape: Shape) -> Pairs:
    offset = shape.positives.offset
    first = max(0, -offset)
    count = max(0, min(shape.M, shape.N - offset) - first)
    first_col = first + offset
    return slice(first, first + count), slice(first_col, first_col + count)


def _random(draw: Draw, M: int, N: int, pairs: Pairs) -> tuple[Tensor, Tensor]:
    return draw(M), draw(N)


def _trained(draw: Draw, M: int, N: int, pairs: Pairs) -> tuple[Tensor, Tensor]:
    rows, cols = F.normalize(draw(M), dim=1), F.normalize(draw(N), dim=1)
    # A paired column becomes its row plus noise; its own direction before is the noise.
    cols[pairs[1]] = rows[pairs[0]] + 0.5 * cols[pairs[1]]
    return rows, cols


def _cone(draw: Draw, M: int, N: int, pairs: Pairs) -> tuple[Tensor, Tensor]:
    axis, rows, cols = draw(1), draw(M), draw(N)
    cols[pairs[1]] = rows[pairs[0]]
    return axis + 0.5 * rows + 0.3 * draw(M), axis + 0.5 * cols + 0.3 * draw(N)


def _adversarial(draw: Draw, M: int, N: int, pairs: Pairs) -> tuple[Tensor, Tensor]:
    axis = draw(1)
    signs = 1.0 - 2.0 * (torch.arange(M, device=axis.device) % 2 == 0).float()
    return signs[:, None] * axis + 0.05 * draw(M), axis + 0.05 * draw(N)


DATA = {"random": _random, "trained": _trained, "cone": _cone, "adversarial": _adversarial}
