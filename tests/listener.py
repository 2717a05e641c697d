"""A story that remembers what it was told."""


class Listener:
    """`said` holds the sentences, details among them, in order."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    detail = say

    def track(self, items, description, total=None):
        yield from items
