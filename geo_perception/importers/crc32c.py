# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The checksum of TensorFlow's files: CRC32C (Castagnoli), fast enough for hundreds of megabytes.

A CRC is linear: data are cut into lanes, all of which NumPy takes through the tables at once, and
the remainders of two neighbours are one remainder once the first is moved on by the length of the
second.
"""

from functools import lru_cache

import numpy as np

POLYNOMIAL = 0x82F63B78   # reversed
MASK_DELTA = 0xA282EAD8
# Words of 32 bits.
LANE = 64


@lru_cache
def _byte_table():
    """Return what each byte leaves, shape (256,)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ (table & np.uint32(1)) * np.uint32(POLYNOMIAL)
    return table


@lru_cache
def _word_tables():
    """Return what the low and the high half of a 32-bit word leave, shape (65536,) each."""
    byte = _byte_table()
    tables = []
    for half in (0, 1):
        x = np.arange(65536, dtype=np.uint32) << np.uint32(16 * half)
        for _ in range(4):
            x = (x >> np.uint32(8)) ^ byte[x & np.uint32(0xFF)]
        tables.append(x)
    return tables


def _after(tables, x):
    """Return a linear map of remainders, given by the images of the halves of a word."""
    return tables[0][x & np.uint32(0xFFFF)] ^ tables[1][x >> np.uint32(16)]


@lru_cache(maxsize=None)
def _advance(doublings):
    """Return the map that moves remainders on by a lane, doubled so many times."""
    if doublings:
        before = _advance(doublings - 1)
        return [_after(before, table) for table in before]
    tables = _word_tables()
    result = tables
    for _ in range(LANE - 1):
        result = [_after(tables, table) for table in result]
    return result


def crc32c(data):
    """
    Return the CRC32C of bytes.

    Parameters
    ----------
    data : bytes-like
        Any number of them.

    Returns
    -------
    int

    """
    data = np.frombuffer(data, np.uint8)
    if len(data) < 4:
        crc = 0xFFFFFFFF
        for byte in data.tolist():
            crc = (crc >> 8) ^ int(_byte_table()[(crc ^ byte) & 0xFF])
        return crc ^ 0xFFFFFFFF
    lanes = -(-len(data) // (4 * LANE))
    # Zeros in front change nothing; that the remainder begins with ones is as if the first four
    # bytes were inverted.
    padded = np.zeros(4 * LANE * lanes, np.uint8)
    padded[-len(data):] = data
    start = len(padded) - len(data)
    padded[start:start + 4] ^= np.uint8(0xFF)
    tables = _word_tables()
    crc = np.zeros(lanes, np.uint32)
    for row in np.ascontiguousarray(padded.view('<u4').reshape(lanes, LANE).T):
        crc = _after(tables, crc ^ row)
    doublings = 0
    while len(crc) > 1:
        if len(crc) % 2:
            crc = np.concatenate([np.zeros(1, np.uint32), crc])
        crc = _after(_advance(doublings), crc[::2]) ^ crc[1::2]
        doublings += 1
    return int(crc[0]) ^ 0xFFFFFFFF


def masked_crc32c(data):
    """
    Return the CRC32C as TensorFlow and LevelDB store it: turned, so that it may be summed itself.

    Parameters
    ----------
    data : bytes-like
        Any number of them.

    Returns
    -------
    int

    """
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF
