"""Jobs of `embed` in tests: small sources of every kind, and a model whose vectors say of what."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastclip.embeddings import Embeddings, embed, open_embeddings
from fastclip.embeddings.lock import locked
from tests.support.pair_files import image_bytes, tar_bytes
from tests.support.stub_model import numbered_model

READY = numbered_model()
SETTINGS = {"rows_per_file": 10, "batch_size": 4, "workers": 2}


def run(source, out, **settings) -> Embeddings:
    """Embed a source and open what is there then, whose files are verified."""
    embed(READY, source, out, **(SETTINGS | settings))
    return open_embeddings(out, verify=True)


def write_images(folder: Path, numbers, captions=False) -> Path:
    """Write images of numbers into three folders below one."""
    for i in numbers:
        path = folder / f"d{i % 3}" / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(i))
        if captions:
            path.with_suffix(".txt").write_text(f"number {i}")
    return folder


def numbers_of(side) -> list[int]:
    """Return of which image or text the vector of each row is."""
    vectors = side.rows(range(len(side)))
    assert (vectors.sum(axis=1) == 1).all() and (vectors.max(axis=1) == 1).all()
    return vectors.argmax(axis=1).tolist()


def as_folder(tmp_path):
    return write_images(tmp_path / "in", range(25))


def as_list(tmp_path):
    write_images(tmp_path / "in", range(25))
    names = [f"in/d{i % 3}/{i:03d}.png" for i in range(25)]
    (tmp_path / "list.txt").write_text("\ufeff" + "\r\n\n".join(names))
    return tmp_path / "list.txt"


def as_shards(tmp_path):
    for shard, numbers in enumerate((range(0, 9), range(9, 25))):
        members = [
            member
            for i in numbers
            for member in (
                (f"{i:09d}.png", image_bytes(i)),
                (f"{i:09d}.txt", b"a <b>&\n\xe6\x9d\xb1 number %d" % i),
                (f"{i:09d}.json", json.dumps(
                    {"caption": "other", "key": f"{i}", "url": f"http://x/{i}", "width": i,
                     "nothing": float("nan")}).encode()),
            )
        ]  # fmt: skip
        (tmp_path / f"{shard:05d}.tar").write_bytes(tar_bytes(members))
        (tmp_path / f"{shard:05d}_stats.json").write_text("{}")
    return tmp_path


def table(suffix, separator):
    def write(tmp_path):
        write_images(tmp_path / "in", range(25))
        lines = [separator.join(("width", "path", "caption"))]
        lines += [separator.join((str(i), f"in/d{i % 3}/{i:03d}.png", f'"say ""{i}"", {i}"'))
                  for i in range(25)]  # fmt: skip
        (tmp_path / f"t.{suffix}").write_bytes("\ufeff".encode() + "\n".join(lines).encode())
        return tmp_path / f"t.{suffix}"

    return write


def as_parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    write_images(tmp_path / "in", range(25))
    paths = [os.path.abspath(tmp_path / f"in/d{i % 3}/{i:03d}.png") for i in range(25)]
    columns = {"image_path": paths, "text": [f"number {i}" for i in range(25)],
               "nothing": [float("nan")] * 25, "raw": [b"\xff"] * 25}  # fmt: skip
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet", row_group_size=7)
    return tmp_path / "t.parquet"


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but the lock; no temporary one is left."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in paths if path.name.endswith(".tmp")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@contextmanager
def lock_of_another_process(folder: Path) -> Iterator[None]:
    """In this context another process holds the lock of a folder; at the end it is killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with locked(folder):
            os.write(writing, b"x")
            signal.pause()
        os._exit(0)
    try:
        assert os.read(reading, 1) == b"x"
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
