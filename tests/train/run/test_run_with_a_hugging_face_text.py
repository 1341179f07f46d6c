"""A run of a model whose text tower is an encoder of transformers, with its own tokenizer."""

import pytest
import torch
from PIL import Image

import fastclip
from fastclip.cli import main
from fastclip.losses.clip import ClipLoss
from fastclip.models.build import build_model
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.clip_config import ClipConfig
from fastclip.models.inference import open_model
from fastclip.models.padding import without_padding
from fastclip.models.towers.vision_transformer.config import VisionConfig
from fastclip.train.step.cached import CachedStep
from tests.support.hugging_face_towers import hf_text
from tests.support.peers import transformers
from tests.support.runs import assert_same_run, final

NUM = 8
VISION = VisionConfig(32, patch_size=16, width=32, layers=1, head_width=32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, its tokenizer beside it, and a table of images."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    place = tmp_path_factory.mktemp("roberta")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = {word: i for i, word in enumerate([*special, "caption", *map(str, range(NUM))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    (place / "words").mkdir()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(
        place / "words"
    )
    torch.manual_seed(0)
    text = hf_text("roberta", place, hf_tokenizer_name=str(place / "words"))
    model = build_model(ClipConfig(16, VISION, text, custom_text=True))
    save_pretrained(model, place / "model", tokenizer_directory=place / "words")
    rows = "".join(f"{i}.jpg\tcaption {i}\n" for i in range(NUM))
    (place / "pairs.csv").write_text("filepath\ttitle\n" + rows)
    for i in range(NUM):
        Image.new("RGB", (40, 30), (37 * i % 256, 91 * i % 256, 77)).save(place / f"{i}.jpg")
    return place


def train(made, logs, name, *flags):
    return main([
        "train", "--train-data", str(made / "pairs.csv"), "--model", f"local-dir:{made / 'model'}",
        "--global-batch-size", "4", "--micro-batch-size", "2", "--workers", "0", "--device", "cpu",
        "--warmup", "1", "--ema-decay", "0.5", "--logs", str(logs), "--name", name, *flags,
    ])  # fmt: skip


def test_a_run_is_resumed_and_opened(made, tmp_path):
    assert train(made, tmp_path, "whole", "--epochs", "2") == 0
    epoch = str(tmp_path / "whole" / "checkpoints" / "epoch_1.pt")
    assert train(made, tmp_path, "resumed", "--epochs", "2", "--resume", epoch) == 0
    assert_same_run(final(tmp_path, "resumed"), final(tmp_path, "whole"))
    ready = open_model(tmp_path / "whole", device="cpu")
    tokens = ready.tokenizer(["caption 3", "caption"])
    assert tokens[0, :5].tolist() == [0, 4, 8, 2, 1] and tokens.shape == (2, 12)
    trained = final(tmp_path, "whole")["state_dict"]
    assert all(torch.equal(value, trained[n]) for n, value in ready.model.state_dict().items())
    before = fastclip.create_model(f"local-dir:{made / 'model'}").state_dict()
    changed = {n for n in before if not torch.equal(trained[n], before[n])}
    assert "text.transformer.encoder.layer.1.output.dense.weight" in changed
    assert "text.proj.0.weight" in changed


def test_texts_are_cut_behind_the_longest(made):
    ready = open_model(f"local-dir:{made / 'model'}", device="cpu")
    tokens = ready.tokenizer(["caption 3", "caption"])
    cut = without_padding(ready.model, tokens)
    assert cut.shape == (2, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            ready.model.encode_text(cut), ready.model.encode_text(tokens), rtol=1e-4, atol=1e-6
        )


def test_gradients_in_micro_batches_are_those_of_the_batch(made):
    model = fastclip.create_model(f"local-dir:{made / 'model'}").eval()
    tokenizer = fastclip.get_tokenizer(f"local-dir:{made / 'model'}")
    images = torch.randn(4, 3, 32, 32)
    texts = tokenizer([f"caption {i}" for i in range(4)])
    gradients = []
    for size in (4, 2):
        model.zero_grad()
        CachedStep(model, ClipLoss(), micro_batch_size=size)(images, texts)
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    assert len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_locked_text_tower_trains_its_projection_alone(made, tmp_path):
    assert train(made, tmp_path, "locked", "--epochs", "1", "--lock-text") == 0
    before = fastclip.create_model(f"local-dir:{made / 'model'}").text.state_dict()
    after = final(tmp_path, "locked")["state_dict"]
    changed = {n for n in before if not torch.equal(after[f"text.{n}"], before[n])}
    assert changed == {"proj.0.weight", "proj.2.weight"}


@pytest.mark.parametrize(
    "model, message",
    [
        (None, "model comes with its weights"),
        ("digits", "the text tower of digits is not an encoder of transformers"),
        ("ViT-B-32", "the text tower of ViT-B-32 is not an encoder of"),
    ],
)
def test_weights_of_the_text_tower_alone_are_refused_where_there_are_none(
    model, message, made, tmp_path, capsys
):
    flags = [] if model is None else ["--model", model]
    assert train(made, tmp_path, "run", "--pretrained-text", *flags) == 2
    assert message in capsys.readouterr().err


def test_a_tokenizer_that_is_not_there_is_named(made, tmp_path, capsys):
    values = (made / "model" / "open_clip_config.json").read_text()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "open_clip_config.json").write_text(values)
    (bare / "open_clip_model.safetensors").symlink_to(made / "model/open_clip_model.safetensors")
    with pytest.raises(FileNotFoundError, match="bare has no tokenizer: copy the files"):
        fastclip.get_tokenizer(f"local-dir:{bare}")
    assert train(made, tmp_path, "run", "--model", f"local-dir:{bare}") == 2
    assert "has no tokenizer" in capsys.readouterr().err
