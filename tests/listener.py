"""A story that remembers what it was told."""

from tlkit.base.story import Silence


class Listener(Silence):
    """`said` holds the sentences, details among them, in order; `begun` the phases, `expected` the last list of them."""

    def __init__(self):
        self.said, self.begun, self.expected = [], [], ()

    def say(self, text):
        self.said.append(text)

    detail = say

    def expect(self, *phases):
        self.expected = phases

    def begin(self, name):
        self.begun.append(name)
