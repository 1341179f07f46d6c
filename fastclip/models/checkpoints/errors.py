"""What can be wrong with weights."""

from collections.abc import Sequence

SHOWN = 8  # keys listed per kind of mismatch


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
                more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"  {len(names)} {kind}: {', '.join(names[:SHOWN])}{more}")
        super().__init__("\n".join(lines))
