"""Checks the options of multiple negatives ranking, by name."""

from typing import NamedTuple

DIRECTIONS = ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc")
PARTITION_MODES = ("joint", "per_direction")
HARDNESS_MODES = (None, "in_batch_negatives", "hard_negatives", "all_negatives")


class RankingOptions(NamedTuple):
    """Options of `fastclip.multiple_negatives_loss`."""

    directions: tuple[str, ...]
    partition_mode: str
    hardness_mode: str | None
    hardness_strength: float


def codes_of(options: RankingOptions) -> dict[str, float]:
    """Return the options as numbers, for comparison between processes."""
    return {
        "directions": sum(1 << DIRECTIONS.index(x) for x in set(options.directions)),
        "partition_mode": PARTITION_MODES.index(options.partition_mode),
        "hardness_mode": HARDNESS_MODES.index(options.hardness_mode),
        "hardness_strength": options.hardness_strength,
    }


def check_ranking(options: RankingOptions) -> None:
    """Raise TypeError or ValueError if options are unknown or exclude each other."""
    directions, partition_mode, hardness_mode, strength = options
    unknown = [x for x in directions if x not in DIRECTIONS]
    if unknown or len(set(directions)) < len(directions) or "query_to_doc" not in directions:
        raise ValueError(
            f"directions must be different ones of {DIRECTIONS}, 'query_to_doc' among them, "
            f"got {directions}"
        )
    if partition_mode not in PARTITION_MODES:
        raise ValueError(f"partition_mode must be one of {PARTITION_MODES}, got {partition_mode!r}")
    without_positive = [x for x in directions if x in DIRECTIONS[2:]]
    if partition_mode == "per_direction" and without_positive:
        raise ValueError(
            f"{without_positive} have no positive among their scores: they need "
            "partition_mode 'joint'"
        )
    if hardness_mode not in HARDNESS_MODES:
        raise ValueError(f"hardness_mode must be one of {HARDNESS_MODES}, got {hardness_mode!r}")
    if isinstance(strength, bool) or not isinstance(strength, (int, float)):
        raise TypeError(f"hardness_strength must be a number, got {type(strength).__name__}")
    if not 0 <= strength < float("inf") or (strength > 0) != (hardness_mode is not None):
        raise ValueError(
            "hardness_strength must be finite, above 0 with a hardness_mode and 0 without one, "
            f"got {strength} with {hardness_mode!r}"
        )
