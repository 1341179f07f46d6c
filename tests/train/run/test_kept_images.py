"""Whether a run keeps decoded images, by what rule, and what it says."""

import pytest
from PIL import Image

from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.tar_shards import TarSource
from fastclip.train.run import kept_images
from fastclip.train.run.kept_images import keep_images
from fastclip.train.settings.run_config import RunConfig
from tests.support.pair_files import write_shards

NUM, BYTES_OF_ALL = 70, 70 * 40 * 30 * 3  # two parts


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    Image.new("RGB", (40, 30)).save(folder / "x.jpg")
    (folder / "pairs.csv").write_text("filepath,title\n" + "x.jpg,words\n" * NUM)
    return CsvSource(folder / "pairs.csv")


TRANSFORM = image_transform_v2(PreprocessCfg(size=8), True, None, "uint8")


@pytest.mark.parametrize(
    "settings, free, num_bytes, words",
    [
        ({}, 20 * BYTES_OF_ALL, BYTES_OF_ALL * 1.25, "(--image-cache): all of them"),
        ({}, 12 * BYTES_OF_ALL, None, "are not kept in memory: a tenth"),
        ({"epochs": 1}, 20 * BYTES_OF_ALL, None, None),
        ({"epochs": 1, "train_num_samples": 140}, 20 * BYTES_OF_ALL, BYTES_OF_ALL * 1.25, "all"),
        ({"image_cache": "0"}, 20 * BYTES_OF_ALL, None, None),
        (
            {"image_cache": str(BYTES_OF_ALL // 2)},
            0,
            BYTES_OF_ALL // 2,
            "(--image-cache): about 50% of them",
        ),
        ({"image_cache": "1M", "epochs": 1}, 0, 2**20, "(--image-cache): all of them"),
    ],
)
def test_rule(settings, free, num_bytes, words, source, monkeypatch):
    monkeypatch.setattr(kept_images, "memory_of", lambda device: free)
    found = keep_images(RunConfig(**{"workers": 0} | settings), source, TRANSFORM)
    assert (None if found.cache is None else found.cache.num_bytes) == num_bytes
    assert (found.said is None) == (words is None) and (words or "") in (found.said or "")


@pytest.mark.parametrize("cache", ["auto", "1GiB"])
def test_what_cannot_be_kept_is_said_where_it_was_asked_for(cache, source, monkeypatch):
    config = RunConfig(image_cache=cache, workers=2)
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none: "spawn")
    found = keep_images(config, source, TRANSFORM)
    assert found.cache is None and (found.said is None) == (cache == "auto")
    words = "workers that are started by 'spawn' share no memory"
    assert words in (found.said or words)
    found = keep_images(config, source, None)
    assert found.cache is None and (found.said is None) == (cache == "auto")


@pytest.mark.parametrize("cache", ["auto", "1GiB"])
@pytest.mark.parametrize(
    "name, text", [("sizes.json", '{"000.tar": 2, "001.tar": 3}'), ("__len__", "5")]
)
def test_shards_are_not_kept_whatever_lies_beside_them(name, text, cache, tmp_path):
    write_shards(tmp_path, [3, 2])
    (tmp_path / name).write_text(text)
    source = TarSource(str(tmp_path))
    assert source.num_samples() == 5
    found = keep_images(RunConfig(image_cache=cache, workers=0), source, TRANSFORM)
    assert found.cache is None and (found.said is None) == (cache == "auto")
    assert "shards are read without counting" in (found.said or "shards are read without counting")


def test_a_source_whose_parts_have_no_lengths_is_not_kept(source, monkeypatch):
    parts = [part._replace(num_samples=None) for part in source.parts()]
    monkeypatch.setattr(source, "parts", lambda: parts)
    monkeypatch.setattr(source, "num_samples", lambda: NUM)
    found = keep_images(RunConfig(image_cache="1GiB", workers=0), source, TRANSFORM)
    assert found.cache is None and "does not say how many samples" in found.said


@pytest.mark.parametrize("size", ["8000000000GiB", "1000000GiB"])
def test_memory_that_cannot_be_had_names_the_flag(size, source):
    config = RunConfig(image_cache=size, workers=0)
    with pytest.raises(ValueError, match=f"--image-cache {size} is more memory than the system"):
        keep_images(config, source, TRANSFORM)


def test_image_cache_is_bytes_or_auto():
    with pytest.raises(ValueError, match=r"image_cache must be a number of bytes, .*, got 'x'"):
        RunConfig(image_cache="x")
    assert RunConfig(image_cache=0).image_cache == "0"
