# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Read a report back."""

from html.parser import HTMLParser
import re

VOID = {'meta', 'img', 'br', 'input'}


class Page(HTMLParser):
    """Collects the text and the pictures of a page, and checks that its elements nest."""

    def __init__(self, path):
        super().__init__()
        self.open, self.text, self.sources, self.headings = [], '', [], []
        self.lesser_headings = []
        self.raw = path.read_text()
        # What a person sees; scripts have their own data.
        self.markup = re.sub(r'<(script|style).*?</\1>', '', self.raw, flags=re.DOTALL)
        self.feed(self.raw)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        """Remember what is open, and every reference."""
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ('src', 'href')]
        assert tag != 'img' or dict(attributes)['alt']

    def handle_endtag(self, tag):
        """Close the innermost element, no other."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Collect text."""
        if self.open and self.open[-1] in ('script', 'style'):
            return
        self.text += data
        if self.open and self.open[-1] == 'h2':
            self.headings.append(data)
        if self.open and self.open[-1] == 'h3':
            self.lesser_headings.append(data)
