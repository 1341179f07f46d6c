"""ConvNeXt: four stages of depthwise convolutions, averaged over the image."""
