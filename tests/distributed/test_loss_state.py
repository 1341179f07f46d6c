"""The state of a loss in a checkpoint over ranks, which may differ from rank to rank."""

import math

import pytest
import torch

from fastclip.distributed.processes import Processes
from fastclip.losses.sog_clr import SogCLRLoss
from fastclip.models.digests import digest_of
from fastclip.models.open_clip_config import to_json
from fastclip.train.checkpoints.run_checkpoints import Progress, RunCheckpoints
from fastclip.train.checkpoints.same_run import OwnRun
from fastclip.train.checkpoints.store import CheckpointStore
from fastclip.train.checkpoints.trained_state import TrainedState
from fastclip.train.log.run_log import RunLog
from fastclip.train.settings.run_config import RunConfig
from tests.train.checkpoints.test_resume import CONFIG, Layer, Place
from tests.train.checkpoints.test_same_run import MOMENTS

RANKS = 4


class Queue(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.register_buffer("queue", torch.full((3,), value, dtype=torch.float64))


def save_and_restore(directory, loss, empty):
    """A checkpoint of a run with this rank's `loss`, and back, after it was emptied."""
    processes = Processes("cpu")
    config = RunConfig(name="run", batch_size=2, epochs=3, warmup=0)
    own = OwnRun(config, config.training(2, RANKS, MOMENTS), MOMENTS, 2, RANKS, to_json(CONFIG), {})
    layer = Layer(1, 1)
    optimizer = torch.optim.AdamW(layer.parameters())
    checkpoints = RunCheckpoints(
        own, processes, directory, RunLog(None), TrainedState(layer, optimizer, loss=loss),
        Place(), Place(),
    )  # fmt: skip
    checkpoints.keep_place()
    checkpoints.save(Progress(1, 2))
    empty(loss)
    assert checkpoints.restore("latest") == (1, 2)


def saved_and_restored(group, directory, values):
    """What the queue of this rank, of one of `values`, holds after both."""
    loss = Queue(values[group.rank()])
    save_and_restore(directory, loss, lambda loss: loss.queue.zero_())
    return loss.queue.tolist()


@pytest.mark.parametrize("values", [(1.0,) * RANKS, (1.0, 2.0, 1.0, 4.0)])
def test_every_rank_gets_its_own_buffers_back_and_equal_ones_are_stored_once(
    ranks, values, tmp_path
):
    found = ranks.run(RANKS, saved_and_restored, tmp_path, values)
    assert found == [[value] * 3 for value in values]
    content = CheckpointStore(tmp_path / "checkpoints").newest().content
    own = [rank["loss_state_dict"]["queue"][0].item() if "loss_state_dict" in rank else None
           for rank in content["ranks"]]  # fmt: skip
    assert own == [None if value == values[0] else value for value in values]


def averages_before_and_after(group, directory):
    loss = SogCLRLoss(10, process_group=group)
    x = torch.eye(3)
    loss(x, x, torch.arange(3) + 2 * group.rank())
    before = loss.log_u.clone()
    save_and_restore(directory, loss, lambda loss: loss.log_u.fill_(9.0))
    return before, loss.log_u


def test_averages_of_shares_of_the_samples_are_stored_as_one(ranks, tmp_path):
    found = ranks.run(RANKS, averages_before_and_after, tmp_path)
    content = CheckpointStore(tmp_path / "checkpoints").newest().content
    assert all(torch.equal(*own) for own in found)
    assert [own.shape[1] for own, _ in found] == [3, 3, 3, 1]
    assert torch.equal(content["loss_state_dict"]["log_u"], torch.cat([x for x, _ in found], 1))
    assert not any("loss_state_dict" in rank for rank in content["ranks"])


def not_saved(group, directory, value):
    """The error of this rank, if the queue of the last one is `value`."""
    values = [*[1.0] * (RANKS - 1), value]
    with pytest.raises(FloatingPointError) as raised:
        saved_and_restored(group, directory, values)
    return str(raised.value)


def test_buffer_of_any_rank_that_is_not_finite_is_not_saved(ranks, tmp_path):
    for message in ranks.run(RANKS, not_saved, tmp_path, math.nan):
        assert "['ranks'][3]['loss_state_dict']['queue'] in it is not finite" in message
    assert CheckpointStore(tmp_path / "checkpoints").newest() is None


def test_digest_depends_on_every_value_name_dtype_and_shape():
    content = {"a": torch.zeros(()), "b": torch.arange(6, dtype=torch.bfloat16), "c": 1}
    others = [
        {**content, "a": torch.ones(())}, {**content, "a": torch.zeros(1)}, {**content, "c": 2},
        {**content, "b": content["b"].half()}, {**content, "d": torch.empty(0)},
        {"x": content["a"], "b": content["b"], "c": 1},
    ]  # fmt: skip
    assert len({digest_of(other) for other in (content, *others)}) == 7
    same = {**content, "b": torch.arange(12, dtype=torch.bfloat16)[::2] / 2}
    assert digest_of(same) == digest_of(content)
