"""Run open_clip's own trainer with a CPU torch: `python -m fastclip.benchmarks.open_clip_trainer`.

It takes the arguments of `open_clip_train.main`.
"""

import sys

from fastclip.benchmarks.torchvision import make_importable

if __name__ == "__main__":
    make_importable()
    from open_clip_train.main import main

    sys.exit(main(sys.argv[1:]))
