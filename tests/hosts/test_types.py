"""The public calls as checkers of types see them: typed_use.py, and README's own lines."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
USE = Path(__file__).with_name("typed_use.py")
# Of the environment that has torch; the checkers themselves are installed in the other.
PYTHON = Path(torch.__file__).parents[4] / "bin" / "python"
WRONG = {n for n, x in enumerate(USE.read_text().splitlines(), 1) if x.endswith("# wrong")}

CHECKERS = {
    "pyright": ["pyright", "--pythonpath", str(PYTHON)],
    "mypy": [
        "mypy", "--python-executable", str(PYTHON), "--follow-imports=silent",
        "--disable-error-code=name-defined", "--disable-error-code=import-untyped",
        "--disable-error-code=import-not-found", "--cache-dir=/dev/null",
    ],
}  # fmt: skip
PYRIGHT_SETTINGS = "# pyright: reportUndefinedVariable=false, reportMissingImports=false\n"


def readme_lines() -> str:
    """README's Python, a function per block: names that a block does not make are not known."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    return PYRIGHT_SETTINGS + "\n".join(
        f"def block_{number}() -> None:\n" + re.sub("^", "    ", block, flags=re.M)
        for number, block in enumerate(blocks)
    )


@pytest.mark.parametrize("checker", CHECKERS)
def test_checkers_agree_with_what_calls_return(checker, tmp_path):
    readme = tmp_path / "readme.py"
    readme.write_text(readme_lines())
    command = [sys.executable, "-m", *CHECKERS[checker], str(USE), str(readme)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    errors = re.findall(r"(\w+\.py):(\d+).*\berror\b: (.*)", done.stdout)
    found = {int(line) for name, line, _ in errors if name == USE.name}
    assert found == WRONG, done.stdout
    assert not [error for error in errors if error[0] == readme.name], done.stdout
