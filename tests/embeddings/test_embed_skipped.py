"""`embed`: what cannot be embedded is skipped with its reason and counted, or refused at once."""

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from fastclip.data.loading.bad_samples import DataError
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import IndexedSource
from fastclip.embeddings import embed, open_embeddings
from tests.support.bad_pairs import bad_of_each_kind, good, write_folder
from tests.support.embed_jobs import READY, SETTINGS, numbers_of, run, write_images
from tests.support.images import encoded, png_header, random_image
from tests.support.pair_files import image_bytes


def damaged_images() -> dict[str, tuple[bytes, str | None]]:
    rgb = random_image("RGB", 40, 30)
    jpeg = encoded(rgb, "JPEG")
    frames = [random_image("RGB", 9, 9, seed) for seed in range(3)]
    return {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "unusable image"),
        "empty.jpg": (b"", "unusable image"),
        "zeros.png": (bytes(3000), "unusable image"),
        "page.jpg": (b"<html>404</html>", "unusable image"),
        "huge.png": (png_header(60_000, 60_000), "unusable image"),
        "header.png": (png_header(9, 9), "unusable image"),
        "cmyk.jpg": (encoded(random_image("CMYK", 20, 20), "JPEG"), None),
        "grey16.png": (encoded(random_image("I;16", 20, 20), "PNG"), None),
        "palette.png": (encoded(random_image("P", 20, 20), "PNG"), None),
        "animated.gif": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), None),
        "mislabelled.jpg": (encoded(rgb, "PNG"), None),
        "float.tif": (encoded(Image.new("F", (9, 9)), "TIFF"), "unusable image"),
    }


def test_twelve_kinds_of_damaged_images_are_skipped_or_read(tmp_path):
    images = damaged_images()
    (tmp_path / "in").mkdir()
    for name, (content, _) in images.items():
        (tmp_path / "in" / name).write_bytes(content)
    found = run(tmp_path / "in", tmp_path / "out", max_bad_rate=1)
    lines = [json.loads(line) for line in (found.folder / "skipped.jsonl").read_text().splitlines()]
    expected = {name: reason for name, (_, reason) in images.items() if reason}
    assert {line["key"]: line["reason"] for line in lines} == expected
    assert len(lines) == 7 and all(line["detail"] and line["lost"] == 1 for line in lines)
    assert [row["key"] for row in found.metadata(range(5))] == sorted(set(images) - set(expected))
    assert found.manifest.skipped.account["num_seen"] == 12
    with pytest.raises(DataError, match=r"58.3% of the inputs .*more than max_bad_rate = 10.0%"):
        run(tmp_path / "in", tmp_path / "few")
    assert len(run(tmp_path / "in", tmp_path / "few", resume=True, max_bad_rate=0.6)) == 5
    with pytest.raises(DataError, match=r"empty.jpg cannot be embedded: unusable image"):
        run(tmp_path / "in", tmp_path / "strict", strict=True, max_bad_rate=1)


def test_pairs_that_are_bad_in_every_way_are_counted_by_reason(tmp_path):
    pairs = bad_of_each_kind(random.Random(0))
    write_folder(tmp_path, good(range(3)) + pairs)
    out = tmp_path / "out"
    embed(READY, tmp_path, out, texts=True, images=True, max_bad_rate=1, **SETTINGS)
    found = open_embeddings(out)
    expected = Counter(pair.reason for pair in pairs)
    # An image that lacks its caption only is an input without one, whatever is in its place.
    expected["no caption"] += expected.pop("empty caption")
    assert Counter(found.manifest.skipped.account["counts"]) == expected
    assert numbers_of(found.images) == numbers_of(found.texts) == [0, 1, 2]


class Vanishing(IndexedSource):
    """Its last image is deleted while the first is read."""

    def __init__(self, folder):
        self.paths = sorted(map(str, folder.rglob("*.png")))

    def __len__(self):
        return len(self.paths)

    def load(self, index):
        Path(self.paths[-1]).unlink(missing_ok=True)
        return Sample(str(index), self.paths[index], "")


def test_image_that_is_gone_when_it_is_read_is_counted_as_missing(tmp_path):
    source = Vanishing(write_images(tmp_path / "in", range(25)))
    found = run(source, tmp_path / "out")
    assert len(found) == 24
    assert found.manifest.skipped.account["counts"] == {"missing image file": 1}
    (line,) = (found.folder / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "24" and source.paths[-1] in json.loads(line)["detail"]


def test_paths_that_are_no_text_are_skipped(tmp_path):
    folder = write_images(tmp_path / "in", range(20))
    (Path(os.fsdecode(bytes(folder) + b"/\xff.png"))).write_bytes(image_bytes(1))
    found = run(folder, tmp_path / "out")
    assert len(found) == 20
    assert found.manifest.skipped.account["counts"] == {"path is not UTF-8": 1}


def test_paths_of_a_table_that_are_missing_or_addresses_are_skipped(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(image_bytes(0))
    names = ["a/0.png", "a/gone.png", "https://x.org/y.jpg", "", "../a/0.png"]
    (tmp_path / "a" / "t.csv").write_text("path\n" + "\n".join(["x", *names[:3], names[4]]))
    found = run(tmp_path / "a" / "t.csv", tmp_path / "out", max_bad_rate=1)
    assert found.manifest.skipped.account["counts"] == {
        "missing image file": 3, "image is an address and not a local file": 1
    }  # fmt: skip
    assert found.metadata([0])[0]["image_path"] == "0.png"
    assert found.image_file(0).read_bytes() == image_bytes(0)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", "name,caption\nx.png,y\n", "no column of image paths with a known name"),
        ("t.csv", "path,caption\n", "has only a header"),
        ("t.txt", "\n\n", "names no image"),
        ("t.parquet", "PAR1 no table", "is not a Parquet file"),
        ("t.bin", "x", "cannot be embedded: it must be"),
        ("x.json", None, "there is no file or folder"),
    ],
)
def test_what_cannot_be_embedded_is_refused_before_anything_is_written(
    tmp_path, name, content, told
):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises((ValueError, OSError), match=told):
        run(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
