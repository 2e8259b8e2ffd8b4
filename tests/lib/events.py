# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that reads /kws/events."""
import json
import os
import select

from commands import DEADLINE

class Events:
    def __init__(self, mount):
        self.fd = os.open(mount.point / "events", os.O_RDONLY)
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)
        self.left = []  # what came together with the one that was waited for

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def read(self, size=1 << 16):
        """What there is, as objects; each line is whole."""
        text = os.read(self.fd, size)
        assert text == b"" or text.endswith(b"\n")
        return [json.loads(line) for line in text.splitlines()]

    def is_waiting(self):
        """Nothing is there."""
        return self.poll.poll(0) == []

    def next(self):
        """Waits for something to come."""
        if self.left:
            left, self.left = self.left, []
            return left
        assert self.poll.poll(DEADLINE * 1000), "no event came"
        return self.read()

    def until(self, name, **fields):
        """Waits for one, and returns it and what came before it."""
        came = []
        while True:
            events = self.next()
            for number, event in enumerate(events, 1):
                came.append(event)
                if event["event"] == name and fields.items() <= event.items():
                    self.left = events[number:]
                    return event, came
