"""What tests compare our models with those of open_clip and of transformers by."""

import torch

from tests.support.peers import transformers


def largest_difference(model, images, tokens, encode_image, encode_text):
    with torch.no_grad():
        pairs = [
            (model.encode_image(images), encode_image(images)),
            (model.encode_text(tokens), encode_text(tokens)),
        ]
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape and ours.abs().max() > 0.01
    return max((ours - theirs).abs().max().item() for ours, theirs in pairs)


def load_strictly(directory, name):
    cls = transformers.SiglipModel if "SigLIP" in name else transformers.CLIPModel
    model, report = cls.from_pretrained(directory, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


def features_of(theirs):
    return (
        lambda images: theirs.get_image_features(pixel_values=images).pooler_output,
        lambda tokens: theirs.get_text_features(input_ids=tokens).pooler_output,
    )


def assert_same_weights(one, other):
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
