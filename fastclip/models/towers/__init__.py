"""Towers, each of which knows everything about itself.

    image_config.py       what the rest of fastclip asks of an image tower's configuration
    image_tower.py        what it asks of an image tower's module
    patch_tower.py        what towers of patches have in common: tokens, layer by layer
    map_tower.py          what convolutional towers have in common: maps, stage by stage
    text_config.py        what it asks of a text tower's configuration
    table.py              the towers that are built in, a line each
    vision_transformer/   CLIP's, modified_resnet/ CLIP's ResNets, siglip/ SigLIP's,
    naflex/               SigLIP 2's for images of any aspect ratio
    convnext/             ConvNeXt, pe_core/ Perception Encoder's
    timm/                 those that timm builds: EVA, MobileCLIP, ViTamin, ...
    text/                 CLIP's text tower, and SigLIP's
    hugging_face/         text towers that are encoders of transformers

A tower is a file, or a folder if it is long: a frozen dataclass that derives from
`ImageTowerConfig` or `TextTowerConfig`, its `nn.Module` (of an image tower, one that derives from
`ImageTower`), and a line in the table.
"""
