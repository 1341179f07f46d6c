"""Time `fastclip embed` against its two halves alone, and fast against exact JPEG decoding.

    python -m fastclip.benchmarks.embedding --model ViT-B-32 --images 300 --photos FOLDER

    decoding     images/s of all threads that turn files into pixels, with nothing else at work
    forward      images/s of the model alone, on batches that are ready
    embed        seconds of the whole job over the sum of both halves' seconds: below 1 if both
                 halves work at the same time
    fast         the decoding rate over the exact decoding rate, and the mean and the least cosine
                 between fast and exact vectors of an image

Without --photos, the images are blurred noise of 1280 x 960 pixels in JPEG's quality 90. Such noise
has fewer details than photos, and random weights do not see details: only cosines of photos with a
trained model are meaningful.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.embeddings import embed, open_embeddings
from fastclip.embeddings.encode import Encoder
from fastclip.models.factory import create_model
from fastclip.models.inference import InferenceModel, open_model
from fastclip.models.tokenizer import get_tokenizer
from fastclip.models.tower_precision import TowerPrecision

SIZE, QUALITY, BATCH = (1280, 960), 90, 32


@dataclass(frozen=True)
class Measured:
    """The measurements of one way to decode.

    Attributes:
        decoding, forward: seconds of each half alone.
        embed: seconds of the whole job.
        vectors: (n, D) float32.
    """

    decoding: float
    forward: float
    embed: float
    vectors: np.ndarray


def draw_photos(folder: Path, number: int) -> Path:
    """Write so many JPEGs of blurred noise; return the folder."""
    for i in range(number):
        noise = np.random.default_rng(i).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)
        image = image.filter(ImageFilter.GaussianBlur(2))
        image.save(folder / f"{i:05d}.jpg", quality=QUALITY)
    return folder


def untrained(name: str) -> InferenceModel:
    """Return an architecture with random weights, for times alone."""
    torch.manual_seed(0)
    model = create_model(name).eval()
    cfg = PreprocessCfg.from_dict(model.visual.preprocess_cfg)
    transform = image_transform_v2(cfg, False, output="uint8")
    precision = TowerPrecision("fp32", torch.device("cpu"))
    return InferenceModel(name, model, get_tokenizer(name), transform, cfg.to_dict(), precision)


def measure(ready: InferenceModel, photos: Path, decode: str, workers: int) -> Measured:
    """Time both halves alone and the whole job, with `workers` threads."""
    paths = sorted(path for path in photos.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    transform = replace(ready.transform, decode=decode)
    begun = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        pixels: list[Tensor] = list(threads.map(transform, paths))
    decoding = time.perf_counter() - begun
    batches = [torch.stack(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
    for part in (batches[:1], batches):  # the first forward is a warm-up
        begun = time.perf_counter()
        for _ in Encoder.of(ready).images((batch, None, ()) for batch in part):
            pass
    forward = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        embed(
            ready, photos, out, images=True, batch_size=BATCH, workers=workers, decode=decode,
            metadata="jsonl",
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        vectors = open_embeddings(out).images.rows(range(len(paths)))
    return Measured(decoding, forward, seconds, vectors)


def table(found: dict[str, Measured]) -> str:
    """Return the results of each way to decode as a table."""
    exact = found["exact"]
    lines = [
        "| decode | decoding, images/s | forward, images/s | embed / halves "
        "| decoding, times exact | cosine, mean | cosine, least |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, own in found.items():
        cosines = (own.vectors * exact.vectors).sum(axis=1)
        num = len(cosines)
        lines.append(
            f"| {name} | {num / own.decoding:,.0f} | {num / own.forward:,.0f} "
            f"| {own.embed / (own.decoding + own.forward):.2f} "
            f"| {exact.decoding / own.decoding:.2f} | {cosines.mean():.5f} | {cosines.min():.5f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time fastclip embed and its halves.")
    parser.add_argument("--model", default="ViT-B-32", help="architecture or trained model")
    parser.add_argument("--pretrained", help="tag or file; without it, weights are random")
    parser.add_argument("--images", type=int, default=300, help="how many are drawn")
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs instead")
    parser.add_argument("--workers", type=int, default=2, help="threads that decode")
    args = parser.parse_args(argv)
    is_trained = args.pretrained is not None or Path(args.model).exists()
    ready = open_model(args.model, args.pretrained, device="cpu") if is_trained else None
    ready = ready or untrained(args.model)
    with tempfile.TemporaryDirectory() as folder:
        photos = args.photos or draw_photos(Path(folder), args.images)
        found = {name: measure(ready, photos, name, args.workers) for name in ("exact", "fast")}
    weights = "trained" if is_trained else "random"
    images = "photos" if args.photos else "drawn images"
    print(f"{args.model}, {weights} weights, {len(found['exact'].vectors)} {images}, "
          f"{args.workers} threads\n\n{table(found)}")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
