"""A model in a worker that is killed in the middle of its work, once."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fastclip.models.inference import InferenceModel
from tests.support.stub_model import numbered_model


class MortalModel(NamedTuple):
    """Opens `numbered_model`, whose process kills itself when one image is first looked at.

    Attributes:
        notes: a folder, which gets a file for each process that has opened the model, and one when
            one is killed, with the number of rows that were complete then.
        shard: the folder that is written then.
        fatal: the number of the image.
    """

    notes: Path
    shard: Path
    fatal: int | None = None

    def dying_of(self, number: int) -> "MortalModel":
        return self._replace(fatal=number)

    def rows_when_killed(self, number: int) -> int:
        return int((self.notes / f"killed_{number}").read_text())

    def __call__(self) -> InferenceModel:
        self.notes.mkdir(exist_ok=True)
        (self.notes / f"pid_{os.getpid()}").touch()
        ready = numbered_model()
        return replace(ready, transform=self._dangerous(ready.transform))

    def _dangerous(self, transform: Callable) -> Callable:
        def look(image: object) -> object:
            time.sleep(0.03)  # so that no worker does all before the other has started
            pixels = transform(image)
            killed = self.notes / f"killed_{self.fatal}"
            if pixels[0, 0, 0] == self.fatal and not killed.exists():
                files = json.loads((self.shard / "embeddings.json").read_text())["files"]
                killed.write_text(str(sum(file["rows"] for file in files)))
                os.kill(os.getpid(), signal.SIGKILL)
            return pixels

        return look
