"""The one check that the modules share until the losses know about ranks."""


def require_single_process(rank: int, world_size: int, use_horovod: bool = False) -> None:
    if world_size < 1:
        raise ValueError(f"world_size must be >= 1, got {world_size}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, world_size={world_size}), got {rank}")
    if use_horovod:
        raise NotImplementedError("use_horovod=True is not supported; use torch.distributed")
    if world_size > 1:
        raise NotImplementedError(
            f"world_size={world_size}: the loss over several ranks is not implemented yet. "
            "A rank's own batch alone would be a different loss, so it is not computed."
        )
