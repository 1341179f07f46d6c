"""`KeyQueue`: the keys of the last batches, as constants that are part of a module's state."""

import torch
from torch import Tensor, nn


class KeyQueue(nn.Module):
    """Keeps the last `size` keys that were put in, with the dtype and the device of the module.

    The state dict has `keys` (size, dim), their `ids` (size,) if there are any and, as the extra
    state, the place of the next key and the number of keys. It is complete: a loaded queue
    continues with the same bits. A queue with ids and one without cannot load each other's state.

    Args:
        dim: D of a key.
        size: how many keys are kept.
        with_ids: whether each key has an id, int64.
    """

    keys: Tensor
    ids: Tensor | None

    def __init__(self, dim: int, size: int, with_ids: bool = False) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("size", size)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, got {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        self.register_buffer("keys", torch.zeros(size, dim))
        ids = torch.zeros(size, dtype=torch.int64) if with_ids else None
        self.register_buffer("ids", ids)
        self.cursor = 0
        self.num_kept = 0

    def kept(self, like: Tensor) -> Tensor:
        """Return the keys, (num_kept, D), in no particular order, in the dtype of `like`."""
        return self.keys[: self.num_kept].to(like.dtype)

    def kept_ids(self) -> Tensor:
        """Return the ids of the keys, (num_kept,), in the order of `kept`."""
        return self.ids[: self.num_kept]

    def put(self, keys: Tensor, ids: Tensor | None = None) -> None:
        """Replace the oldest keys by the rows of `keys` (B, D), and their ids by `ids` (B,)."""
        size = len(self.keys)
        keys = keys.detach()
        first = self.cursor + max(0, len(keys) - size)
        places = torch.arange(first, self.cursor + len(keys), device=self.keys.device) % size
        newest = keys[-size:].to(self.keys.dtype)
        # Into a copy: the loss's backward may still need the keys that the loss was computed with.
        self.keys = self.keys.index_copy(0, places, newest)
        if self.ids is not None:
            self.ids = self.ids.index_copy(0, places, ids[-size:].to(self.ids.device))
        self.cursor = (self.cursor + len(keys)) % size
        self.num_kept = min(size, self.num_kept + len(keys))

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.cursor, self.num_kept])

    def set_extra_state(self, state: Tensor) -> None:
        cursor, num_kept = state.tolist()
        size = len(self.keys)
        if not (0 <= cursor < size and 0 <= num_kept <= size):
            raise ValueError(
                f"the state of a queue of {size} keys cannot have its cursor at {cursor} "
                f"and {num_kept} keys"
            )
        self.cursor, self.num_kept = cursor, num_kept

    def extra_repr(self) -> str:
        size, dim = self.keys.shape
        return f"dim={dim}, size={size}, num_kept={self.num_kept}"
