# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that reads /kws/events."""
import json
import os
import select

MOST = 60  # seconds to wait for an event that has to come


class Events:
    def __init__(self, mount):
        self.fd = os.open(mount.point / "events", os.O_RDONLY)
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)

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
        assert self.poll.poll(MOST * 1000), "no event came"
        return self.read()

    def until(self, name, **fields):
        """Waits for one, and returns it and what came before it."""
        came = []
        while True:
            for event in self.next():
                came.append(event)
                if event["event"] == name and fields.items() <= event.items():
                    return event, came
