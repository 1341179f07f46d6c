"""Towers, each of which knows everything about itself.

    image_config.py       what the rest of fastclip asks of an image tower's configuration
    image_tower.py        what it asks of an image tower's module
    table.py              the image towers that are built in, a line each
    vision_transformer/   CLIP's, modified_resnet/ CLIP's ResNets, siglip/ SigLIP's
    timm/                 those that timm builds: ConvNeXt, EVA, MobileCLIP, PE-Core, ViTamin, ...
    text/                 the text tower of them all

A tower is a file, or a folder if it is long: a frozen dataclass that derives from
`ImageTowerConfig`, an `nn.Module` that derives from `ImageTower`, and a line in the table.
"""
