"""`embed` that was killed or refused by the disk goes on to the bit; another job is refused."""

import json
import os
import signal

import pytest
import torch

from fastclip.embeddings import embed, open_embeddings
from fastclip.embeddings import writer as writer_module
from fastclip.embeddings.layout import MANIFEST
from tests.support.embed_jobs import (
    READY,
    SETTINGS,
    as_folder,
    as_shards,
    contents,
    lock_of_another_process,
    run,
    write_images,
)
from tests.support.full_disk import files_of_at_most
from tests.support.pair_files import image_bytes
from tests.support.stub_model import numbered_model


def test_second_process_on_one_output_is_refused(tmp_path):
    folder, out = write_images(tmp_path / "in", range(5)), tmp_path / "out"
    with lock_of_another_process(out):
        with pytest.raises(ValueError, match="another process is writing to"):
            run(folder, out)
        assert [path.name for path in out.iterdir()] == ["embeddings.lock"]
    assert len(run(folder, out)) == 5


def is_killed_at(call: int, source, out, **settings) -> bool:
    """Run in a fork, which SIGKILL ends in its so-many-eth write to the disk if it has so many."""
    pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL)
        return status != 0
    try:
        torch.set_num_threads(1)
        calls = 0

        def counted(original):
            def write(path, *args, **options):
                nonlocal calls
                calls += 1
                if calls == call:
                    # Half of a file under its temporary name: as in the middle of a write.
                    path.parent.mkdir(exist_ok=True)
                    path.with_name(f".{path.name}.0123456789abcdef.tmp").write_bytes(b"half")
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(path, *args, **options)

            return write

        def manifest(folder, *args):
            return counted(lambda path: original_manifest(folder, *args))(folder / MANIFEST)

        original_manifest = writer_module.write_manifest
        writer_module.write_array = counted(writer_module.write_array)
        writer_module.write_bytes = counted(writer_module.write_bytes)
        writer_module.write_manifest = manifest
        embed(READY, source, out, **settings)
        os._exit(0)
    finally:
        os._exit(1)


# A file of rows is 5 or 7 writes, of which the steps reach each in turn.
@pytest.mark.parametrize(("write", "step"), [(as_folder, 3), (as_shards, 5)])
def test_job_that_is_killed_at_any_write_is_resumed_to_the_bit(tmp_path, write, step):
    (tmp_path / "data").mkdir()
    source = write(tmp_path / "data")
    damaged = tmp_path / "data" / "in" / "d1" / "007.png"
    if write is as_folder:
        damaged.write_bytes(b"damaged")
    settings = SETTINGS | {"store": "int8", "metadata": "jsonl", "workers": 1}
    whole = tmp_path / "whole"
    embed(READY, source, whole, **settings)
    expected = contents(whole)
    out, call = tmp_path / "killed_1", 1
    while is_killed_at(call, source, out, **settings):
        if call > 1:
            with pytest.raises(ValueError, match="is not complete"):
                open_embeddings(out)
        if call == 1 + 2 * step:  # twice in one job
            is_killed_at(2, source, out, resume=True, **settings)
        embed(READY, source, out, resume=True, **settings)
        assert contents(out) == expected, f"killed at write {call}"
        call += step
        out = tmp_path / f"killed_{call}"
    assert call > 15 and contents(out) == expected
    assert embed(READY, source, out, resume=True, **settings).encoded == 0


def test_part_without_inputs_that_is_killed_at_any_write_is_resumed(tmp_path):
    source = write_images(tmp_path / "in", range(3))
    settings = SETTINGS | {"shard": (1, 7)}
    embed(READY, source, tmp_path / "whole", **settings)
    call, out = 1, tmp_path / "killed_1"
    while is_killed_at(call, source, out, **settings):
        assert embed(READY, source, out, resume=True, **settings).rows == 0
        assert contents(out) == contents(tmp_path / "whole")
        call += 1
        out = tmp_path / f"killed_{call}"
    assert call > 2


def test_position_that_there_is_not_is_refused(tmp_path):
    folder, out = write_images(tmp_path / "in", range(25)), tmp_path / "out"
    assert is_killed_at(3, folder, out, **SETTINGS)
    values = json.loads((out / MANIFEST).read_text())
    for position in ([0], [0, None], [0, -1], [1, 0], [0, 1.0], [True, 1]):
        (out / MANIFEST).write_text(json.dumps(values | {"position": position}))
        with pytest.raises(ValueError, match="has a position that does not exist"):
            embed(READY, folder, out, resume=True, **SETTINGS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"store": "f16"}, "its store is 'f32', not 'f16'"),
        ({"batch_size": 5}, "its settings is"),
        ({"rows_per_file": 11}, "its rows_per_file is 10, not 11"),
        ({"images": True, "texts": True, "max_bad_rate": 1}, "its sides is"),
        ({"metadata": "jsonl"}, "its metadata is 'parquet', not 'jsonl'"),
    ],
)
def test_other_settings_are_refused_by_name_when_a_job_is_resumed(tmp_path, changes, told):
    folder = write_images(tmp_path / "in", range(5))
    run(folder, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match=told):
        run(folder, tmp_path / "out", resume=True, **changes)
    assert contents(tmp_path / "out") == before


def test_other_source_and_other_model_are_refused_when_a_job_is_resumed(tmp_path):
    folder = write_images(tmp_path / "in", range(5))
    run(folder, tmp_path / "out")
    other = numbered_model("other")
    other.model.logit_scale.data += 1
    with pytest.raises(ValueError, match="its model's weights is"):
        embed(other, folder, tmp_path / "out", resume=True, **SETTINGS)
    (folder / "d0" / "new.png").write_bytes(image_bytes(7))
    with pytest.raises(ValueError, match="its source's contents is"):
        run(folder, tmp_path / "out", resume=True)
    with pytest.raises(ValueError, match="has embeddings already"):
        run(folder, tmp_path / "out")


def test_full_disk_leaves_what_is_complete_and_is_resumed(tmp_path):
    folder, out = write_images(tmp_path / "in", range(25)), tmp_path / "out"
    with files_of_at_most(3000), pytest.raises(OSError, match=r"cannot be written: File too large"):
        run(folder, out)
    assert len(run(folder, out, resume=True)) == 25
    expected = run(folder, tmp_path / "whole")
    assert contents(out) == contents(expected.folder)
