# SPDX-License-Identifier: MIT
"""SSIM under the name and with the arguments of scikit-image (0.26), for NumPy arrays, without torch.

Integer images are computed in float64, as there, and read where they are; those of 32 bits and more are copied. Values,
maps and gradients agree to rounding; those of float32 images are more exact here.

Refused are images of other than two or three spatial axes, windows of more than 33 taps, and masked arrays, whose mask
scikit-image does not look at.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._base.arguments import integer, number
from .._base.codes import DTYPES, GRAD_2
from .._base.settings import settings_factory
from .._base.shapes import gaussian
from .._core import MAX_WINDOW_SIZE
from ..array._call import Call

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["structural_similarity"]

_NAMES = ("im1", "im2")
# The dtypes that the native library reads as others: bool is bytes of 0 and 1.
_READ_AS = {"bool": np.uint8}
_settings_of = settings_factory(lambda: False)


def structural_similarity(
    im1: Any,
    im2: Any,
    *,
    win_size: int | None = None,
    gradient: bool = False,
    data_range: float | None = None,
    channel_axis: int | None = None,
    gaussian_weights: bool = False,
    full: bool = False,
    **kwargs: Any,
) -> Any:
    """The mean structural similarity (Wang et al. 2004) as scikit-image defines it.

    Args:
        im1: an image ``[H, W]`` or a volume ``[D, H, W]``, with one more axis if there are channels: an array of
            integers, bool or floats, read with any strides.
        im2: as ``im1``, with the same shape; brought to the floats of ``im1``.
        win_size: side of the window, odd. Default: 7; with ``gaussian_weights`` that of the Gaussian. If it is given
            with ``gaussian_weights``, it does not change the window, but how far from the border the mean begins and
            the sample covariance.
        gradient: also the gradient by ``im2``, of the mean of the whole map (Avanaki 2009, without the factor of the
            sample covariance, as in scikit-image).
        data_range: the largest value that a pixel can have minus the smallest. Required for floats; for integers that
            of the dtype of ``im1``.
        channel_axis: the axis of the channels, whose values are averaged. None: there are none.
        gaussian_weights: a Gaussian window, of ``2 * int(3.5 * sigma + 0.5) + 1`` taps, instead of a uniform one.
        full: also the map, of the shape of the images.
        **kwargs: ``K1`` = 0.01 and ``K2`` = 0.03, the constants; ``sigma`` = 1.5, the standard deviation of the
            Gaussian; ``use_sample_covariance`` = True, which multiplies variances by n / (n - 1), where n is the number
            of pixels of a window.

    Returns:
        The mean of SSIM over windows inside the image; or a tuple of it, the gradient and the map, as far as they are
        asked for. float64, or float32 if ``im1`` is float32 or float16 and there are channels; maps and gradients are
        float64, or float32 for such images.

    Raises:
        ValueError: the shapes differ, the image is smaller than the window, ``data_range`` is missing for floats, or
            another argument is out of range.
        TypeError: an image is not an array of NumPy or is complex, an argument is of another type, or is not known.

    """
    first, second = (_checked(name, image) for name, image in zip(_NAMES, (im1, im2), strict=True))
    if first.shape != second.shape:
        raise ValueError(f"im1.shape = {first.shape} but im2.shape = {second.shape}; expected the same shape")
    channel = _channel(channel_axis, first.ndim)
    dims = first.ndim - (channel is not None)
    if dims not in (2, 3):
        raise ValueError(
            f"im1.shape = {first.shape} has {dims} spatial axes; expected 2 or 3 (channel_axis = {channel_axis!r})"
        )
    convention = _convention(dims, win_size, gaussian_weights, kwargs)
    _check_size(first.shape, channel, convention.window)
    found_range = _range(first, second) if data_range is None else number("data_range", data_range)
    float_type = np.dtype(np.float32 if first.dtype in (np.float32, np.float16) else np.float64)

    measure = _Measure(convention, found_range, float_type, _planes(first, channel), _planes(second, channel), gradient)
    results: list[Any] = []
    if gradient:
        maps, slopes = measure.map_and_gradient()
        value, results = measure.mean_of(maps), [slopes, *([maps] if full else [])]
    elif full:
        results = [measure.map()]
        value = measure.mean_of(results[0])
    else:
        value = measure.mean()
    if channel is not None:
        value = float_type.type(value)
    arrays = [each[0, 0] if channel is None else np.moveaxis(each[0], 0, channel) for each in results]
    return (value, *arrays) if arrays else value


class _Convention(NamedTuple):
    """What the arguments mean.

    Attributes:
        taps: the window.
        window: the side by which the mean is cropped.
        sample: by what variances are multiplied: n / (n - 1), or 1.
        K: the constants of SSIM, as the caller has them.

    """

    taps: tuple[float, ...]
    window: int
    sample: float
    K: tuple[float, float]

    @property
    def radius(self) -> int:
        return len(self.taps) // 2


class _Measure:
    """Two batches of planes ``[1, C, ...]``, and the measures of them.

    The sample covariance needs no other formula: n / (n - 1) times a variance plus C2 is the same, but for a factor
    that cancels, as the variance plus (n - 1) / n times C2. (With ``gaussian_weights`` scikit-image has an n that is
    not the number of taps.)
    """

    def __init__(
        self,
        convention: _Convention,
        data_range: float,
        float_type: np.dtype[Any],
        im1: NDArray[Any],
        im2: NDArray[Any],
        has_gradient: bool,
    ) -> None:
        self._convention, self._data_range = convention, data_range
        self._arithmetic = "float64" if float_type == np.float64 else None
        self._im1, self._im2 = _readable(im1, im2, float_type, has_gradient)

    def _call(
        self,
        padding: str,
        reduction: str,
        grads: int = 0,
        crop: int = 0,
    ) -> Call:
        """``crop``: what is first taken off the images."""
        K1, K2 = self._convention.K
        settings = _settings_of(
            padding=padding,
            window_size=len(self._convention.taps),
            known_taps=self._convention.taps,
            data_range=self._data_range,
            K=(K1, K2 / self._convention.sample**0.5),
            reduction=reduction,
            arithmetic=self._arithmetic,
            names=_NAMES,
        )
        return Call(_crop(self._im1, crop), _crop(self._im2, crop), settings, grads, by_integers=True)

    def mean(self) -> Any:
        """The mean of the map without its border."""
        border, radius = self._convention.window // 2, self._convention.radius
        if radius <= border:
            return self._call("valid", "channel", crop=border - radius).forward().mean(dtype=np.float64)
        return self.mean_of(self._call("symmetric", "none").forward())

    def mean_of(self, maps: NDArray[Any]) -> Any:
        """The same, from the map."""
        inside = _crop(maps, self._convention.window // 2)
        return inside.mean(axis=-1, dtype=np.float64).mean()  # NumPy adds up one axis faster than several

    def map(self) -> NDArray[Any]:
        """The map of the size of the images."""
        found: NDArray[Any] = self._call("symmetric", "none").forward()
        return found

    def map_and_gradient(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The map, and the gradient of the mean of each channel's map by the second image.

        Scikit-image's gradient lacks the factor of the sample covariance in the terms that come from variances.
        """
        scales = 1 / self._im1[0, 0].size, 1 / self._convention.sample
        maps, _, slope = self._call("symmetric", "none", GRAD_2).value_and_grad(*scales)
        return maps, slope


# ---- Arguments -------------------------------------------------------------------------------------------------------


def _checked(name: str, image: Any) -> NDArray[Any]:
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask scikit-image does not look at; pass {name}.data, or call "
            "fused_ssim.array.value, which does"
        )
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name} is of type {type(image).__name__}; expected an array of NumPy")
    if image.dtype.kind not in "buif":
        raise TypeError(f"{name}.dtype = {image.dtype}; expected integers, bool or floats")
    return image


def _channel(channel_axis: Any, ndim: int) -> int | None:
    if channel_axis is None:
        return None
    axis = integer("channel_axis", channel_axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"channel_axis = {axis} for an array of {ndim} axes; expected {-ndim} to {ndim - 1}")
    return axis % ndim


def _convention(dims: int, win_size: Any, gaussian_weights: bool, others: dict[str, Any]) -> _Convention:
    given = {"K1": 0.01, "K2": 0.03, "sigma": 1.5, "use_sample_covariance": True, **others}
    unknown = set(given) - {"K1", "K2", "sigma", "use_sample_covariance"}
    if unknown:
        raise TypeError(f"{min(unknown)} is not an argument of structural_similarity")
    constants = number("K1", given["K1"]), number("K2", given["K2"])
    sigma = number("sigma", given["sigma"])
    for name, value in (("K1", constants[0]), ("K2", constants[1]), ("sigma", sigma)):
        if not value >= 0:
            raise ValueError(f"{name} = {value}; expected a number of at least 0")
    window = None if win_size is None else integer("win_size", win_size)
    if gaussian_weights:
        if not int(3.5 * sigma + 0.5) <= MAX_WINDOW_SIZE // 2:
            raise ValueError(f"sigma = {sigma}; expected a window of at most {MAX_WINDOW_SIZE} taps, sigma below 4.7")
        size = 2 * int(3.5 * sigma + 0.5) + 1
        taps = gaussian(size, sigma) if size > 1 else (1.0,)
        window = size if window is None else window
    else:
        window = 7 if window is None else window
        if window > MAX_WINDOW_SIZE:
            raise ValueError(f"win_size = {window}; expected at most {MAX_WINDOW_SIZE}")
        taps = (1 / window,) * window if window > 0 else ()
    if window < 1 or window % 2 == 0:
        raise ValueError(f"win_size = {window}; expected an odd number")
    count = window**dims
    if given["use_sample_covariance"] and count == 1:
        raise ValueError("use_sample_covariance = True with a window of one pixel, which has no sample covariance")
    return _Convention(taps, window, count / (count - 1) if given["use_sample_covariance"] else 1.0, constants)


def _check_size(shape: tuple[int, ...], channel: int | None, window: int) -> None:
    for axis, length in enumerate(shape):
        if length == 0:
            raise ValueError(f"im1.shape[{axis}] = 0; expected at least 1")
        if axis != channel and length < window:
            raise ValueError(
                f"im1.shape[{axis}] = {length} < win_size = {window}; expected a larger image, a smaller window, or "
                "channel_axis if that is the axis of the channels"
            )


def _range(im1: NDArray[Any], im2: NDArray[Any]) -> float:
    """The range of the integers of the first image, with the warnings of scikit-image."""
    if "f" in (im1.dtype.kind, im2.dtype.kind):
        raise ValueError("data_range is missing; expected a number, since there is none to assume for floats")
    if im1.dtype == np.bool_:
        found = 1.0
    else:
        limits = np.iinfo(im1.dtype)
        found = float(int(limits.max) - int(limits.min))
    if im1.dtype != im2.dtype:
        warnings.warn(f"im1.dtype = {im1.dtype} but im2.dtype = {im2.dtype}: data_range is that of im1", stacklevel=3)
    if im1.dtype not in (np.uint8, np.bool_):
        warnings.warn(
            f"data_range is that of {im1.dtype}, {found:.0f}; pass it if the images have another", stacklevel=3
        )
    return found


# ---- Arrays ----------------------------------------------------------------------------------------------------------


def _planes(image: NDArray[Any], channel: int | None) -> NDArray[Any]:
    """The image as ``[1, C, ...]``, without a copy."""
    return image[None, None] if channel is None else np.moveaxis(image, channel, 0)[None]


def _readable(
    im1: NDArray[Any], im2: NDArray[Any], float_type: np.dtype[Any], has_gradient: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The planes as the kernels read them with the result of scikit-image, which converts both to the float type.

    A gradient has the dtype of its image, if that is of floats: so such a second image is converted for one.
    """
    images = [image.view(_READ_AS.get(image.dtype.name, image.dtype)) for image in (im1, im2)]
    for index, image in enumerate(images):
        is_read = image.dtype.name in DTYPES and image.dtype.isnative and image.flags.aligned
        if has_gradient and index == 1 and image.dtype.kind == "f":
            is_read = is_read and image.dtype == float_type
        # float64 has more digits than a result in float32 takes from an image.
        if not is_read or (float_type == np.float32 and image.dtype == np.float64):
            images[index] = image.astype(float_type, order="C")
    kinds = {image.dtype for image in images if image.dtype.kind == "f"}
    if len(kinds) == 2:  # which are never read together
        images = [image.astype(float_type, order="C") if image.dtype != float_type else image for image in images]
    return images[0], images[1]


def _crop(array: NDArray[Any], width: int) -> NDArray[Any]:
    inside = slice(width, -width) if width else slice(None)
    where = [slice(None)] * 2 + [inside] * (array.ndim - 2)
    cropped: NDArray[Any] = array[tuple(where)]
    return cropped
