"""Opens the pairs that a flag names; errors name the flags that the user gave."""

from fastclip.data.sources.no_such_column import NoSuchColumn
from fastclip.data.sources.opening import find_type, open_source
from fastclip.data.sources.source import Source
from fastclip.train.run.model import RunModel
from fastclip.train.settings.data_config import SourceConfig

# Maps arguments of `open_source` to the flags that name columns.
FLAGS = {"image_key": "--csv-img-key", "caption_key": "--csv-caption-key"}


def open_pairs(
    config: SourceConfig,
    flag: str,
    spec: str | None,
    dataset_type: str,
    run_model: RunModel,
    num_samples: int | None = None,
) -> Source:
    """Open pairs of images and captions.

    Args:
        flag: what `spec` was given to, such as "--val-data".
        run_model: synthetic images have the size that this model takes.
        num_samples: how many samples generated data has.

    Raises:
        OSError, ValueError, ModuleNotFoundError: see `open_source`; the message names flags.
    """
    try:
        return open_source(
            spec, dataset_type, num_samples=num_samples, separator=config.csv_separator,
            image_size=run_model.model.config.vision_cfg.image_size,
            **_keys(config, spec, dataset_type),
        )  # fmt: skip
    except FileNotFoundError as error:
        if error.filename is None:
            raise
        raise FileNotFoundError(f"{flag}: there is no file or folder {error.filename!r}") from error
    except NoSuchColumn as error:
        raise error.under(FLAGS[error.argument]) from error


def _keys(config: SourceConfig, spec: str | None, dataset_type: str) -> dict[str, str | None]:
    """Return the names of images and captions: columns of tables, or suffixes of files."""
    keys = {"image_key": config.image_key, "caption_key": config.caption_key}
    if type_of(spec, dataset_type) not in ("csv", "hf"):
        return keys
    columns = {"image_key": config.csv_img_key, "caption_key": config.csv_caption_key}
    return {name: columns[name] if key is None else key for name, key in keys.items()}


def type_of(spec: str | None, dataset_type: str) -> str:
    return find_type(spec) if dataset_type == "auto" and spec is not None else dataset_type
