"""Image packages: pixels to the array that a network wants, and features from any tap of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from regraft.errors import Damaged, MissingExtra, Unsupported, UsageError
from regraft.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from regraft.runtime.interface import Array, Model
    from regraft.runtime.verified import VerifiedFiles

    Picture = Path | Image | NDArray[np.uint8]

_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's number, which preprocessor configurations use."""
_MAX_PIXELS = 64 << 20
_MAX_SIDE = 8192
_UNIT = 1 / 255
_DEFAULT_SIDE = 128
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SETTINGS = "preprocessor_config.json"
"""Name of the file that says how pictures are prepared; also, without its suffix, of a network's attribute."""


class ImagePreprocessing(msgspec.Struct, frozen=True):
    """What happens to a picture before the network sees it, in this order.

    Attributes:
        height, width: of the network's input.
        resize: `exact` squeezes to height × width; `shorter` scales the shorter side to `shorter_side` and
            cuts the centre out.
        shorter_side: for `shorter`; None for the size of the input.
        resample: `nearest`, `box`, `bilinear`, `hamming`, `bicubic` or `lanczos`.
        channels: order of the colours, or `L` for grey.
        scale: pixels from 0 to 255 are multiplied by this.
        mean, std: by channel, in the order of `channels`, after scaling.
        layout: of the array.
    """

    height: int
    width: int
    resize: Literal["exact", "shorter"] = "exact"
    shorter_side: int | None = None
    resample: str = "bilinear"
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    scale: float = _UNIT
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __call__(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Prepare a batch.

        Args:
            pictures: paths, Pillow images, or uint8 arrays (H, W), (H, W, 1) or (H, W, 3) in RGB.
        Returns:
            (B, C, H, W) or (B, H, W, C) float32.
        Raises:
            Damaged: a file is no image that Pillow reads, or has too many pixels.
            UsageError: an array of another shape or dtype.
            MissingExtra: Pillow is not installed.
        """
        import numpy as np

        batch = np.stack([self._pixels(picture) for picture in pictures])  # (B, H, W, C)
        batch = (batch * np.float32(self.scale) - self._by_channel(self.mean)) / self._by_channel(self.std)
        ordered = batch.transpose(0, 3, 1, 2) if self.layout == "NCHW" else batch
        return np.ascontiguousarray(ordered, dtype=np.float32)

    def _by_channel(self, values: Sequence[float]) -> NDArray[np.float32]:
        import numpy as np

        return np.asarray(values[:1] if self.channels == "L" else values, dtype=np.float32)

    def _pixels(self, picture: Picture) -> NDArray[np.float32]:
        import numpy as np

        image = _opened(picture).convert("L" if self.channels == "L" else "RGB")
        pixels = np.asarray(self._resized(image), dtype=np.float32)
        if self.channels == "L":
            return pixels[:, :, None]
        return pixels[:, :, ::-1] if self.channels == "BGR" else pixels

    def _resized(self, image: Image) -> Image:
        from PIL.Image import Resampling

        resample = Resampling[self.resample.upper()]
        if self.resize == "exact":
            return image.resize((self.width, self.height), resample)
        side = self.shorter_side or max(self.height, self.width)
        ratio = side / min(image.size)
        grown = image.resize((max(1, round(image.width * ratio)), max(1, round(image.height * ratio))), resample)
        left, top = (grown.width - self.width) // 2, (grown.height - self.height) // 2
        return grown.crop((left, top, left + self.width, top + self.height))


class ImageEncoder:
    """Pictures to vectors.

    Args:
        model: its first input takes the pictures.
        preprocessing: what it was trained with.
        tap: which intermediate tensor is the feature; None for the first output.
    """

    def __init__(self, model: Model, preprocessing: ImagePreprocessing, *, tap: str | None = None) -> None:
        self.model = model
        self.preprocessing = preprocessing
        self.tap = tap

    def encode(self, pictures: Sequence[Picture], *, batch_size: int = 32) -> NDArray[np.float32]:
        """One vector a picture, in the order given; further axes of a feature are flattened.

        Args:
            pictures: as `ImagePreprocessing` takes them.
            batch_size: pictures a pass.
        Returns:
            (N, D) float32.
        Raises:
            UsageError: no pictures, or no such tap.
            As `ImagePreprocessing`.
        """
        import numpy as np

        if not len(pictures) or batch_size < 1:
            raise UsageError(
                "there are no pictures to encode" if batch_size > 0 else f"a batch of {batch_size} pictures"
            )
        parts = []
        with progress("encoding", total=len(pictures), unit="pictures") as advance:
            for start in range(0, len(pictures), batch_size):
                batch = self.preprocessing(pictures[start : start + batch_size])
                features = self._features({self.model.signature.inputs[0].name: batch})
                parts.append(features.reshape(len(batch), -1).astype(np.float32, copy=False))
                advance(len(batch))
        return np.concatenate(parts)

    def _features(self, feeds: dict[str, Array]) -> Array:
        if self.tap is None:
            return next(iter(self.model(feeds).values()))
        found: Iterator[Any] = (tap.value for tap in self.model.trace(feeds, taps=[self.tap]))
        value: Array | None = next(found, None)
        if value is None:
            raise UsageError(f"the model has no tap {self.tap!r}", where=self.model.where)
        return value


def preprocessing_of(files: VerifiedFiles, weights: str) -> ImagePreprocessing | None:
    """What `preprocessor_config.json` beside the weights says; None when there is none.

    Raises:
        Damaged: it is not what it should be.
        Unsupported: it names a step that is not offered.
    """
    from regraft.runtime.tokenizing import json_beside

    settings = json_beside(files, weights, SETTINGS)
    return _read(settings, weights) if settings else None


def preprocessing_for(model: Model, beside: ImagePreprocessing | None = None) -> ImagePreprocessing:
    """How pictures become what a network takes: as the code says that built it, else its package, else as usual.

    A network of the user's own may carry the attribute `preprocessor_config`, a mapping in the words of the file
    of that name; the size is that of its signature unless it says another. As usual means as torchvision's ImageNet
    networks are fed: RGB from 0 to 1, their mean and deviation; grey from 0 to 1 for a network with one channel.

    Args:
        model: its first input takes the pictures, (B, C, H, W).
        beside: what `preprocessing_of` found in the package.
    Raises:
        Damaged, Unsupported: the attribute cannot be understood.
    """
    shape = model.signature.inputs[0].shape or ()
    sides = [extent if isinstance(extent, int) else _DEFAULT_SIDE for extent in shape[2:4]]
    height, width = sides if len(sides) == 2 else (_DEFAULT_SIDE, _DEFAULT_SIDE)
    stated = getattr(getattr(model, "module", None), SETTINGS.removesuffix(".json"), None)
    if isinstance(stated, Mapping):
        size = {"height": height, "width": width}
        return _read({"size": size, "do_normalize": "image_mean" in stated, **stated}, model.where)
    if beside is not None:
        return beside
    if len(shape) == 4 and shape[1] == 1:
        return ImagePreprocessing(height, width, channels="L")
    return ImagePreprocessing(height, width, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)


def preprocessor_config(preprocessing: ImagePreprocessing) -> bytes:
    """The content of the file from which `preprocessing_of` reads the same; others know its words, too."""
    size = {"height": preprocessing.height, "width": preprocessing.width}
    is_cut = preprocessing.resize == "shorter"
    shorter = preprocessing.shorter_side or max(preprocessing.height, preprocessing.width)
    fields: dict[str, Any] = {
        "do_resize": True,
        "size": {"shortest_edge": shorter} if is_cut else size,
        "resample": _RESAMPLING.index(preprocessing.resample),
        "do_center_crop": is_cut,
        **({"crop_size": size} if is_cut else {}),
        "do_rescale": preprocessing.scale != 1,
        "rescale_factor": preprocessing.scale,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "do_grayscale": preprocessing.channels == "L",
        "do_flip_channel_order": preprocessing.channels == "BGR",
        "data_format": "channels_first" if preprocessing.layout == "NCHW" else "channels_last",
    }
    return json.dumps(fields, indent=2).encode() + b"\n"


def _read(settings: Any, where: str) -> ImagePreprocessing:
    try:
        return _from_settings(settings)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise Damaged(f"not the configuration of a preprocessor: {error!r}", where=where) from None


def _from_settings(settings: dict[str, Any]) -> ImagePreprocessing:
    size = settings.get("size", 224)
    crop = settings.get("crop_size") if settings.get("do_center_crop") else None
    shorter = size.get("shortest_edge") if isinstance(size, dict) else size if crop else None
    final = crop or ({"height": shorter, "width": shorter} if shorter else size)
    height, width = (final["height"], final["width"]) if isinstance(final, dict) else (final, final)
    if not (0 < int(height) <= _MAX_SIDE and 0 < int(width) <= _MAX_SIDE and int(shorter or 1) <= _MAX_SIDE):
        raise ValueError(f"a size of {height} × {width}")
    if settings.get("do_pad"):
        raise Unsupported("padding pictures is not offered")
    normalises = settings.get("do_normalize", True)
    return ImagePreprocessing(
        int(height),
        int(width),
        resize="shorter" if shorter else "exact",
        shorter_side=int(shorter) if shorter else None,
        resample=_RESAMPLING[int(settings.get("resample", 2))],
        channels="L" if settings.get("do_grayscale") else "BGR" if settings.get("do_flip_channel_order") else "RGB",
        scale=float(settings.get("rescale_factor", _UNIT)) if settings.get("do_rescale", True) else 1.0,
        mean=_by_channel(settings["image_mean"]) if normalises else (0.0, 0.0, 0.0),
        std=_by_channel(settings["image_std"]) if normalises else (1.0, 1.0, 1.0),
        layout="NHWC" if settings.get("data_format") == "channels_last" else "NCHW",
    )


def _by_channel(values: Any) -> tuple[float, ...]:
    """One number for all channels, or one for each."""
    found = tuple(map(float, values)) if isinstance(values, list | tuple) else (float(values),) * 3
    if len(found) not in (1, 3):
        raise ValueError(f"{len(found)} numbers for the channels of a picture")
    return found


def _opened(picture: Picture) -> Image:
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingExtra("pillow", extra="image") from error
    import numpy as np

    if isinstance(picture, PIL.Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        plain = picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
        if plain.dtype != np.uint8 or not (plain.ndim == 2 or (plain.ndim == 3 and plain.shape[2] == 3)):
            raise UsageError(f"an array {picture.shape} of {picture.dtype} is no picture: (H, W[, 1 or 3]) of uint8 is")
        return PIL.Image.fromarray(plain)
    try:
        image = PIL.Image.open(picture)
        if image.width * image.height > _MAX_PIXELS:
            raise Damaged(f"{image.width} × {image.height} pixels", where=str(picture))
        image.load()
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise Damaged(f"no image that can be read: {error}", where=str(picture)) from error
    return image
