"""One wheel with the native modules of several versions of torch."""

import runpy
import zipfile
from pathlib import Path

import pytest

merged = runpy.run_path(str(Path(__file__).parent.parent / ".github" / "merge_wheels.py"))["merged"]

TAG = "cp311-cp311-manylinux_2_28_x86_64"
NAME = f"fastclip_kernels-0.1.0-{TAG}.whl"
INFO = "fastclip_kernels-0.1.0.dist-info"


def wheel(folder: Path, torch: str, source: str = "x = 1\n") -> Path:
    folder.mkdir()
    files = {
        "fastclip/__init__.py": source,
        f"fastclip/_C_torch{torch}.cpython-311.so": f"module for {torch}",
        "fastclip/_cuda.so": f"kernels compiled beside {torch}",
        f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: fastclip-kernels\nVersion: 0.1.0\n",
        f"{INFO}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {TAG}\n",
        f"{INFO}/RECORD": f"of {torch}",
    }
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return folder / NAME


def test_merged_wheel_has_all_modules_and_lists_them(tmp_path):
    wheels = [wheel(tmp_path / torch, torch) for torch in ("2_11", "2_12", "2_13")]
    (made,) = merged(wheels, tmp_path / "out")
    assert made.name == NAME
    with zipfile.ZipFile(made) as archive:
        record = archive.read(f"{INFO}/RECORD").decode()
        for torch in ("2_11", "2_12", "2_13"):
            module = f"fastclip/_C_torch{torch}.cpython-311.so"
            assert archive.read(module) == f"module for {torch}".encode()
            assert f"{module},sha256=" in record


def test_python_that_lacks_a_wheel_is_named(tmp_path):
    wheels = [wheel(tmp_path / torch, torch) for torch in ("2_11", "2_12")]
    other = wheels[0].with_name(NAME.replace("manylinux_2_28", "manylinux_2_27"))
    wheels[0].rename(other)
    with pytest.raises(ValueError, match="must have a wheel for each torch") as raised:
        merged([other, wheels[1], wheel(tmp_path / "2_13", "2_13")], tmp_path / "out")
    assert f"1 of {other.name}" in str(raised.value)


@pytest.mark.parametrize(
    "torch, source, message",
    [("2_11", "x = 1\n", "both have"), ("2_12", "x = 2\n", "differ in fastclip/__init__.py")],
)
def test_wheels_of_one_torch_or_of_other_sources_are_refused(tmp_path, torch, source, message):
    wheels = [wheel(tmp_path / "a", "2_11"), wheel(tmp_path / "b", torch, source)]
    with pytest.raises(ValueError, match=message):
        merged(wheels, tmp_path / "out")
