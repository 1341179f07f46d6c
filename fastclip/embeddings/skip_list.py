"""`skipped.jsonl`: one line for each input that has no vector, with its key and the reason.

The file grows by appending. The manifest says how long it is: what a killed process wrote beyond
that is cut off before the resumed job goes on.
"""

import hashlib
import json
import os
from pathlib import Path

from fastclip.atomic_file import reading, writing
from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.sources.samples import BadSample
from fastclip.embeddings.layout import SKIPPED
from fastclip.embeddings.manifest import ManifestError, SkippedRecord


class SkipList:
    """The list of a folder, open for appending.

    Attributes:
        account: the account of inputs read and of bad inputs; the caller counts `num_seen`.

    Raises:
        CannotRead: the manifest has a list, but it cannot be read.
        ManifestError: the list is not what was written.
    """

    def __init__(self, folder: Path, record: SkippedRecord) -> None:
        self.account = BadSamples.from_dict(record.account)
        self._path = folder / SKIPPED
        self._size, self._digest = record.size, hashlib.sha256()
        self._waiting: list[bytes] = []
        if record.size:
            with reading(self._path), open(self._path, "rb") as file:
                self._digest.update(file.read(record.size))
            if self._digest.hexdigest() != record.sha256:
                raise ManifestError(f"{self._path} is not what was written to it")

    def add(self, bad: BadSample) -> None:
        """Count a bad input and list it; a file that belongs to no sample is only counted."""
        self.account.add(bad)
        if bad.lost:
            values = {"key": bad.key, "reason": bad.reason, "detail": bad.detail, "lost": bad.lost}
            self._waiting.append(json.dumps(values).encode() + b"\n")

    def write(self) -> SkippedRecord:
        """Write what was added to the disk; raise CannotWrite if that fails."""
        lines = b"".join(self._waiting)
        with writing(self._path):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.ftruncate(file, self._size)
                with open(file, "wb", closefd=False) as output:
                    output.seek(self._size)
                    output.write(lines)
                    output.flush()
                os.fsync(file)
            finally:
                os.close(file)
        self._digest.update(lines)
        self._size, self._waiting = self._size + len(lines), []
        return SkippedRecord(self.account.to_dict(), self._size, self._digest.hexdigest())
