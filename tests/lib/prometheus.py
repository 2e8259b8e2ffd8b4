# SPDX-License-Identifier: GPL-2.0-or-later
"""Prometheus' own tool, unpacked by tests/lib/install, and a reader of its text format."""
import re
import subprocess

from servers import UNPACKED

PROMTOOL = UNPACKED / "usr" / "bin" / "promtool"
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')


def check(text):
    """What promtool has to complain of."""
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True,
                          encoding="utf-8", timeout=60, check=False)
    return f"{done.returncode} {done.stdout}{done.stderr}".strip()


def unescape(text):
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), text)


def parse(text):
    """{(name, labels as sorted pairs): value}"""
    samples = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        found = SAMPLE.fullmatch(line)
        assert found, line
        labels = re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', found[2] or "")
        key = found[1], tuple(sorted((name, unescape(value)) for name, value in labels))
        assert key not in samples, f"twice: {line}"
        samples[key] = float(found[3])
    return samples


class Metrics:
    """/kws/metrics at one moment: metrics("kwsfs_vm_snapshots", vm="web1"), None if it is not there."""

    def __init__(self, mount):
        self.text = (mount.point / "metrics").read_text()
        self.samples = parse(self.text)

    def __call__(self, name, **labels):
        return self.samples.get((name, tuple(sorted(labels.items()))))

    @property
    def names(self):
        return {name for name, _ in self.samples}

    def of(self, name, label):
        """{value of the label: sample}"""
        return {dict(labels)[label]: value for (other, labels), value in self.samples.items()
                if other == name}
