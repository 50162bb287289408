# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The image codec against references written a second, dumber way."""

import array as std_array
import struct
from types import SimpleNamespace

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from geo_perception.errors import ImageError
from geo_perception.image_codec import decode_array, decode_depth, decode_rgb, image_fields

# Encoding, struct letter of one channel, channels.
PLAIN = [('mono8', 'B', 1), ('8UC1', 'B', 1), ('mono16', 'H', 1), ('16UC1', 'H', 1),
         ('rgb8', 'B', 3), ('bgr8', 'B', 3), ('8UC3', 'B', 3), ('rgba8', 'B', 4),
         ('bgra8', 'B', 4), ('rgb16', 'H', 3), ('bgr16', 'H', 3), ('rgba16', 'H', 4),
         ('bgra16', 'H', 4), ('bayer_rggb8', 'B', 1), ('bayer_grbg16', 'H', 1),
         ('yuv422', 'B', 2), ('yuyv', 'B', 2), ('32FC1', 'f', 1), ('32FC2', 'f', 2),
         ('16SC1', 'h', 1), ('32SC3', 'i', 3), ('64FC2', 'd', 2), ('8SC1', 'b', 1)]
CONTAINERS = [bytes, lambda b: std_array.array('B', b), lambda b: np.frombuffer(b, np.uint8)]


def message(encoding, width, height, step, data, bigendian=0):
    """Return a stand-in for sensor_msgs/Image."""
    return SimpleNamespace(encoding=encoding, width=width, height=height, step=step, data=data,
                           is_bigendian=bigendian)


def of_array(array, encoding):
    """Return an Image message of an array."""
    return SimpleNamespace(**image_fields(array, encoding))


def compressed(picture, extension, format_):
    """Return a stand-in for sensor_msgs/CompressedImage; the picture is in OpenCV's order."""
    return SimpleNamespace(format=format_, data=cv2.imencode(extension, picture)[1].tobytes())


@settings(max_examples=80, deadline=None)
@given(kind=st.sampled_from(PLAIN), width=st.integers(1, 7), height=st.integers(1, 5),
       padding=st.integers(0, 5), bigendian=st.booleans(), seed=st.integers(0, 2**32 - 1),
       container=st.sampled_from(CONTAINERS), tail=st.integers(0, 3))
def test_decode_array_equals_reading_element_by_element(
        kind, width, height, padding, bigendian, seed, container, tail):
    encoding, letter, channels = kind
    item = struct.calcsize(letter)
    step = width * channels * item + padding
    data = np.random.default_rng(seed).bytes(step * height + tail)
    got = decode_array(message(encoding, width, height, step, container(data), bigendian))
    assert got.shape == ((height, width) if channels == 1 else (height, width, channels))
    assert got.dtype.isnative
    got = got.reshape(height, width, channels)
    for v in range(height):
        for u in range(width):
            for c in range(channels):
                expected, = struct.unpack_from(('>' if bigendian else '<') + letter, data,
                                               v * step + (u * channels + c) * item)
                assert got[v, u, c] == expected or expected != expected


def test_decode_array_copies_nothing():
    data = np.zeros(4 * 20, np.uint8)
    view = decode_array(message('rgb8', 6, 4, 20, data))
    data[20 * 2 + 3 * 5 + 1] = 77
    assert view[2, 5, 1] == 77


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from([k for k in PLAIN if k[0] not in ('nv12', 'nv21')]),
       width=st.integers(1, 6), height=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_image_fields_round_trip(kind, width, height, seed):
    encoding, letter, channels = kind
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 100, (height, width + 2, channels)).astype(np.dtype(letter))
    array = array[:, 1:-1]     # not contiguous
    fields = image_fields(array if channels > 1 else array[..., 0], encoding)
    assert isinstance(fields['data'], std_array.array) and fields['data'].typecode == 'B'
    assert len(fields['data']) == fields['step'] * height
    back = decode_array(SimpleNamespace(**fields))
    np.testing.assert_array_equal(back.reshape(height, width, channels), array)


@pytest.mark.parametrize('order', ['rgb', 'bgr', 'rgba', 'bgra'])
@pytest.mark.parametrize('bits', [8, 16])
def test_colour_orders(order, bits):
    top = 2**bits - 1
    pixel = {'r': top, 'g': top // 3, 'b': 0, 'a': 5}
    array = np.full((2, 3, len(order)), [pixel[c] for c in order], f'u{bits // 8}')
    rgb = decode_rgb(of_array(array, f'{order}{bits}'))
    assert rgb.dtype == np.uint8 and rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, np.full((2, 3, 3), [255, 85, 0]))


def test_unlabelled_channels_have_opencv_order():
    blue = np.full((2, 2, 3), [255, 0, 0], np.uint8)
    np.testing.assert_array_equal(decode_rgb(of_array(blue, '8UC3'))[0, 0], [0, 0, 255])


def test_grey_is_replicated_and_sixteen_bits_are_scaled_with_rounding():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for encoding in ('mono8', '8UC1'):
        np.testing.assert_array_equal(decode_rgb(of_array(grey, encoding)),
                                      np.repeat(grey[..., None], 3, -1))
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    expected = np.array([(int(v) * 255 + 32767) // 65535 for v in values.ravel()])
    np.testing.assert_array_equal(decode_rgb(of_array(values, 'mono16'))[..., 1].ravel(), expected)


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_bayer_patterns_of_pure_colours(pattern, bits):
    top = 2**bits - 1
    for channel, letter in enumerate('rgb'):
        mosaic = np.zeros((8, 10), f'u{bits // 8}')
        for index, site in enumerate(pattern):
            if site == letter:
                mosaic[index // 2::2, index % 2::2] = top
        rgb = decode_rgb(of_array(mosaic, f'bayer_{pattern}{bits}'))[2:-2, 2:-2]
        expected = np.zeros(3)
        expected[channel] = 255
        np.testing.assert_array_equal(rgb, np.broadcast_to(expected, rgb.shape))


def bt601(y, u, v):
    """Return RGB of studio-range BT.601, the formula of every webcam."""
    y, u, v = 1.164 * (y - 16.0), u - 128.0, v - 128.0
    return np.clip([y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u], 0, 255)


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21'])
def test_yuv(encoding):
    for y, u, v in [(81, 90, 240), (145, 54, 34), (41, 240, 110), (126, 128, 128)]:
        if encoding in ('nv12', 'nv21'):
            chroma = [u, v] if encoding == 'nv12' else [v, u]
            data = [y] * 24 + chroma * 6
            msg = message(encoding, 6, 4, 6, bytes(data))
        else:
            pair = [u, y, v, y] if encoding in ('yuv422', 'uyvy') else [y, u, y, v]
            msg = message(encoding, 6, 4, 12, bytes(pair * 12))
        rgb = decode_rgb(msg)
        assert rgb.shape == (4, 6, 3)
        assert np.abs(rgb - bt601(y, u, v)).max() <= 2


def test_padded_rows_give_the_same_picture():
    picture = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    padded = np.zeros((6, 31), np.uint8)
    padded[:, :24] = picture.reshape(6, 24)
    for encoding in ('rgb8', 'bgr8'):
        np.testing.assert_array_equal(
            decode_rgb(message(encoding, 8, 6, 31, padded.tobytes()[:-7])),
            decode_rgb(of_array(picture, encoding)))


def test_big_endian_grey():
    msg = message('mono16', 2, 1, 4, struct.pack('>2H', 65535, 257), bigendian=1)
    np.testing.assert_array_equal(decode_rgb(msg)[0, :, 0], [255, 1])


@pytest.mark.parametrize('extension, format_', [
    ('.png', 'rgb8; png compressed bgr8'), ('.png', 'png'), ('.jpg', 'jpeg')])
def test_compressed_pictures(extension, format_):
    bgr = np.full((16, 16, 3), [10, 100, 200], np.uint8)
    rgb = decode_rgb(compressed(bgr, extension, format_))
    assert np.abs(rgb.astype(int) - [200, 100, 10]).max() <= 3
    grey = decode_rgb(compressed(bgr[..., 1], extension, 'mono8; jpeg compressed '))
    assert np.abs(grey.astype(int) - 100).max() <= 1


def test_compressed_rgb_is_stored_unswapped_by_old_publishers():
    stored = np.full((4, 4, 3), [10, 100, 200], np.uint8)
    rgb = decode_rgb(compressed(stored, '.png', 'rgb8; png compressed rgb8'))
    np.testing.assert_array_equal(rgb, stored)


def test_depth_is_metres_with_nan():
    metres = np.array([[1.5, 0, np.nan, np.inf, -np.inf, -1]], np.float32)
    expected = np.array([[1.5] + [np.nan] * 5], np.float32)
    got = decode_depth(of_array(metres, '32FC1'))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)
    millimetres = np.array([[1500, 0]], np.uint16)
    for msg in (of_array(millimetres, '16UC1'), of_array(millimetres, 'mono16'),
                compressed(millimetres, '.png', '16UC1; png compressed ')):
        got = decode_depth(msg)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, [[1.5, np.nan]], rtol=1e-6)


def test_compressed_depth_transport():
    png = cv2.imencode('.png', np.array([[1500, 0]], np.uint16))[1].tobytes()
    msg = SimpleNamespace(format='16UC1; compressedDepth png', data=bytes(12) + png)
    np.testing.assert_allclose(decode_depth(msg), [[1.5, np.nan]], rtol=1e-6)
    # The transport stores a / depth + b.
    a, b = 2000.0, -50.0
    png = cv2.imencode('.png', np.array([[round(a / 2.0 + b), 0]], np.uint16))[1].tobytes()
    msg = SimpleNamespace(format='32FC1; compressedDepth png',
                          data=struct.pack('<iff', 0, a, b) + png)
    np.testing.assert_allclose(decode_depth(msg), [[2.0, np.nan]], rtol=1e-6)


@pytest.mark.parametrize('msg, words', [
    (message('rgb8', 4, 2, 11, bytes(24)), ['rgb8', '4x2', 'step 11', '24 bytes', '12']),
    (message('rgb8', 4, 2, 12, bytes(23)), ['step 12', '23 bytes', 'takes 24 bytes']),
    (message('rgb8', 4, 2, 12, b''), ['0 bytes']),
    (message('rgb8', 0, 2, 0, b''), ['0x2', 'no pixels']),
    (message('mono8', 4, 0, 4, b''), ['4x0', 'no pixels']),
    (message('rgb8', 4, 2, 0, bytes(24)), ['step 0']),
    (message('h264', 4, 2, 12, bytes(24)), ["'h264'", 'unknown']),
    (message('', 4, 2, 12, bytes(24)), ['unknown']),
    (message('8UC0', 4, 2, 12, bytes(24)), ['unknown']),
    (message('16FC1', 4, 2, 12, bytes(24)), ['unknown']),
    (message('32FC1', 2, 2, 8, bytes(16)), ['32FC1', 'not a picture']),
    (message('16UC1', 2, 2, 4, bytes(8)), ['16UC1', 'not a picture']),
    (message('yuyv', 3, 2, 6, bytes(12)), ['yuyv', 'odd width']),
    (message('nv12', 3, 2, 3, bytes(12)), ['nv12', 'odd size']),
    (message('nv12', 4, 2, 4, bytes(11)), ['11 bytes', 'takes 12 bytes']),
    (SimpleNamespace(format='jpeg', data=b''), ['jpeg', '0 bytes']),
    (SimpleNamespace(format='jpeg', data=b'garbage'), ['jpeg', '7 bytes']),
])
def test_bad_messages_are_one_clear_sentence(msg, words):
    with pytest.raises(ImageError) as caught:
        decode_rgb(msg)
    text = str(caught.value)
    assert '\n' not in text
    for word in words:
        assert word in text


def test_truncated_jpeg_is_refused():
    whole = compressed(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), '.jpg',
                       'jpeg')
    decode_rgb(whole)
    for size in (2, len(whole.data) // 2, len(whole.data) - 10):
        with pytest.raises(ImageError, match=f'{size} bytes'):
            decode_rgb(SimpleNamespace(format='jpeg', data=whole.data[:size]))


def test_a_picture_is_not_depth():
    picture = np.zeros((2, 2, 3), np.uint8)
    for msg in (of_array(picture, 'rgb8'), compressed(picture, '.png', 'png')):
        with pytest.raises(ImageError, match='not a depth image'):
            decode_depth(msg)


@pytest.mark.parametrize('array, encoding', [
    (np.zeros((2, 2, 3), np.uint8), 'mono8'), (np.zeros((2, 2), np.uint8), 'rgb8'),
    (np.zeros((2, 2, 3)), 'rgb8'), (np.zeros((0, 2), np.uint8), 'mono8'),
    (np.zeros(4, np.uint8), 'mono8'), (np.zeros((3, 2), np.uint8), 'nv12'),
    (np.zeros((2, 2), np.uint8), 'jpeg')])
def test_image_fields_refuses_what_the_encoding_cannot_hold(array, encoding):
    with pytest.raises(ImageError, match=encoding):
        image_fields(array, encoding)


def test_equals_cv_bridge():
    pytest.importorskip('cv_bridge', reason='no cv_bridge here to compare with',
                        exc_type=ImportError)
    from cv_bridge import CvBridge
    bridge = CvBridge()
    rng = np.random.default_rng(0)
    probe = of_array(np.arange(36, dtype=np.uint8).reshape(3, 4, 3), 'bgr8')
    try:
        works = np.array_equal(bridge.imgmsg_to_cv2(probe, 'passthrough'), decode_array(probe))
    except (AttributeError, KeyError, TypeError) as error:
        pytest.skip(f'the cv_bridge here does not work ({error})')
    if not works:
        pytest.skip('the cv_bridge here decodes bgr8 wrongly')
    for encoding in ('mono8', 'mono16', 'rgb8', 'bgr8', 'rgba8', 'bgra8', 'rgb16', 'bgr16',
                     'bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8', 'bayer_rggb16',
                     'yuv422', 'yuv422_yuy2'):
        bits = 16 if encoding.endswith('16') else 8
        channels = 2 if encoding.startswith('yuv') else \
            len(encoding.rstrip('0123456789')) if encoding[:3] in ('rgb', 'bgr') else 1
        array = rng.integers(0, 2**bits, (6, 8, channels)).astype(f'u{bits // 8}')
        msg = of_array(array, encoding)
        np.testing.assert_array_equal(decode_rgb(msg), bridge.imgmsg_to_cv2(msg, 'rgb8'),
                                      err_msg=encoding)
