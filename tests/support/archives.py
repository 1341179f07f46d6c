"""Files of weights written byte by byte, as nobody's `torch.save` would write them."""

import struct
import zipfile
from pathlib import Path

ENDED = b"."
START = b"\x80\x02"
TRUE_MAKER = b"ctorch._utils\n_rebuild_tensor_v2\n"
NO_HOOKS = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    encoded = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def remembered(place: int) -> bytes:
    return b"r" + struct.pack("<I", place)


def recalled(place: int) -> bytes:
    return b"j" + struct.pack("<I", place)


def mapping(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


def module(**attributes: bytes) -> bytes:
    """A TorchScript object."""
    return b"c__torch__\nModule\n)\x81" + mapping(**attributes) + b"b"


def storage(key: str = "0", kind: str = "FloatStorage", count: int = 4) -> bytes:
    reference = text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu")
    return b"(" + reference + number(count) + b"tQ"


def tensor(
    size: tuple[int, ...] = (2, 2),
    stride: tuple[int, ...] = (2, 1),
    offset: int = 0,
    of: bytes | None = None,
    maker: bytes = TRUE_MAKER,
) -> bytes:
    arguments = (storage() if of is None else of) + number(offset)
    arguments += numbers(*size) + numbers(*stride) + b"\x89" + NO_HOOKS
    return maker + b"(" + arguments + b"tR"


def write_archive(
    path: Path,
    pickled: bytes,
    storages: dict[str, bytes] | None = None,
    is_program: bool = False,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Write an archive of `torch.save`, or of a program, around a pickle without start and end."""
    storages = {"0": bytes(16)} if storages is None else storages
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", START + pickled + ENDED)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
        if is_program:
            archive.writestr("archive/code/__torch__.py", "pass")
    return path
