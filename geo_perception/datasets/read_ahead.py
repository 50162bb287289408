# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Messages of a bag that are asked for one by one, nearly in order of time.

A bag keeps its messages in compressed chunks. Whoever looks up each by itself unpacks a chunk
once for every message in it; here it is unpacked once.
"""

from collections import OrderedDict

# Nanoseconds that are read on from a message; what is asked for later begins anew.
WINDOW = 1_000_000_000
# Of what was read and may be asked for still, or again.
KEPT_BYTES = 32_000_000


class ReadAhead:
    """
    Remembers what lies beside the messages that were asked for.

    Parameters
    ----------
    messages : callable
        Takes topics, start and stop (nanoseconds, without the latter), and yields topic, time and
        content of the messages in order of time.

    """

    def __init__(self, messages):
        self._messages = messages
        self._topics = set()
        self._source = None
        self._begun = self._reached = 0   # what the source has yielded, from and to
        self._repeats = {}                # topic -> how many messages had that time
        self._kept, self._bytes = OrderedDict(), 0

    def get(self, topic, time, repeat):
        """
        Return a message.

        Parameters
        ----------
        topic : str
            Its topic.
        time : int
            When it was recorded, nanoseconds.
        repeat : int
            Which of the messages of that topic and time, counted from 0.

        Returns
        -------
        object or None
            What the source yields for it; None where there is none.

        """
        wanted = topic, time, repeat
        found = self._kept.get(wanted)
        if found is None and self._goes_on(topic, time):
            found = self._read_to(wanted)
        if found is None:
            self._begin(topic, time)
            found = self._read_to(wanted)
        return found

    def _goes_on(self, topic, time):
        return (self._source is not None and topic in self._topics
                and self._reached <= time < self._begun + WINDOW)

    def _begin(self, topic, time):
        self._topics.add(topic)
        self._source = self._messages(frozenset(self._topics), time, time + WINDOW)
        self._begun = self._reached = time
        self._repeats = {}

    def _read_to(self, wanted):
        """Read on until the wanted message, or beyond its time."""
        for topic, time, content in self._source:
            if time != self._reached:
                self._repeats, self._reached = {}, time
            repeat = self._repeats[topic] = self._repeats.get(topic, -1) + 1
            self._keep((topic, time, repeat), content)
            if (topic, time, repeat) == wanted:
                return content
            if time > wanted[1]:
                return None
        self._source = None
        return None

    def _keep(self, key, content):
        if key in self._kept:
            return
        self._kept[key] = content
        self._bytes += len(content[1])
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            _, (_, raw) = self._kept.popitem(last=False)
            self._bytes -= len(raw)
