"""Runs over data that is damaged, incomplete or odd end well, count what is bad, lose nothing good.

What is watched is what steps are given, pixels and tokens: the colour of an image is its number.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from fastclip.cli import main
from fastclip.data.tokenizers.byte_pairs import BytePairTokenizer
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.presets import OPENAI_VOCAB_SIZE
from fastclip.train.step.cached import CachedStep
from tests.support.bad_pairs import (
    BAD_ROWS,
    WRITERS,
    Pair,
    bad_of_each_kind,
    good,
    quoted,
    reasons,
    shard_with_starts,
    table_with_starts,
    write_folder,
    write_shards,
)
from tests.support.hard_texts import HARD_TEXTS
from tests.support.images import png_header
from tests.support.pair_files import damage, image_bytes
from tests.support.pairwise import cover_pairs
from tests.support.runs import finish, start_ranks
from tests.support.small_models import build

TEXT = TextConfig(context_length=16, vocab_size=OPENAI_VOCAB_SIZE, width=4, heads=1, layers=1)
TINY = ClipConfig(8, VisionConfig(8, patch_size=4, width=8, layers=1, head_width=8), TEXT)
SETTINGS = {
    "global-batch-size": 4, "micro-batch-size": 1, "epochs": 1, "workers": 0, "device": "cpu",
    "max-bad-rate": 1, "shuffle-buffer": 1,
}  # fmt: skip


class Outcome(NamedTuple):
    status: int
    trained: list[tuple[list, list]]  # colours and tokens of pairs, in the order of the steps
    results: list[dict]  # of epochs

    @property
    def bad(self) -> list[Counter]:
        """So far, by reason, at the end of each epoch."""
        return [Counter(result["bad_samples"]["counts"]) for result in self.results]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    save_pretrained(build(TINY), directory)
    return f"local-dir:{directory}"


@pytest.fixture(scope="module")
def records() -> Callable[[list[Pair]], list[tuple[list, list]]]:
    """Gives what steps are to be given of those pairs that are good, sorted."""
    tokenizer = BytePairTokenizer(context_length=TEXT.context_length)

    def records(pairs):
        return sorted(
            ([[i, 0, 77]], tokenizer(pair.caption.decode()[:20_000])[0].tolist())
            for i, pair in enumerate(pairs)
            if pair.reason is None
        )

    return records


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of data, beside that of logs."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def train(model, tmp_path, monkeypatch) -> Callable[..., Outcome]:
    """Runs `fastclip train`, with so many samples an epoch."""
    trained, over = [], CachedStep.over

    def watched(self, batches):
        for images, texts in batches:
            for image, text in zip(images, texts, strict=True):
                trained.append((image.flatten(1).T.unique(dim=0).tolist(), text.tolist()))
        return over(self, batches)

    monkeypatch.setattr(CachedStep, "over", watched)

    def train(data, num_samples, **changes):
        argv = arguments(model, tmp_path, data, num_samples, **changes)
        return Outcome(main(argv), trained, results_of(tmp_path))

    return train


def arguments(
    model: str, logs: Path, data: Path | str, num_samples: int, **changes: object
) -> list[str]:
    settings = {"train-data": data, "model": model, "train-num-samples": num_samples}
    settings |= SETTINGS | {name.replace("_", "-"): value for name, value in changes.items()}
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return ["train", *flags, "--logs-dir", str(logs), "--name", "run"]


def results_of(logs: Path) -> list[dict]:
    path = logs / "run" / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("seed", range(3))
def test_bad_pairs_are_counted_and_good_ones_trained_on_once_an_epoch(
    train, records, folder, write, seed
):
    rng = random.Random(seed)
    bad = bad_of_each_kind(rng)
    bad += rng.choices(bad, k=rng.randrange(20))
    pairs = good(range(24 + len(bad)))
    # A good one comes last: when it is trained on, all bad ones have been counted.
    for i, pair in zip(rng.sample(range(len(pairs) - 1), len(bad)), bad, strict=True):
        pairs[i] = pair
    shuffle_buffer = 1000 if seed % 2 else 1
    found = train(
        write(folder, pairs), 24, epochs=2, workers=seed % 3 // 2, shuffle_buffer=shuffle_buffer,
        micro_batch_size=rng.choice((1, 2, 4)),
    )  # fmt: skip
    assert found.status == 0 and len(found.trained) == 48
    assert sorted(found.trained[:24]) == sorted(found.trained[24:]) == records(pairs)
    made = reasons(pairs, write)
    if shuffle_buffer == 1:
        assert found.bad == [made, made + made]
    else:
        assert made <= found.bad[1] <= made + made


CAPTIONS = [
    "plain", "with \0 NUL", "one, two, three", 'an inch: 5" screen', "one,\ntwo,\r\n\nthree",
    '"quoted"', "tab\tbed", "'single'", 'trailing quote"', "\ufeffmark", '""', "\nlast line",
]  # fmt: skip


@pytest.mark.parametrize(
    "newline, mark, separator",
    cover_pairs([b"\n", b"\r\n"], [b"", b"\xef\xbb\xbf"], [b"\t", b","]),
)
def test_rows_that_cannot_be_read_take_no_other_along(
    train, records, folder, newline, mark, separator
):
    rng = random.Random(repr((newline, mark, separator)))
    pairs = [Pair(image_bytes(i), text.encode()) for i, text in enumerate(CAPTIONS)]
    write_folder(folder, [pair._replace(caption=None) for pair in pairs])
    (folder / "x.png").write_bytes(image_bytes(255))
    rows = [b"%05d.png|%b" % (i, quoted(pair.caption)) for i, pair in enumerate(pairs)]
    for row in rng.sample(list(BAD_ROWS), len(BAD_ROWS)):
        rows.insert(rng.randrange(len(rows)), row)
    table = newline.join([b"filepath|title", *rows]).replace(b"|", separator)
    (folder / "pairs.csv").write_bytes(mark + table)
    found = train(folder / "pairs.csv", len(pairs), csv_separator=separator.decode())
    assert found.status == 0 and sorted(found.trained) == records(pairs)
    assert found.bad == [Counter(BAD_ROWS.values())]


@pytest.mark.parametrize(
    "name, make", [("pairs.tar", shard_with_starts), ("pairs.tsv", table_with_starts)]
)
@pytest.mark.parametrize("seed", range(4))
def test_damage_loses_no_pair_that_it_does_not_touch(train, records, folder, name, make, seed):
    rng = random.Random(seed)
    pairs = [pair._replace(caption=pair.caption + b" and so on" * 15) for pair in good(range(40))]
    write_folder(folder, [pair._replace(caption=None) for pair in pairs])
    contents, starts = make(pairs)
    kept = starts[4]  # the header of a table, and enough for a step
    rest, touched = damage(contents[kept:], rng)
    (folder / name).write_bytes(contents[:kept] + rest)
    found = train(folder / name, 40, workers=seed % 2, shuffle_buffer=rng.choice((1, 1000)))
    assert found.status == 0 and len(found.trained) == 40

    for i, (start, stop) in enumerate(pairwise(starts)):
        # The end of the line before belongs to a row too.
        if any(kept + low < stop and kept + high >= start for low, high in touched):
            pairs[i] = pairs[i]._replace(reason="damage")
    # The passes go on, without a pair that is not there: the first ends where one comes again.
    repeated = (i for i, record in enumerate(found.trained) if record in found.trained[:i])
    first_pass = found.trained[: next(repeated, 40)]
    assert [record for record in records(pairs) if record not in first_pass] == []
    # A table that ends early does not show it.
    assert len(first_pass) == 40 or found.bad[0].total() > 0 or name == "pairs.tsv"


@pytest.mark.parametrize("write", WRITERS)
def test_captions_of_every_script_and_length_are_trained_on(train, records, folder, write):
    unusable = {
        "surrogates": "caption is not UTF-8", "empty": "empty caption", "blanks": "empty caption"
    }  # fmt: skip
    units = ("a ", "ы", "漢", "👩‍🚀", "\u0315\u0300", "\0")
    # Where a caption is cut is one place, behind all formats.
    length = 30_000 if write is write_folder else 3_000
    texts = {unit: unit * (length // len(unit)) for unit in units} | HARD_TEXTS | {"last": "last"}
    pairs = [
        Pair(image_bytes(i), text.encode(errors="surrogatepass"), unusable.get(name))
        for i, (name, text) in enumerate(texts.items())
    ]
    num_good = len(pairs) - len(unusable)
    found = train(write(folder, pairs), num_good, global_batch_size=num_good)
    assert found.status == 0 and sorted(found.trained) == records(pairs)
    assert found.bad == [reasons(pairs, write)]


@pytest.mark.parametrize("write", WRITERS)
def test_images_of_extreme_sizes_are_trained_on_and_bombs_counted(train, records, folder, write):
    bombs = [(60_000, 60_000), (2**31 - 1, 2**31 - 1)]
    sizes = [(20_000, 1), (1, 20_000), *bombs, (20_000, 20), (20_000, 500), (1, 1)]
    pairs = [
        Pair(png_header(*size), b"a bomb", "unusable image")
        if size in bombs
        else Pair(image_bytes(i, size), b"%d x %d" % size)
        for i, size in enumerate(sizes)
    ]
    data = write(folder, pairs)
    found = train(data, 5, global_batch_size=5, val_data=data)
    assert found.status == 0 and sorted(found.trained) == records(pairs)
    assert found.bad == [Counter({"unusable image": len(bombs)})]
    (result,) = found.results
    examples = result["bad_samples"]["examples"]["unusable image"]
    assert all("pixels are more than max_pixels" in example for example in examples)
    assert result["num_samples"] == 5 and result["val_bad_samples"]["num_seen"] == len(sizes)
    assert result["val_bad_samples"]["counts"] == {"unusable image": len(bombs)}


def test_missing_shard_counts_as_many_as_it_held(train, records, folder):
    pairs = good(range(16))
    write_shards(folder, pairs)
    (folder / "sizes.json").write_text('{"000.tar": 10, "gone.tar": 9, "001.tar": 6}')
    found = train(f"{folder}/{{000,gone,001}}.tar", 16)
    assert found.status == 0 and sorted(found.trained) == records(pairs)
    assert found.bad == [Counter({"missing shard": 9})]


@pytest.mark.slow
def test_two_ranks_count_what_is_bad_for_both(model, folder, tmp_path):
    bad = bad_of_each_kind(random.Random(0))
    # Each rank reads one of the shards, and a good pair last.
    pairs = [*bad[:4], *good(range(4, 10)), *bad[4:], *good(range(21, 27))]
    data = write_shards(folder, pairs)
    argv = arguments(model, tmp_path, data, 12, val_data=data)
    statuses = [finish(process, 120) for process in start_ranks(argv, tmp_path)]
    assert statuses == [0, 0], [(tmp_path / rank).read_text() for rank in "01"]
    (result,) = results_of(tmp_path)
    for name in ("bad_samples", "val_bad_samples"):
        assert result[name]["num_seen"] == len(pairs) == 27
        assert result[name]["counts"] == reasons(pairs, write_shards)
    assert result["num_samples"] == 12


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "num_good, max_bad_rate, message",
    [
        (8, 0.5, "65.2% of the samples are bad, more than max_bad_rate = 50.0%: 15 of 23"),
        (0, 1, "rank 0 of 1 has 0 good samples, fewer than batch_size = 1; 15 of 15"),
    ],
)
def test_run_with_too_many_bad_pairs_ends_with_their_reasons(
    train, folder, capsys, num_good, max_bad_rate, message, workers
):
    pairs = [*bad_of_each_kind(random.Random(0)), *good(range(num_good))]
    data = write_shards(folder, pairs)
    found = train(data, 24, max_bad_rate=max_bad_rate, workers=workers)
    error = capsys.readouterr().err
    assert found.status == 2 and found.bad == []
    assert error.startswith(f"fastclip train: {message}") and "Traceback" not in error
    for reason, count in reasons(pairs, write_shards).items():
        assert f"{count} {reason}" in error and f"\n  {reason}: {data}/0" in error
