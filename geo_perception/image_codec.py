# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Image messages to arrays and back, without cv_bridge.

The functions take any object with the fields of sensor_msgs/Image or CompressedImage, be it a
message of rclpy or of rosbags. Where cv_bridge converts, the results equal its results
(ros2_runtime.md section 4).
"""

import array as std_array
import re

import cv2
import numpy as np

from geo_perception.errors import ImageError

_CHANNELS = {'mono': 1, 'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4, 'bayer_rggb': 1,
             'bayer_bggr': 1, 'bayer_gbrg': 1, 'bayer_grbg': 1}
_YUV422 = {'yuv422': 'UYVY', 'uyvy': 'UYVY', 'yuv422_yuy2': 'YUY2', 'yuyv': 'YUY2'}
_YUV420 = ('nv12', 'nv21')
_GENERIC = re.compile(r'(?:(8|16|32)([US])|(32|64)(F))C(\d*)')
_NAMED = re.compile(f'({"|".join(_CHANNELS)})(8|16)')

# An array of unlabelled channels has OpenCV's order, as in cv_bridge's cvtColorForDisplay.
_GENERIC_COLOUR = {'8UC1': 'mono8', '8UC': 'mono8', '8UC3': 'bgr8', '8UC4': 'bgra8'}
# OpenCV names a Bayer pattern after the second row, ROS after the first.
_TO_RGB = {'mono': cv2.COLOR_GRAY2RGB, 'bgr': cv2.COLOR_BGR2RGB, 'rgba': cv2.COLOR_RGBA2RGB,
           'bgra': cv2.COLOR_BGRA2RGB, 'bayer_rggb': cv2.COLOR_BayerBG2RGB,
           'bayer_bggr': cv2.COLOR_BayerRG2RGB, 'bayer_gbrg': cv2.COLOR_BayerGR2RGB,
           'bayer_grbg': cv2.COLOR_BayerGB2RGB, 'UYVY': cv2.COLOR_YUV2RGB_UYVY,
           'YUY2': cv2.COLOR_YUV2RGB_YUY2, 'nv12': cv2.COLOR_YUV2RGB_NV12,
           'nv21': cv2.COLOR_YUV2RGB_NV21}


def decode_array(msg):
    """
    Return the pixels of a sensor_msgs/Image as they are, without copying them.

    Row padding (``step``) is skipped. Only big-endian images are copied, to native order.

    Parameters
    ----------
    msg : sensor_msgs/Image
        Any usual encoding; ``nv12`` and ``nv21`` hold height x width luma, then height / 2 rows
        of interleaved chroma.

    Returns
    -------
    np.ndarray
        (H, W) or (H, W, C) of the encoding's type; (3H/2, W) for ``nv12`` and ``nv21``. It shares
        the message's memory and may be read-only.

    Raises
    ------
    ImageError
        When size, step, byte count and encoding do not fit together.

    """
    dtype, channels = _pixel_type(msg.encoding)
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    size = len(msg.data)
    if height <= 0 or width <= 0:
        raise ImageError(f'{_describe(msg)} has no pixels')
    if msg.encoding in _YUV420:
        if height % 2 or width % 2:
            raise ImageError(f'{_describe(msg)} has an odd size, which this encoding cannot have')
        height = height * 3 // 2
    row = width * channels * dtype.itemsize
    if step < row:
        raise ImageError(f'{_describe(msg)} has a step that is too small: a row takes {row} bytes')
    needed = step * (height - 1) + row
    if size < needed:
        raise ImageError(f'{_describe(msg)} is too short: it takes {needed} bytes')
    if msg.is_bigendian:
        dtype = dtype.newbyteorder('>')
    view = np.ndarray((height, width, channels), dtype, buffer=msg.data,
                      strides=(step, channels * dtype.itemsize, dtype.itemsize))
    if channels == 1:
        view = view[..., 0]
    return view.astype(dtype.newbyteorder('='), copy=False)


def decode_rgb(msg):
    """
    Return the picture of an Image or CompressedImage message.

    Bayer and YUV images are converted, grey ones replicated, alpha dropped, 16 bits scaled to 8;
    unlabelled ``8UC3`` and ``8UC4`` have OpenCV's order (BGR). Depth and flow encodings are
    refused: they are not pictures.

    Parameters
    ----------
    msg : sensor_msgs/Image or sensor_msgs/CompressedImage
        The latter is known by its field ``format``.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8 RGB, C-contiguous; an unpadded ``rgb8`` image shares the message's memory
        and may be read-only.

    Raises
    ------
    ImageError
        When the message is damaged or not a picture.

    """
    if hasattr(msg, 'format'):
        # The camera's pixels are wanted, as its calibration sees them, not as a viewer turns them.
        picture = _decompress(msg, msg.data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        # Older publishers store RGB as if it were BGR and say so here (image_transport's rule).
        if 'compressed rgb' in msg.format:
            return picture
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    encoding = _GENERIC_COLOUR.get(msg.encoding, msg.encoding)
    named = _NAMED.fullmatch(encoding)
    kind = named.group(1) if named else _YUV422.get(encoding, encoding)
    pixels = decode_array(msg)
    if kind not in _TO_RGB and kind != 'rgb':
        raise ImageError(f'{_describe(msg)} is not a picture (such encodings hold depth, flow or '
                         'other measurements); choose a colour or grey image topic')
    if kind in ('UYVY', 'YUY2') and msg.width % 2:
        raise ImageError(f'{_describe(msg)} has an odd width, which this encoding cannot have')
    if kind != 'rgb':
        try:
            pixels = cv2.cvtColor(pixels, _TO_RGB[kind])
        except cv2.error as error:
            raise ImageError(f'{_describe(msg)} cannot be converted to RGB: '
                             f'{error.err or error}') from None
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    return np.ascontiguousarray(pixels)


def decode_depth(msg):
    """
    Return the depth of an Image or CompressedImage message (REP 118).

    Accepts ``32FC1`` (metres), ``16UC1`` and ``mono16`` (millimetres), 16-bit PNG (millimetres)
    and image_transport's ``compressedDepth`` in PNG form.

    Parameters
    ----------
    msg : sensor_msgs/Image or sensor_msgs/CompressedImage
        The latter is known by its field ``format``.

    Returns
    -------
    np.ndarray
        (H, W) float32, metres along the optical axis; NaN where the message holds zero, a
        negative or a non-finite value.

    Raises
    ------
    ImageError
        When the message is damaged or does not hold depth.

    """
    if hasattr(msg, 'format'):
        depth = _decompress_depth(msg)
    elif msg.encoding in ('32FC1', '32FC'):
        depth = decode_array(msg)
    elif msg.encoding in ('16UC1', '16UC', 'mono16'):
        depth = decode_array(msg) * np.float32(1e-3)
    else:
        raise ImageError(f'{_describe(msg)} is not a depth image; 32FC1 (metres) or 16UC1 '
                         '(millimetres) is expected')
    return np.where((depth > 0) & np.isfinite(depth), depth, np.float32(np.nan))


def decode_flow(msg):
    """
    Return the optical flow of an Image message.

    Parameters
    ----------
    msg : sensor_msgs/Image
        ``32FC2``, pixels.

    Returns
    -------
    np.ndarray
        (H, W, 2) float32, u right, v down; both NaN where one is not finite. Like `decode_array`
        it may share the message's memory and be read-only.

    Raises
    ------
    ImageError
        When the message is damaged or does not hold flow.

    """
    if getattr(msg, 'encoding', '') != '32FC2':
        what = f'the format {msg.format!r}' if hasattr(msg, 'format') else \
            f'the encoding {msg.encoding!r}'
        raise ImageError(f'an image with {what} is not optical flow; 32FC2 (pixels) is expected')
    flow = decode_array(msg)
    # Of two numbers one of which is not finite neither the sum is; flow this long is none.
    with np.errstate(over='ignore', invalid='ignore'):
        known = np.isfinite(flow[..., 0] + flow[..., 1])
    return flow if known.all() else np.where(known[..., None], flow, np.float32(np.nan))


def image_fields(array, encoding):
    """
    Return the fields of a sensor_msgs/Image that shows an array.

    Parameters
    ----------
    array : np.ndarray
        (H, W) or (H, W, C), of exactly the type and channels that the encoding asks for.
    encoding : str
        ROS name, e.g. ``rgb8``, ``mono8``, ``32FC1``.

    Returns
    -------
    dict
        ``height, width, encoding, is_bigendian, step, data``; the data is an ``array.array('B')``,
        the one type that rclpy takes over without a slow check.

    Raises
    ------
    ImageError
        When the array does not have the encoding's type and channels, or is empty.

    """
    dtype, channels = _pixel_type(encoding)
    array = np.asarray(array)
    shape = array.shape[2:] or (1,)
    if array.ndim not in (2, 3) or shape != (channels,) or array.dtype != dtype \
            or encoding in _YUV420:
        raise ImageError(f'an array of shape {array.shape} and type {array.dtype} cannot be '
                         f"written as '{encoding}' ({channels} channels of {dtype})")
    if array.size == 0:
        raise ImageError(f"an array of shape {array.shape} has no pixels to write as '{encoding}'")
    data = std_array.array('B')
    data.frombytes(np.ascontiguousarray(array, dtype.newbyteorder('<')).reshape(-1).view(np.uint8))
    return {'height': array.shape[0], 'width': array.shape[1], 'encoding': encoding,
            'is_bigendian': 0, 'step': array.shape[1] * channels * dtype.itemsize, 'data': data}


def _pixel_type(encoding):
    """Return (native dtype, channels) of an encoding."""
    if match := _NAMED.fullmatch(encoding):
        return np.dtype(f'u{int(match.group(2)) // 8}'), _CHANNELS[match.group(1)]
    if encoding in _YUV422:
        return np.dtype('u1'), 2
    if encoding in _YUV420:
        return np.dtype('u1'), 1
    if match := _GENERIC.fullmatch(encoding):
        bits, kind = match.group(1) or match.group(3), match.group(2) or match.group(4)
        channels = int(match.group(5) or 1)
        if channels:
            kind = {'U': 'u', 'S': 'i', 'F': 'f'}[kind]
            return np.dtype(f'{kind}{int(bits) // 8}'), channels
    raise ImageError(f"image encoding '{encoding}' is unknown; known are mono, rgb, bgr, rgba, "
                     'bgra and bayer in 8 or 16 bits, yuv422, yuyv, nv12, nv21 and the likes of '
                     '8UC3, 16UC1, 32FC1')


def _decompress(msg, data, flags):
    """Return the array in an encoded picture."""
    data = bytes(data)
    # OpenCV 4 fills the rest of a JPEG without end marker with grey, OpenCV 5 refuses it.
    truncated = data.startswith(b'\xff\xd8') and b'\xff\xd9' not in data
    try:
        picture = None if truncated else cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, ValueError):  # an empty buffer is one or the other
        picture = None
    if picture is None:
        raise ImageError(f"a compressed image of format '{msg.format}' with {len(msg.data)} bytes "
                         'cannot be decoded: it is empty, damaged or not a picture')
    return picture


def _decompress_depth(msg):
    """Return metres from a PNG, with or without compressed_depth_image_transport's header."""
    header = 12 if 'compressedDepth' in msg.format else 0
    raw = _decompress(msg, msg.data[header:], cv2.IMREAD_UNCHANGED)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise ImageError(f"a compressed image of format '{msg.format}' is not a depth image; "
                         'a 16-bit one-channel PNG is expected')
    if header and msg.format.startswith('32FC1'):
        # Quantised inverse depth: the header is (int32 codec, float32 a, float32 b).
        a, b = np.frombuffer(bytes(msg.data[4:12]), '<f4')
        inverse = raw.astype(np.float32) - b
        return np.where(raw > 0, a / np.where(inverse == 0, np.nan, inverse), np.float32(np.nan))
    return raw * np.float32(1e-3)


def _describe(msg):
    """Return the subject of an error sentence, with all numbers that matter."""
    return (f"an image of encoding '{msg.encoding}', {msg.width}x{msg.height}, step {msg.step}, "
            f'{len(msg.data)} bytes')
