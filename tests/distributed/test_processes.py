"""How long ranks wait for each other is said on the command line."""

from datetime import timedelta

import pytest
import torch.distributed as dist

from fastclip.cli import main
from fastclip.train.settings.run_config import RunConfig
from tests.support.runs import arguments


@pytest.mark.parametrize("changes, minutes", [({}, 10), ({"dist_timeout_minutes": 90}, 90)])
def test_timeout_reaches_the_group(changes, minutes, tmp_path, monkeypatch, capsys):
    def refuse(backend, timeout):
        raise RuntimeError(f"{backend} waits {timeout / timedelta(minutes=1)} minutes")

    monkeypatch.setattr(dist, "init_process_group", refuse)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(arguments(tmp_path, "run", **changes)) == 2
    assert f"gloo waits {minutes}.0 minutes" in capsys.readouterr().err


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), 1e6])
def test_what_is_no_timeout_is_refused(minutes):
    with pytest.raises(ValueError, match="dist_timeout_minutes must be above 0 and at most"):
        RunConfig(dist_timeout_minutes=minutes)
