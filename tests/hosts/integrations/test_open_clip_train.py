"""open_clip's own trainer by its launcher: the losses that it logs with and without fastclip."""

import pytest

from tests.hosts.test_open_clip_trainer import pairs, train  # noqa: F401

LAUNCHER = "fastclip.integrations.open_clip_train"


def test_losses_are_those_of_open_clip(place, run_client, pairs):  # noqa: F811
    """SigLIP's and what else is called by the same names are in `tests/integrations`."""
    flags = ["--pretrained", "tiny.pt", "--accum-freq", "3", "--epochs", "2", "--local-loss"]
    arguments = run_client, place, "open_clip", pairs, *flags
    expected = train(*arguments)
    found = train(*arguments, module=LAUNCHER, name="ours")
    assert len(found) == len(expected) > 3
    for (name, ours), (other, theirs) in zip(found, expected, strict=True):
        assert name == other and ours == pytest.approx(theirs, rel=2e-4, abs=2e-4), name
    log = (place / "logs" / "ours" / "out.log").read_text()
    assert "The loss is fastclip's ClipLoss(" in log
    assert "fastclip" not in (place / "logs" / "open_clip" / "out.log").read_text()


def test_flag_that_the_loss_cannot_obey_is_refused_before_anything_is_loaded(monkeypatch):
    import open_clip_train.main as trainer

    from fastclip.integrations.open_clip_train import main

    monkeypatch.setattr(trainer, "create_loss", trainer.create_loss)
    monkeypatch.setattr(trainer, "main", pytest.fail)
    with pytest.raises(NotImplementedError, match="horovod"):
        main(["--model", "ViT-B-32", "--horovod"])
