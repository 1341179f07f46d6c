"""The errors of reading, checking and loading weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike

from fastclip.data.quoting import first_line, some_of

SHOWN = 8  # names of tensors that an error lists for each kind of mismatch


class CheckpointError(ValueError, RuntimeError):
    """Weights cannot be read, or do not fit the model.

    It is a ValueError, as the other errors of fastclip about values are, and also a RuntimeError,
    which torch and open_clip raise in the same cases.
    """


class UnsafeCheckpointError(CheckpointError):
    """A file would have to run code to be read."""


class ActivationMismatchError(CheckpointError):
    """The weights were trained with another activation than the model has.

    Attributes:
        weights: the activation of the weights.
        model: the activation of the model.
    """

    def __init__(self, weights: str, model: str) -> None:
        self.weights = weights
        self.model = model
        super().__init__(
            f"the weights were trained with activation {weights}, the model has {model}: it would "
            "load without an error and return worse features. Choose an architecture with the "
            "activation of the weights (names that end in -quickgelu have quick_gelu), or give "
            "force_quick_gelu=True"
        )


class KeyMismatchError(CheckpointError):
    """The weights have other tensors than the model.

    Attributes:
        missing: names of tensors that the model has and the weights lack.
        unexpected: names of tensors that the weights have and the model lacks.
        misshapen: tensors whose shapes differ, as "name: shape in the weights, shape in the model".
    """

    def __init__(
        self, missing: Sequence[str], unexpected: Sequence[str], misshapen: Sequence[str]
    ) -> None:
        self.missing = list(missing)
        self.unexpected = list(unexpected)
        self.misshapen = list(misshapen)
        kinds = {
            "missing from the weights": missing,
            "unknown to the model": unexpected,
            "of another shape": misshapen,
        }
        lines = ["the weights do not fit the model: give the architecture that they belong to"]
        for kind, names in kinds.items():
            if names:
                lines.append(f"  {len(names)} {kind}: {some_of(names, SHOWN)}")
        super().__init__("\n".join(lines))


@contextmanager
def reading(path: str | PathLike, what: str = "file of weights") -> Iterator[None]:
    """Turn every error of reading a file into a `CheckpointError` that names the file.

    Args:
        path: the file that the code in this context reads.
        what: what the file should be, for the message about a damaged one.

    Raises:
        UnsafeCheckpointError: the file would have to run code.
        CheckpointError: anything else went wrong; a damaged file can raise any exception.
    """
    try:
        yield
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(
            f"{path} is refused: it holds more than tensors, and reading it would run code "
            f"({error}). If you trust the file, load it with the code that made it and save its "
            "weights alone: torch.save(model.state_dict(), 'weights.pt')"
        ) from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(
            f"{path} is a damaged {what} ({reason}): copy or download it again"
        ) from error
