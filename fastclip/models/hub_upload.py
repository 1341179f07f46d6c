"""Publishing a model on the Hugging Face Hub in open_clip's layout, with open_clip's functions.

The repository then loads in open_clip and in fastclip as "hf-hub:organisation/name". Publishing
needs huggingface_hub, which is imported only then.
"""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from fastclip.data.json_file import read_json_object
from fastclip.installation import install_command
from fastclip.models.checkpoints.foreign import OPEN_CLIP_CONFIG
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.clip_config import ClipConfig
from fastclip.models.contrastive_model import ContrastiveModel
from fastclip.models.factory import create_model_from_pretrained
from fastclip.models.open_clip_config import file_values
from fastclip.models.tokenizer import get_tokenizer

SERIALIZATIONS = (True, False, "both")
SAFETENSORS, PICKLE = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


def push_to_hf_hub(
    model: ContrastiveModel,
    tokenizer: Any,
    model_config: Mapping[str, Any] | None,
    repo_id: str,
    commit_message: str = "Add model",
    token: str | None = None,
    revision: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    model_card: Mapping[str, Any] | None = None,
    safe_serialization: bool | str = "both",
) -> Any:
    """Publish a model, its tokenizer and its configuration; create the repository if necessary.

    Args:
        model: a built-in model; its `visual.preprocess_cfg` is published too.
        tokenizer: a tokenizer of `get_tokenizer`, with a method `save_pretrained`. With None,
            CLIP's tokenizer is published if the model has CLIP's vocabulary.
        model_config: the configuration to publish; None is the model's own.
        repo_id: "organisation/name".
        commit_message, token, revision, private, create_pr: as in huggingface_hub.
        model_card: a mapping with any of `license`, `tags`, `pipeline_tag`, `description`,
            `details`, `usage`, `comparison` and `citation`; it is used if the repository has no
            README.md yet.
        safe_serialization: True writes a safetensors file, False a pickle, "both" both.

    Returns:
        What `huggingface_hub.upload_folder` returns.

    Raises:
        ModuleNotFoundError: huggingface_hub is not installed.
        CheckpointError: see `save_pretrained`.
        TypeError: `model` is not a built-in model.
        ValueError: `safe_serialization` is not one of the three values.

    Example:
        >>> fastclip.push_to_hf_hub(model, tokenizer, None, "me/my-clip", private=True)
    """
    if safe_serialization not in SERIALIZATIONS:
        raise ValueError(
            f"safe_serialization must be one of {SERIALIZATIONS}, got {safe_serialization!r}"
        )
    if not isinstance(getattr(model, "config", None), ClipConfig):
        raise TypeError(f"only built-in models can be published, not {type(model).__name__}")
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"push_to_hf_hub needs huggingface_hub: {install_command('hub', 'huggingface_hub')}",
            name=error.name,
        ) from error
    with TemporaryDirectory() as temporary:
        directory = Path(temporary, "model")
        _write(model, tokenizer, model_config, directory, safe_serialization)
        made = huggingface_hub.create_repo(repo_id, token=token, private=private, exist_ok=True)
        repo_id = getattr(made, "repo_id", repo_id)  # with the name of the owner, if it had none
        if not huggingface_hub.file_exists(repo_id, "README.md", revision=revision, token=token):
            card = model_card_text(repo_id.rsplit("/", 1)[-1], model_card or {})
            (directory / "README.md").write_text(card, encoding="utf-8")
        return huggingface_hub.upload_folder(
            repo_id=repo_id, folder_path=directory, revision=revision, create_pr=create_pr,
            commit_message=commit_message, token=token,
        )  # fmt: skip


def push_pretrained_to_hf_hub(
    model_name: str,
    pretrained: str | PathLike,
    repo_id: str,
    precision: str = "fp32",
    image_mean: tuple[float, ...] | None = None,
    image_std: tuple[float, ...] | None = None,
    image_interpolation: str | None = None,
    image_resize_mode: str | None = None,
    commit_message: str = "Add model",
    token: str | None = None,
    revision: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    model_card: Mapping[str, Any] | None = None,
    hf_tokenizer_self: bool = False,
    **settings: Any,
) -> Any:
    """Load weights with `create_model_from_pretrained` and publish them; see `push_to_hf_hub`.

    Args:
        hf_tokenizer_self: name the published repository as the place of the tokenizer in the
            configuration, instead of the place where the tokenizer came from.
        settings and all others: see `create_model_from_pretrained` and `push_to_hf_hub`.

    Raises:
        as `create_model_from_pretrained` and `push_to_hf_hub`.

    Example:
        >>> fastclip.push_pretrained_to_hf_hub("ViT-B-32", "epoch_32.pt", "name/my-clip")
    """
    model = create_model_from_pretrained(
        model_name, pretrained, precision=precision, image_mean=image_mean, image_std=image_std,
        image_interpolation=image_interpolation, image_resize_mode=image_resize_mode,
        return_transform=False, **settings,
    )  # fmt: skip
    config = json.loads(json.dumps(dict(model.config)))
    if hf_tokenizer_self:
        config["text_cfg"]["hf_tokenizer_name"] = repo_id
    return push_to_hf_hub(
        model, get_tokenizer(model_name), config, repo_id, commit_message, token, revision,
        private, create_pr, model_card,
    )  # fmt: skip


def model_card_text(name: str, card: Mapping[str, Any]) -> str:
    """Return the README.md of a published model.

    Args:
        name: the name of the model.
        card: see `push_to_hf_hub`; `details` is a mapping of texts, lists of texts and mappings.
    """
    details = dict(card.get("details") or {})
    head = [f"- {tag}" for tag in card.get("tags", ("clip",))]
    head = ["tags:", *head] if head else []
    head.append("library_name: open_clip")
    head.append(f"pipeline_tag: {card.get('pipeline_tag', 'zero-shot-image-classification')}")
    head.append(f"license: {card.get('license', 'mit')}")
    if "Dataset" in details:
        head += ["datasets:", f"- {str(details['Dataset']).lower()}"]
    lines = ["---", *head, "---", f"# Model card for {name}"]
    if "description" in card:
        lines += ["", card["description"]]
    if details:
        lines += ["", "## Model Details", *_bullets(details)]
    for key, title in (("usage", "Model Usage"), ("comparison", "Model Comparison")):
        if key in card:
            lines += ["", f"## {title}", card[key]]
    citations = card.get("citation") or []
    citations = [citations] if isinstance(citations, str) else citations
    if citations:
        lines += ["", "## Citation"]
        lines += [f"```bibtex\n{citation}\n```" for citation in citations]
    return "\n".join(lines) + "\n"


def _bullets(details: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in details.items():
        if isinstance(value, Mapping):
            lines += [f"- **{name}:**", *(f"  - {k}: {v}" for k, v in value.items())]
        elif isinstance(value, list | tuple):
            lines += [f"- **{name}:**", *(f"  - {item}" for item in value)]
        else:
            lines.append(f"- **{name}:** {value}")
    return lines


def _write(
    model: ContrastiveModel,
    tokenizer: Any,
    model_config: Mapping[str, Any] | None,
    directory: Path,
    safe_serialization: bool | str,
) -> None:
    save_pretrained(model, directory)
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)
    if model_config is not None:
        path = directory / OPEN_CLIP_CONFIG
        written = read_json_object(path)
        written.pop("hf_config", None)
        written |= file_values(json.loads(json.dumps(dict(model_config))))
        path.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    if safe_serialization is not True:
        torch.save(model.state_dict(), directory / PICKLE)
    if safe_serialization is False:
        (directory / SAFETENSORS).unlink()
