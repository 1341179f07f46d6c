"""python -m fastclip.compat MODULE ARGUMENTS: runs a program whose open_clip and clip are fastclip.

python -m fastclip.compat open_clip_train.main --train-data pairs.csv --model ViT-B-32
python -m fastclip.compat clip_benchmark.cli eval --dataset cifar10 --model ViT-B-32
"""

import runpy
import sys

from fastclip.compat import clip, open_clip


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    open_clip.install()
    clip.install()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
