# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Input as nobody means it: damaged files, numbers that are none, and what must come of them."""

from contextlib import contextmanager
import copy
import json
import math
import re
import signal

from hypothesis import strategies as st

from geo_perception.errors import GeoPerceptionError

LONGEST = 20.0   # s, for one file or message, on a busy machine
NUMBERS = [0, -1, 1, 2, 3, 255, 65535, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 63, 10 ** 30, 1e-300,
           1e300, math.nan, math.inf, -math.inf, 0.5]
WORDS = ['', 'nan', 'inf', '-inf', '1e999', '0', '-1', '99999999999999999999', '0x10', 'None',
         '1,5', '..', '../../etc/passwd', '/dev/null', 'x' * 300, '\u00e9\u4e2d', '\ufeff', '{',
         '[', '"', '%s', '\x00', '#', '- - -', '1 2', '\r']
VALUES = [*NUMBERS, None, True, '', 'x', 'nan', [], {}, [1], {'a': 1}, [[]], 'x' * 300]


class Hang(BaseException):
    """Something took too long; no handler of errors catches it."""


@contextmanager
def refused_or_fine():
    """
    Let the block succeed or be refused in a sentence, in time.

    Yields
    ------
    list
        Empty; the refusal goes into it.

    """
    def stop(*_):
        raise Hang(f'not done after {LONGEST} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    refusal = []
    try:
        yield refusal
    except GeoPerceptionError as error:
        refusal.append(str(error))
        assert is_sentence(str(error)), repr(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_sentence(text):
    """Tell whether a refusal is words for a person on one line."""
    return '\n' not in text and len(text.split()) >= 3


# Damage

_POSITION = st.floats(0, 1, exclude_max=True)
_EDITS = st.lists(st.tuples(
    st.sampled_from(['overwrite', 'insert', 'delete', 'cut', 'repeat', 'flip']), _POSITION,
    st.binary(min_size=1, max_size=16)), min_size=1, max_size=3)
_WORD_EDITS = st.lists(st.tuples(
    st.sampled_from(['replace', 'delete', 'repeat line', 'delete line', 'cut']), _POSITION,
    st.sampled_from(WORDS)), min_size=1, max_size=3)


def damage_bytes(data, edits):
    """
    Return a file with bytes changed, added, taken away or repeated.

    Parameters
    ----------
    data : bytes
        The file.
    edits : list of tuple
        Drawn.

    Returns
    -------
    bytes

    """
    for kind, position, content in edits:
        at = int(position * len(data))
        after = {'overwrite': data[at + len(content):], 'insert': data[at:],
                 'delete': data[at + len(content):], 'cut': b'', 'repeat': data[at // 2:],
                 'flip': data[at + 1:]}[kind]
        new = {'overwrite': content, 'insert': content,
               'flip': bytes(byte ^ 1 << content[0] % 8 for byte in data[at:at + 1])}
        data = data[:at] + new.get(kind, b'') + after
    return data


def damage_words(text, edits):
    """
    Return a text file with words or lines changed, taken away or repeated.

    Parameters
    ----------
    text : str
        The file.
    edits : list of tuple
        Drawn.

    Returns
    -------
    str

    """
    for kind, position, word in edits:
        if 'line' in kind:
            lines = text.splitlines(keepends=True)
            at = int(position * len(lines))
            lines[at:at + 1] = lines[at:at + 1] * (2 if kind == 'repeat line' else 0)
            text = ''.join(lines)
            continue
        spans = [match.span() for match in re.finditer(r'[^\s,:\[\]]+', text)]
        if spans:
            start, end = spans[int(position * len(spans))]
            text = {'replace': text[:start] + word + text[end:],
                    'delete': text[:start] + text[end:],
                    'cut': text[:start + (end - start) // 2]}[kind]
    return text


def damage_document(document, changes):
    """
    Return a document of lists and dictionaries with values changed or taken away.

    Parameters
    ----------
    document : dict
        As JSON has it.
    changes : list of tuple
        Drawn: position, value, whether the entry is taken away.

    Returns
    -------
    dict

    """
    document = json.loads(json.dumps(document))
    for position, value, remove in changes:
        places = list(_places(document))
        if not places:
            break
        container, key = places[int(position * len(places))]
        if remove:
            del container[key]
        else:
            container[key] = copy.deepcopy(value)
    return document


def _places(value):
    """Yield (container, key) of everything in a document, all depths alike."""
    entries = value.items() if isinstance(value, dict) else \
        enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from _places(inner)


def damages(data):
    """
    Return a strategy for damaged versions of a file, by bytes or, of a text, by words.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    hypothesis.strategies.SearchStrategy

    """
    by_bytes = _EDITS.map(lambda edits: damage_bytes(data, edits))
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return by_bytes
    return by_bytes | _WORD_EDITS.map(
        lambda edits: damage_words(text, edits).encode(errors='surrogatepass'))


CHANGES = st.lists(st.tuples(_POSITION, st.sampled_from(VALUES), st.booleans()),
                   min_size=1, max_size=2)
