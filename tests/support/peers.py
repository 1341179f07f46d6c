"""The packages that fastclip's encoders are compared with, importable beside a CPU torch.

from tests.support.peers import open_clip, transformers
"""

import pytest

from fastclip.benchmarks.torchvision import make_importable

make_importable()
open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")
timm = pytest.importorskip("timm")
