# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Messages of ROS 1 and ROS 2 bags, in order and one at a time, without a ROS installation."""

from contextlib import contextmanager, suppress
from functools import cache, partial
import os
from pathlib import Path
import threading
import weakref

from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

from geo_perception.datasets.read_ahead import ReadAhead
from geo_perception.errors import RecordingError
from geo_perception.progress import track

_MAGIC = {b'#ROSBAG V': '.bag', b'\x89MCAP0\r\n': '.mcap', b'SQLite format 3': '.db3'}
# What ROS 1 called it before tf2.
_RENAMED = {'tf/msg/tfMessage': 'tf2_msgs/msg/TFMessage'}
# Larger recordings take long enough to read that a person wants to see progress.
_LARGE_BYTES = 5 * 10**8


@cache
def ros1_types():
    """
    Return the message types of ROS 1 Noetic.

    Returns
    -------
    rosbags.typesys.store.Typestore

    """
    types = get_typestore(Stores.ROS1_NOETIC)
    # rosbags counts it as foreign there.
    types.register(get_types_from_msg('geometry_msgs/TransformStamped[] transforms',
                                      'tf2_msgs/msg/TFMessage'))
    return types


@cache
def ros2_types():
    """
    Return the message types of ROS 2 Jazzy.

    Returns
    -------
    rosbags.typesys.store.Typestore

    """
    return get_typestore(Stores.ROS2_JAZZY)


def is_bag(path):
    """
    Tell whether a path is a bag, by its content.

    Parameters
    ----------
    path : Path
        A file, or a folder with ``metadata.yaml`` or storage files.

    Returns
    -------
    bool

    """
    if path.is_dir():
        return (path / 'metadata.yaml').is_file() or bool(_storage_files(path))
    return _kind(path) is not None


class BagFile:
    """
    Random and sequential access to the messages of a bag.

    The standard messages are decoded by their definitions in ROS 2 Jazzy and ROS 1 Noetic, which
    have not changed since the first distributions, so that bags without definitions and bags with
    foreign ones read alike. Picklable; every process opens the file for itself, and closes it
    when nobody needs the bag any more.

    Parameters
    ----------
    path : Path
        Folder of a ROS 2 bag, or a single ``.bag``, ``.mcap`` or ``.db3`` file.

    Raises
    ------
    RecordingError
        When the bag is damaged, truncated or empty.

    """

    def __init__(self, path):
        self.path = Path(path)
        self._reader = self._process = self._ahead = None
        self._lock = threading.RLock()
        with self._explained():
            reader = self._open()
            connections = list(reader.connections)
            count = reader.message_count
        self.topics = {}
        for connection in connections:
            self.topics.setdefault(connection.topic, _RENAMED.get(connection.msgtype,
                                                                  connection.msgtype))
        if count == 0:
            raise RecordingError(f'the bag {self.path} is empty: it holds no messages')

    def __getstate__(self):
        """Leave the open file behind."""
        return {'path': self.path, 'topics': self.topics}

    def __setstate__(self, state):
        """Open again when needed."""
        self.__dict__.update(state, _reader=None, _process=None, _ahead=None,
                             _lock=threading.RLock())

    def of_type(self, *msgtypes):
        """
        Return the topics of some message types, sorted.

        Parameters
        ----------
        *msgtypes : str
            Such as ``sensor_msgs/msg/Image``.

        Returns
        -------
        list of str

        """
        return sorted(topic for topic, name in self.topics.items() if name in msgtypes)

    def messages(self, topics):
        """
        Yield all messages of some topics in the order of their recording.

        Parameters
        ----------
        topics : collection of str
            At least one topic of the bag.

        Yields
        ------
        topic : str
            Its topic.
        position : tuple of int
            Where ``read`` finds it again.
        message : object
            With the fields of its ROS message type.

        """
        with self._lock, self._explained():
            last, repeats = {}, {}
            self._ahead = None   # of a file without an index both would share one place in it
            messages = self._open().messages(self._connections(topics))
            if self._bytes() > _LARGE_BYTES:
                total = sum(connection.msgcount for connection in self._connections(topics))
                messages = track(messages, f'Reading {self.path.name}', total=total)
            for connection, time, raw in messages:
                topic = connection.topic
                repeats[topic] = repeats[topic] + 1 if last.get(topic) == time else 0
                last[topic] = time
                yield topic, (time, repeats[topic]), self._decode(connection, raw)

    def first(self, topic):
        """
        Return the first message of a topic, or None without any.

        Parameters
        ----------
        topic : str
            A topic of the bag.

        Returns
        -------
        object or None

        """
        with self._lock, self._explained():
            self._ahead = None
            for connection, _, raw in self._open().messages(self._connections([topic])):
                return self._decode(connection, raw)
        return None

    def read(self, topic, position):
        """
        Return one message.

        Parameters
        ----------
        topic : str
            A topic of the bag.
        position : tuple of int
            As ``messages`` gave it.

        Returns
        -------
        object

        """
        time, repeat = (int(value) for value in position)
        with self._lock, self._explained():
            self._open()
            if self._ahead is None:
                self._ahead = ReadAhead(partial(_window, self._reader))
            found = self._ahead.get(topic, time, repeat)
            if found is None:
                raise RecordingError(f'the bag {self.path} has no message of {topic} at {time} '
                                     'any more; was it changed meanwhile?')
            return self._decode(*found)

    def _open(self):
        # A forked process would move the file offset of its parent.
        if self._reader is None or self._process != os.getpid():
            path = self.path
            if path.is_dir() and not (path / 'metadata.yaml').is_file():
                raise RecordingError(f'the bag {path} has no metadata.yaml: it is still being '
                                     'recorded, or was cut off; end the recording, or repair it '
                                     f'with "ros2 bag reindex {path}"')
            kind = None if path.is_dir() else _kind(path)
            reader = Ros1Reader(path) if kind == '.bag' else Ros2Reader(path)
            reader.open()
            self._reader, self._process, self._ahead = reader, os.getpid(), None
            weakref.finalize(self, _close, reader, self._process)
            self._typestore = ros1_types() if kind == '.bag' else ros2_types()
        return self._reader

    def _connections(self, topics):
        return [c for c in self._reader.connections if c.topic in topics]

    def _decode(self, connection, raw):
        decode = self._typestore.deserialize_ros1 if isinstance(self._reader, Ros1Reader) \
            else self._typestore.deserialize_cdr
        # Slices of a view are no copies.
        return decode(memoryview(raw), _RENAMED.get(connection.msgtype, connection.msgtype))

    def _bytes(self):
        files = self.path.iterdir() if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files)

    @contextmanager
    def _explained(self):
        """Turn what a parser meets in a damaged file, which may be anything, into one sentence."""
        try:
            yield
        except (RecordingError, GeneratorExit):
            raise
        except PermissionError as error:
            raise RecordingError(f'the bag {self.path} may not be read: {error.strerror}') \
                from error
        except Exception as error:
            reason = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
            raise RecordingError(f'the bag {self.path} is damaged or truncated ({reason}); try '
                                 f'{_remedy(self.path)}') from error


def _close(reader, process):
    """Close a file; a forked process would move the file offset of its parent even so."""
    if process == os.getpid():
        with suppress(Exception):   # SQLite amid a read, with which it is closed
            reader.close()


def _window(reader, topics, start, stop):
    """Yield topic, time and what is to be decoded of some messages."""
    connections = [c for c in reader.connections if c.topic in topics]
    for connection, time, raw in reader.messages(connections, start, stop):
        yield connection.topic, time, (connection, raw)


def _storage_files(path):
    return [file for suffix in ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
            for file in path.glob(f'*{suffix}')]


def _kind(path):
    """Return the suffix that belongs to the content of a file, or None."""
    if path.suffix in _MAGIC.values():
        return path.suffix
    with path.open('rb') as file:
        head = file.read(16)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def _remedy(path):
    files = [path] if path.is_file() else _storage_files(path)
    if any(file.suffix == '.bag' for file in files):
        return '"rosbag reindex"'
    if any('.mcap' in file.name for file in files):
        return '"mcap recover"'
    return '"ros2 bag reindex"'
