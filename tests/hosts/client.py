"""Runs a client of open_clip in this process, with fastclip or with open_clip itself.

python tests/hosts/client.py fastclip|open_clip ARCHITECTURE.json MODULE ARGUMENTS...

The architecture is added to the known ones. The client's own files are as they were published.
"""

import runpy
import sys

from fastclip.benchmarks.torchvision import make_importable


def main() -> None:
    _, package, architecture, *sys.argv = sys.argv
    make_importable()
    if package == "fastclip":
        import fastclip.compat.clip
        import fastclip.compat.open_clip

        fastclip.compat.clip.install()
        fastclip.compat.open_clip.install()
    import open_clip

    assert (open_clip.__name__ == "fastclip.compat.open_clip") == (package == "fastclip")
    open_clip.add_model_config(architecture)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
