"""From a picture of any size to one of the encoder's: three ways, each to the last bit open_clip's.

"shortest" fills the frame and cuts off what sticks out, "longest" shows all of the picture and
pads, "squash" changes its aspect ratio. Pillow's filters widen with the reduction: no aliasing.
`resize_edge_and_crop` is a fourth, transformers' way to fill the frame.
"""

from PIL import Image

from fastclip.data.images import MAX_PIXELS, ImageError


def resize(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Resize to `size` (height, width) whatever the aspect ratio.

    Raises:
        ImageError: `size` has more than `MAX_PIXELS` pixels.
    """
    height, width = size
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"image: too narrow, {image.width} x {image.height} pixels would grow to "
            f"{width} x {height}"
        )
    return image.resize((width, height), resample)


def resize_shortest(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    """Resize so that `size` (height, width) is just covered, and take the centre.

    If `size` is not square the filter is bicubic, whatever `resample` says: open_clip's way.

    Raises:
        ImageError: the picture is so narrow that it would grow to more than `MAX_PIXELS`.
    """
    target_height, target_width = size
    width, height = image.size
    if target_height == target_width:
        covering = (
            (int(target_height * height / width), target_width)
            if width <= height
            else (target_height, int(target_width * width / height))
        )
    else:
        ratio = min(height / target_height, width / target_width)
        covering = round(height / ratio), round(width / ratio)
        resample = Image.Resampling.BICUBIC
    image = resize(image, covering, resample)
    top = round((covering[0] - target_height) / 2)
    left = round((covering[1] - target_width) / 2)
    return image.crop((left, top, left + target_width, top + target_height))


def resize_edge_and_crop(
    image: Image.Image, edge: int, size: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    """Resize the shortest edge to `edge`, and take `size` (height, width) out of the centre.

    The pixels are the ones of transformers' processors: the corner of the crop is rounded down,
    and black fills the frame where the image is smaller than `size`.

    Raises:
        ImageError: the image is so narrow that it would grow to more than `MAX_PIXELS`.
    """
    width, height = image.size
    long_edge = int(edge * max(width, height) / min(width, height))
    covering = (long_edge, edge) if width <= height else (edge, long_edge)
    image = resize(image, covering, resample)
    top, left = ((has - wanted) // 2 for has, wanted in zip(covering, size, strict=True))
    return image.crop((left, top, left + size[1], top + size[0]))


def resize_longest(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling, fill: int
) -> Image.Image:
    """Resize so that the picture just fits into `size` (height, width), and pad it on both sides.

    Args:
        fill: value of every channel of the padding, in the mode of the image: 0 is black in RGB
            and white in CMYK.
    """
    target_height, target_width = size
    width, height = image.size
    ratio = max(height / target_height, width / target_width)
    # A side that would round to nothing, at which open_clip fails, keeps one pixel.
    fitting = max(1, round(height / ratio)), max(1, round(width / ratio))
    channels = len(image.getbands())
    frame = Image.new(
        image.mode, (target_width, target_height), fill if channels == 1 else (fill,) * channels
    )
    corner = (target_width - fitting[1]) // 2, (target_height - fitting[0]) // 2
    frame.paste(resize(image, fitting, resample), corner)
    return frame
