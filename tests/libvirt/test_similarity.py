# SPDX-License-Identifier: GPL-2.0-or-later
"""Which VMs could take another one's place: weights, measures, and the table of candidates."""
import errno
import os

import pytest

from commands import refused, run, wait_until, write_once

PAPER = {"VM-001": "Node.JS MySQL Nginx", "VM-002": "Node.JS PostgreSQL Apache", "VM-003": "PostgreSQL",
         "VM-004": "Nginx", "VM-005": "Node.JS MySQL PostgreSQL Nginx Apache"}
CATEGORIES = {"Node.JS": "language", "MySQL": "database", "PostgreSQL": "database",
              "Nginx": "webserver", "Apache": "webserver"}
WEIGHTS = "language 0.3\ndatabase 0.2\nwebserver 0.1"

# {failed: {candidate: similarity}}, as it is shown
JACCARD = {"VM-001": {"VM-005": .667, "VM-002": .333, "VM-004": .167, "VM-003": 0},
           "VM-002": {"VM-005": .667, "VM-001": .333, "VM-003": .333, "VM-004": 0},
           "VM-003": {"VM-002": .333, "VM-005": .222, "VM-001": 0, "VM-004": 0},
           "VM-004": {"VM-001": .167, "VM-005": .111, "VM-002": 0, "VM-003": 0},
           "VM-005": {"VM-001": .667, "VM-002": .667, "VM-003": .222, "VM-004": .111}}
FORMULA = {"VM-001": {"VM-004": 1, "VM-003": .75, "VM-002": .667, "VM-005": .667},
           "VM-002": {"VM-003": 1, "VM-004": .857, "VM-001": .667, "VM-005": .667},
           "VM-003": {"VM-004": .667, "VM-002": .333, "VM-001": .25, "VM-005": .222},
           "VM-004": {"VM-003": .333, "VM-001": .167, "VM-002": .143, "VM-005": .111},
           "VM-005": {"VM-001": 1, "VM-002": 1, "VM-003": 1, "VM-004": 1}}


class Recovery:
    """/kws/recovery."""

    def __init__(self, mount):
        self.mount, self.path = mount, mount.point / "recovery"

    def get(self, what):
        return (self.path / what).read_text()

    def set(self, what, text):
        write_once(self.path / what, text)

    def give(self, vm, text):
        """Features, "CATEGORY VALUE" lines."""
        self.set(f"{vm}/features", text)

    @property
    def error(self):
        return self.get(".kws/last_error").rstrip("\n")

    def rows(self, vm, below=None):
        """The table: lists of the words of each line, of all or of those (not) below the threshold."""
        head, *lines = self.get(f"{vm}/candidates").splitlines()
        assert head == "# similarity\tname\tstate\tway\thas\tlacks\ttoo much"
        at = lines.index("# below the threshold:") if "# below the threshold:" in lines else len(lines)
        wanted = {None: lines[:at] + lines[at + 1:], False: lines[:at], True: lines[at + 1:]}[below]
        assert all(line.count("\t") == 6 for line in wanted)
        return [line.split("\t") for line in wanted]

    def similarities(self, vm):
        return {name: float(similarity) for similarity, name, *_ in self.rows(vm)}

    def row(self, vm, name):
        return next(row for row in self.rows(vm) if row[1] == name)


@pytest.fixture
def recovery(mount):
    return Recovery(mount)


def features_of(values):
    return "\n".join(f"{CATEGORIES[value]} {value}" for value in values.split()) + "\nos Ubuntu 20.04"


def give_by_virsh(recovery, vm, text):
    features = "".join(f"<feature category='{line.split()[0]}'>{line.split(maxsplit=1)[1]}</feature>"
                       for line in text.splitlines())
    vm.virsh("metadata", vm.name, "--uri", "urn:kwsfs:features", "--key", "kwsfs", "--config", "--set",
             f"<features>{features}</features>")

    def are_known():
        os.listdir(recovery.path / vm.name)  # libvirt tells nobody of it: this has kwsfs look
        return set(text.splitlines()) <= set(recovery.get(f"{vm.name}/features").splitlines())

    wait_until(are_known, "the features are known")


@pytest.fixture
def paper(recovery, new_vm):
    """The paper's VMs, weights and threshold; none of them runs. One has its features from virsh."""
    for name, values in PAPER.items():
        vm = new_vm(name)
        wait_until((recovery.path / name).exists, "it is seen")
        if name == "VM-004":
            give_by_virsh(recovery, vm, features_of(values))
        else:
            recovery.give(name, features_of(values))
    recovery.set("weights", WEIGHTS)
    recovery.set("threshold", "0.5")
    return recovery


def test_the_papers_case(paper):
    for measure, table in ("jaccard", JACCARD), ("paper", FORMULA):
        paper.set("measure", measure)
        for failed, wanted in table.items():
            assert paper.similarities(failed) == wanted
            assert [row[1] for row in paper.rows(failed)] == list(wanted)
            assert {row[1] for row in paper.rows(failed, below=False)} == {
                name for name, similarity in wanted.items() if similarity >= .5}
    paper.set("measure", "jaccard")
    similarity, name, state, way, has, lacks, too_much = paper.row("VM-001", "VM-005")
    assert (similarity, name, state, way) == ("0.667", "VM-005", "shut off", "start")
    assert has == "database=MySQL,language=Node.JS,webserver=Nginx" and lacks == "-"
    assert too_much == "database=PostgreSQL,webserver=Apache"
    assert paper.row("VM-001", "VM-003")[4:] == [
        "-", "database=MySQL,language=Node.JS,webserver=Nginx", "database=PostgreSQL"]
    assert paper.row("VM-001", "VM-004")[3] == "by name only: start"


def test_the_threshold_is_reached(paper):
    """.3 + .2 + .1 are .6, so .3 of them is half, and half is not below 0.5."""
    paper.give("VM-002", "language Node.JS")
    assert paper.rows("VM-001", below=False)[1][:2] == ["0.500", "VM-002"]
    paper.set("threshold", "0.500000001")
    assert [row[1] for row in paper.rows("VM-001", below=False)] == ["VM-005"]
    paper.set("threshold", "1")
    assert paper.rows("VM-001", below=False) == []
    paper.set("threshold", "0")
    assert paper.rows("VM-001", below=True) == []


def test_settings(recovery, mount):
    as_it_was = {what: recovery.get(what) for what in ("weights", "threshold", "measure", "policy")}
    assert as_it_was == {
        "weights": "cpu 0.05\ndatabase 0.2\ndisk 0.05\nlanguage 0.3\nmemory 0.1\nos 0.2\nwebserver 0.1\n",
        "threshold": "0.5\n", "measure": "jaccard\n", "policy": "clone start\n"}
    written = {"weights": ("# mine\n\n gpu\t.123456789\r\n언어 1000000\nzero 0",
                           "gpu 0.123456789\nzero 0\n언어 1000000\n"),
               "threshold": ("1.", "1\n"), "measure": ("paper", "paper\n"),
               "policy": (" own_last_snapshot  clone", "clone own_last_snapshot\n")}
    for what, (text, reads) in written.items():
        recovery.set(what, text)
        assert recovery.get(what) == reads
        run("sh", "-c", 'text=$(cat "$1"); printf "%s\\n" "$text" > "$1"', "sh", recovery.path / what)
        assert recovery.get(what) == reads
        assert os.stat(recovery.path / what).st_size == len(reads.encode())
    run("sh", "-c", 'echo "tpu 2" >> "$1"', "sh", recovery.path / "weights")
    assert recovery.get("weights") == "gpu 0.123456789\ntpu 2\nzero 0\n언어 1000000\n"
    recovery.set("policy", "none")
    mount.kill()
    mount.start_again()
    assert recovery.get("weights") == "gpu 0.123456789\ntpu 2\nzero 0\n언어 1000000\n"
    assert recovery.get("policy") == "none\n" and recovery.get("threshold") == "1\n"
    for what, text in as_it_was.items():
        recovery.set(what, "default")
        assert recovery.get(what) == text
    assert oct(os.stat(recovery.path / "weights").st_mode) == "0o100644"
    assert oct(os.stat(recovery.path).st_mode) == "0o40700"


REFUSED = {
    "weights": {"a -1": "weight of 'a'", "a -0": "not '-0'", "a nan": "'nan'", "a inf": "'inf'",
                "a 1e400": "'1e400'", "a 1e3": "'1e3'", "a 0x1": "'0x1'", "a 0,3": "'0,3'", "a .": "'.'",
                "a 1.2.3": "'1.2.3'", "a x": "'x'", "a 1000000.1": "from 0 to 1000000",
                "a 0.1234567891": "at most 9 decimals", "a": "'a' is given no weight",
                "a b 1": "more than a category", "a 1\nb 2\na 1": "'a' is given two weights",
                "": "no weight was written", "# nothing": "no weight was written",
                "\n".join(f"c{number} 1" for number in range(257)): "256 weights at most"},
    "threshold": dict.fromkeys(("-0.1", "1.1", "1.000000001", "nan", "inf", "x", "", "0.5 0.6", "50%"),
                               "from 0 to 1"),
    "measure": {"": "jaccard or paper", "Jaccard": "'Jaccard'", "cosine": "'cosine'"},
    "policy": {"clone restart": "'restart'", "none clone": "'none'", "1": "'1'"},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(recovery, what):
    before = recovery.get(what)
    for text, why in REFUSED[what].items():
        with refused(errno.EINVAL):
            recovery.set(what, text)
        assert why in recovery.error, (text, recovery.error)
        assert recovery.get(what) == before
    with refused(errno.EINVAL):
        recovery.set(what, "a\x01b")
    with refused(errno.EPERM):
        (recovery.path / what).unlink()
    if what == "weights":
        with refused(errno.EFBIG):
            recovery.set(what, "# " + "x" * 32768)
    assert recovery.get(what) == before


def test_what_would_be_done(paper, new_vm, mount):
    """By the state of a candidate, and by the policy."""
    vms = {name: new_vm(name) for name in ("same-off", "same-on", "same-paused")}
    for name in vms:
        wait_until((paper.path / name).exists, "it is seen")
        paper.give(name, features_of(PAPER["VM-001"]))
    vms["same-on"].start()
    vms["same-paused"].start()
    vms["same-paused"].virsh("suspend", "same-paused")

    def wait_for(**ways):
        wanted = {name.replace("_", "-"): way for name, way in ways.items()}
        wait_until(lambda: {row[1]: row[3] for row in paper.rows("VM-001")
                            if row[1] in wanted} == wanted,
                   f"{wanted}, not {paper.rows('VM-001')}")

    paused = "no: it is paused"
    wait_for(same_on="runs already", same_off="start", same_paused=paused)
    assert [row[1] for row in paper.rows("VM-001")][:3] == ["same-on", "same-off", "same-paused"]
    paper.set("policy", "clone")
    no_snapshot = "no: it does not run, the policy has no start, and there is no snapshot of it to clone"
    wait_for(same_on="runs already", same_off=no_snapshot, same_paused=paused)
    mount.of(vms["same-off"]).mkdir("golden")
    wait_for(same_off="clone")
    paper.set("policy", "none")
    nothing = "no: it does not run, and the policy has neither start nor clone"
    wait_for(same_on="runs already", same_off=nothing)


def test_pools_and_the_own_snapshot(paper, new_vm, mount, libvirtd):
    """They stand behind VMs that are as similar; spares are nobody's candidates."""
    golden = mount.point / "snapshots" / "VM-005" / "golden"
    golden.mkdir()
    link = mount.point / "pool" / "all"
    link.symlink_to("../snapshots/VM-005/golden/clones")

    def wait_for_spares():
        wait_until(lambda: "spares 2 of 2" in (link / ".kws" / "status").read_text(), "spares")

    try:
        write_once(link / ".kws" / "spare", "2")
        wait_for_spares()
        assert [row[1] for row in paper.rows("VM-001", below=False)] == ["VM-005", "pool/all"]
        assert paper.row("VM-001", "pool/all")[2:4] == ["template", "clone"]
        assert len(paper.rows("VM-001")) == 5
        assert [row[1] for row in paper.rows("VM-005")][0] == "pool/all"  # what it was itself
        (link / "web-1").mkdir()
        wait_for_spares()
        assert [row[1] for row in paper.rows("VM-001", below=False)] == ["VM-005", "web-1", "pool/all"]
        (link / "web-1").rmdir()
        assert [row[1] for row in paper.rows("VM-005")].count("snapshot/golden") == 0
        paper.set("policy", "own_last_snapshot start")
        assert [row[:2] for row in paper.rows("VM-005")][:2] == [["1.000", "pool/all"],
                                                                ["1.000", "snapshot/golden"]]
        assert paper.row("VM-005", "pool/all")[3] == "no: the policy has no clone"
        _, _, state, way, has, lacks, too_much = paper.row("VM-005", "snapshot/golden")
        assert state.startswith("loses ") and way == "clone" and (lacks, too_much) == ("-", "-")
        assert has.startswith("database=MySQL,database=PostgreSQL,language=Node.JS")
    finally:
        write_once(link / ".kws" / "spare", "0")
        wait_until(lambda: "spares 0 of 0" in (link / ".kws" / "status").read_text() and
                   "-spare-" not in libvirtd.virsh("list", "--all", "--name"), "no spares")
        link.unlink()


def test_nothing_was_ever_said_of_it(recovery, new_vm, mount):
    """Two VMs of the same size are not alike for that."""
    for name in "one", "two":
        new_vm(name)
        wait_until((recovery.path / name).exists, "it is seen")
    recovery.give("two", "language C")
    assert recovery.get("one/candidates") == (
        "# nothing is known of what 'one' is for: write its features, of categories that have a weight\n")
    assert recovery.similarities("two") == {"one": .4}  # as of cpu, memory and disk of both
    (mount.point / "snapshots" / "one" / "s1").mkdir()
    assert recovery.get("one/candidates").startswith("# nothing is known")
    recovery.set("policy", "clone start own_last_snapshot")
    assert recovery.similarities("one") == {"snapshot/s1": 1}
    recovery.set("weights", "taste 1")
    assert recovery.similarities("one") == {"snapshot/s1": 1}
    assert recovery.get("two/candidates").startswith("# nothing is known")
    recovery.set("policy", "default")
    recovery.set("weights", "default")


def test_a_vm_that_is_called_as_a_setting(recovery, new_vm):
    vm = new_vm("weights")
    uuid = vm.virsh("domuuid", "weights").strip()
    wait_until((recovery.path / uuid).exists, "it is seen")
    assert (recovery.path / "weights").is_file()
    recovery.give(uuid, "language C")
    assert recovery.rows(uuid) == []
