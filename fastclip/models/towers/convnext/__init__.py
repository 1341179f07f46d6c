"""ConvNeXt: four stages of depthwise convolutions, whose last map is averaged over the image."""
