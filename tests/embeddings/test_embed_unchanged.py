"""`embed --resume` goes on with the files that it began with; shards may be of copies of them."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from fastclip.embeddings import embed, open_embeddings
from tests.support.pair_files import image_bytes
from tests.support.stub_model import numbered_model

SETTINGS = {"rows_per_file": 2, "batch_size": 2, "workers": 1, "metadata": "jsonl"}


def bitmap(number: int) -> bytes:
    """Of 200 x 200, whose number is in the upper row: at the end, far behind 64 KiB."""
    ground, upper = (image_bytes(i, (200, 200), "BMP") for i in (0, number))
    return ground[:-600] + upper[-600:]


def write_images(folder: Path, *numbers: int) -> Path:
    folder.mkdir(exist_ok=True)
    for place, number in enumerate(numbers):
        (folder / f"{place}.bmp").write_bytes(bitmap(number))
    return folder


def as_folder(root: Path):
    return root


def as_list(root: Path):
    (root.parent / "list.txt").write_text("".join(f"data/{i}.bmp\n" for i in range(5)))
    return root.parent / "list.txt"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("given", [as_folder, as_list])
@pytest.mark.parametrize("is_complete", [True, False])
def test_files_that_were_written_again_are_refused(given, is_complete, tmp_path):
    data = write_images(tmp_path / "data", 0, 1, 2, 3, 4)
    source, out = given(data), tmp_path / "out"

    def stop(progress):
        if progress.rows == 4 and not is_complete:
            raise KeyboardInterrupt

    with nullcontext() if is_complete else pytest.raises(KeyboardInterrupt):
        embed(numbered_model(), source, out, progress=stop, **SETTINGS)
    before = contents(out)
    (data / "4.bmp").write_bytes(bitmap(7))
    os.utime(data / "4.bmp", (0, 4_000_000_000))
    told = (
        "out cannot be resumed: files of the data were written since: there were '. files of .*', "
        "and now there are '. files of .*2096-10-02.*'; remove it, or embed"
    )
    with pytest.raises(ValueError, match=told):
        embed(numbered_model(), source, out, resume=True, **SETTINGS)
    assert contents(out) == before
    found = embed(numbered_model(), source, tmp_path / "anew", **SETTINGS)
    assert open_embeddings(found.folder).images.rows([4]).argmax() == 7


def test_shards_of_one_job_may_be_of_copies_that_were_written_at_other_times(tmp_path):
    data = write_images(tmp_path / "data", 0, 1, 2, 3, 4)
    for shard in (0, 1):
        for path in data.iterdir():  # as on another machine, where the copy lies in the same place
            os.utime(path, (0, shard))
        for _ in range(2):
            embed(
                numbered_model(), data, tmp_path / "out", shard=(shard, 2), resume=True, **SETTINGS
            )
    found = open_embeddings(tmp_path / "out", verify=True)
    assert found.images.rows(range(5)).argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="cannot be resumed"):
        embed(numbered_model(), data, tmp_path / "out", shard=(0, 2), resume=True, **SETTINGS)
