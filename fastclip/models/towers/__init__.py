"""Image and text towers; each file or folder holds everything that is known of its tower.

    image_config.py       base of image towers' configurations: what the rest of fastclip asks them
    image_tower.py        base of image towers' modules
    patch_config.py       shared by the configurations of towers that cut images into patches
    patch_tower.py        shared by those towers' modules: tokens, block by block
    map_tower.py          shared by convolutional towers: feature maps, stage by stage
    text_config.py        base of text towers' configurations
    table.py              the list of the built-in towers
    vision_transformer/   CLIP's vision transformer
    modified_resnet/      CLIP's ResNets
    siglip/               SigLIP's vision transformer
    naflex/               SigLIP 2's vision transformer for images of any aspect ratio
    tips/                 TIPS's vision transformer and its text tower
    convnext/             ConvNeXt
    pe_core/              Perception Encoder's vision transformer
    timm/                 image towers that timm builds: EVA, MobileCLIP, ViTamin, ...
    text/                 CLIP's text tower, and SigLIP's
    hugging_face/         text towers that are encoders of transformers

A tower consists of a frozen dataclass that derives from `ImageTowerConfig` or `TextTowerConfig`,
its `nn.Module` (which derives from `ImageTower` if it encodes images), and a line in the table.
"""
