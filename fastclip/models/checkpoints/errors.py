"""What can be wrong with weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike

from fastclip.data.quoting import first_line, some_of

SHOWN = 8  # keys that are named of each kind of mismatch


class CheckpointError(ValueError, RuntimeError):
    """Weights that cannot be read, or do not fit.

    Both a ValueError, as everywhere in fastclip, and the RuntimeError that torch and open_clip
    raise for the same.
    """


class UnsafeCheckpointError(CheckpointError):
    """A file that would have to run code to be read."""


class ActivationMismatchError(CheckpointError):
    """Weights of one activation for a model of another."""

    def __init__(self, weights: str, model: str) -> None:
        self.weights = weights
        self.model = model
        super().__init__(
            f"the weights were trained with activation {weights}, the model has {model}: its "
            "features would be worse without a sign of it. Choose the architecture of the weights, "
            "such as a name that ends in -quickgelu, or force_quick_gelu=True"
        )


class KeyMismatchError(CheckpointError):
    """Tensors that a model lacks or does not know.

    Attributes:
        missing: names that the model has and the weights have not.
        unexpected: names that the weights have and the model has not.
        misshapen: "name: shape in the weights, shape in the model".
    """

    def __init__(
        self, missing: Sequence[str], unexpected: Sequence[str], misshapen: Sequence[str]
    ) -> None:
        self.missing = list(missing)
        self.unexpected = list(unexpected)
        self.misshapen = list(misshapen)
        kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
        lines = ["the weights do not fit the model"]
        for kind, names in kinds.items():
            if names:
                lines.append(f"  {len(names)} {kind}: {some_of(names, SHOWN)}")
        super().__init__("\n".join(lines))


@contextmanager
def reading(path: str | PathLike, what: str = "file of weights") -> Iterator[None]:
    """Whatever goes wrong with a file's content is a `CheckpointError` that names the file.

    Args:
        what: the file should be.

    Raises:
        UnsafeCheckpointError: it would have to run code.
        CheckpointError: anything else, as a damaged file can fail in any way at all.
    """
    try:
        yield
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(
            f"{path} is refused: it holds more than tensors, and reading it would run code "
            f"({error}). Where you trust it, write its weights anew with the code that made it: "
            "torch.save(model.state_dict(), 'weights.pt')"
        ) from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(f"{path} is a damaged {what} ({reason})") from error
