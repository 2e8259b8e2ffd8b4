# SPDX-License-Identifier: GPL-2.0-or-later
"""/kws/metrics, beside what virsh, qemu-img and stat say; and that alerts and dashboard use what
is there."""
import errno
import json
import os
import pathlib
import re

import pytest

from commands import refused, run, wait_until, write_once
from disturb import disturbed
from events import Events
from prometheus import PROMTOOL, Metrics, check

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def chain_depth(path):
    return len(json.loads(run("qemu-img", "info", "-U", "--backing-chain", "--output=json", path)))


def occupied(layers):
    return sum(os.stat(path).st_blocks * 512 for path in layers.values())


def held(vm, tree):
    """{snapshot: what its layers occupy}, and {snapshot: what those below it do}, by stat."""
    exclusive = {name: occupied(layers) for name, layers in vm.snapshot_layers().items()}
    parents, shared = tree.parents(), {}
    for name in exclusive:
        shared[name], above = 0, parents[name]
        while above:
            shared[name] += exclusive[above]
            above = parents[above]
    return exclusive, shared


def agree(mount, tree, vm):
    """Everything that others know, too. Depths and room are measured in the background."""
    now = Metrics(mount)
    exclusive, shared = held(vm, tree)
    depths = {target: chain_depth(path) for target, path in vm.active.items()}
    return (now.of("kwsfs_snapshot_exclusive_bytes", "snapshot") == exclusive and
            now.of("kwsfs_snapshot_shared_bytes", "snapshot") == shared and
            now.of("kwsfs_disk_chain_depth", "disk") == depths and
            now("kwsfs_vm_snapshots", vm="web1") == len(exclusive))


def created(vm, name):
    xml = vm.virsh("snapshot-dumpxml", "--domain", "web1", "--snapshotname", name)
    return int(re.search("<creationTime>(.*)</creationTime>", xml)[1])


def test_as_others_see_it(tree, vm, mount):
    wait_until(lambda: agree(mount, tree, vm), "there is no snapshot")
    assert Metrics(mount)("kwsfs_vm_newest_snapshot_timestamp_seconds", vm="web1") is None
    for number in range(4):
        vm.write("vda", number + 1, number << 19, (number + 1) << 18)
        tree.mkdir(f"off{number}")
    wait_until(lambda: agree(mount, tree, vm), "while it is off")
    tree.revert("off1")
    vm.start()
    for number in range(3):
        vm.write("vdb", number + 1, number << 18, 1 << 18)
        tree.mkdir(f"on{number}")
    wait_until(lambda: agree(mount, tree, vm), "with branches, and while it runs")
    now = Metrics(mount)
    assert now("kwsfs_vm_newest_snapshot_timestamp_seconds", vm="web1") == created(vm, "on2")
    assert now("kwsfs_disk_chain_depth", vm="web1", disk="vda") == 6
    tree.rmdir("on1")
    tree.rmdir("off3")
    tree.sync()
    wait_until(lambda: agree(mount, tree, vm), "after merges")
    assert Metrics(mount)("kwsfs_disk_chain_depth", vm="web1", disk="vda") == 5
    (tree / ".kws" / "max_depth").write_text("50\n")
    assert Metrics(mount)("kwsfs_vm_max_chain_depth", vm="web1") == 50


def test_what_is_counted(tree, vm, mount):
    vm.start()
    for name in "s1", "s2":
        vm.write("vda", 1, 0, 1 << 20)
        tree.mkdir(name)
    now = Metrics(mount)
    assert now("kwsfs_snapshot_duration_seconds_count") == 2
    assert now("kwsfs_snapshot_duration_seconds_bucket", le="+Inf") == 2
    assert 0 < now("kwsfs_snapshot_duration_seconds_sum") < 60
    assert now("kwsfs_freeze_upper_bound_seconds_count") == 0  # it has no guest agent

    exported = now("kwsfs_exported_bytes_total")  # those of tree.mkdir: none
    assert exported == 0
    assert len((tree / "s1" / "vda.raw").read_bytes()) == 4 << 20
    assert Metrics(mount)("kwsfs_exported_bytes_total") == 4 << 20

    tree.rmdir("s1")
    tree.sync()
    now = Metrics(mount)
    assert now("kwsfs_merge_duration_seconds_count") == 2  # vda and vdb
    assert now("kwsfs_merged_bytes_total") == 1 << 20
    assert now("kwsfs_vm_tombstones", vm="web1") == 0
    assert now("kwsfs_jobs", state="running") == now("kwsfs_jobs", state="waiting") == 0

    for _ in range(3):
        with refused(errno.EINVAL):
            (tree / "two\nlines").mkdir()
    with refused(errno.EBUSY):
        write_once(tree / "s2" / "revert", "1")
    now = Metrics(mount)
    assert now("kwsfs_errors_total", errno="EINVAL") == 3
    assert now("kwsfs_errors_total", errno="EBUSY") == 1
    assert now("kwsfs_errors_total", errno="EIO") == 0  # there before it is needed


AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


@pytest.fixture
def agent_vm(new_vm, guest):
    return new_vm("web1", {"vda": 16 << 20}, AGENT, define=False).start_with_agent(guest)


def test_freezes(agent_vm, mount):
    tree = mount.of(agent_vm)
    (tree / ".kws" / "quiesce").write_text("yes\n")
    for number in range(1, 3):
        (tree / f"s{number}").mkdir()
        info = json.loads((tree / f"s{number}" / "info.json").read_text())
        assert info["consistency"] == "filesystem"
        now = Metrics(mount)
        assert now("kwsfs_freeze_upper_bound_seconds_count") == number
        assert 0 < now("kwsfs_freeze_upper_bound_seconds_sum") < now("kwsfs_snapshot_duration_seconds_sum")
    (tree / ".kws" / "quiesce").write_text("no\n")
    (tree / "s3").mkdir()
    now = Metrics(mount)
    assert now("kwsfs_freeze_upper_bound_seconds_count") == 2
    assert now("kwsfs_snapshot_duration_seconds_count") == 3
    said = agent_vm.virsh("qemu-agent-command", "web1", '{"execute": "guest-fsfreeze-status"}')
    assert json.loads(said)["return"] == "thawed"


def test_jobs(mount, new_vm):
    """One that runs, and that somebody cancels."""
    vm = new_vm("web1", {"vda": 64 << 20})
    tree = mount.of(vm)
    tree.mkdir("s1")
    vm.write("vda", 1, 0, 55 << 20)
    tree.start_quietly()
    with Events(mount) as events, disturbed(vm.qemu, "pwrite64:delay_exit=200ms"):
        tree.rmdir("s1")
        [job] = wait_until(lambda: os.listdir(tree / ".kws" / "jobs"), "a job runs")
        now = Metrics(mount)
        assert now("kwsfs_jobs", state="running") == 1 and now("kwsfs_jobs", state="failed") == 0
        (tree / ".kws" / "jobs" / job / "cancel").write_text("1\n")
        with refused(errno.ECANCELED):
            tree.sync()
        came = events.until("job-canceled", result="ECANCELED")[1]
    assert [(e["event"], e["result"]) for e in came if e["event"].startswith("merge")] == [
        ("merge-started", "ok"), ("merge-ended", "ECANCELED")]
    now = Metrics(mount)
    assert now("kwsfs_jobs", state="running") == 0 and now("kwsfs_jobs", state="failed") == 1
    assert now("kwsfs_vm_tombstones", vm="web1") >= 1
    assert now("kwsfs_merge_duration_seconds_count") == now("kwsfs_merged_bytes_total") == 0
    assert now("kwsfs_errors_total", errno="ECANCELED") == 1
    tree.mkdir("s2")
    tree.sync()
    now = Metrics(mount)
    assert now("kwsfs_jobs", state="failed") == now("kwsfs_vm_tombstones", vm="web1") == 0
    assert now("kwsfs_merged_bytes_total") == 55 << 20


def test_without_libvirt(tree, vm, mount, libvirtd):
    tree.mkdir("s1")
    assert Metrics(mount)("kwsfs_libvirt_up") == 1
    libvirtd.kill()
    try:
        wait_until(lambda: Metrics(mount)("kwsfs_libvirt_up") == 0, "it is seen that libvirt is gone")
        assert Metrics(mount)("kwsfs_vm_snapshots", vm="web1") == 1
    finally:
        libvirtd.start()
    wait_until(lambda: Metrics(mount)("kwsfs_libvirt_up") == 1, "it is back")


def test_orphans(tree, vm, mount):
    """Nobody lists lost+found: it is looked for by itself."""
    orphan = vm.folder / "kws-00000000-0123456789abcdef-vda.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", orphan, "1M")
    tree.mkdir("s1")
    wait_until(lambda: Metrics(mount)("kwsfs_orphans") is not None, "orphans are looked for")
    os.listdir(mount.point / "lost+found")
    now = Metrics(mount)
    assert now("kwsfs_orphans") == 1
    assert now("kwsfs_orphans_bytes") == os.stat(orphan).st_blocks * 512


def test_the_store(tree, mount):
    st = os.statvfs(mount.folder / "state")
    now = Metrics(mount)
    assert now("kwsfs_store_size_bytes") == st.f_blocks * st.f_frsize
    assert 0 < now("kwsfs_store_free_bytes") <= st.f_blocks * st.f_frsize


def test_the_file(tree, vm, mount, folder):
    everything(tree, vm, mount)
    path = mount.point / "metrics"
    assert os.stat(path).st_mode & 0o777 == 0o400
    with refused(errno.EROFS):
        os.open(path, os.O_WRONLY)
    for command in ("cp", path, folder / "copy"), ("install", path, folder / "copy"):
        run(*command)
        assert (folder / "copy").read_text().count("# HELP") == path.read_text().count("# HELP") > 20


HOSTILE = ['a"b', "back\\slash\\", "\\n", "{le=\"1\"} 5", "한글 스냅샷", "😀", "# HELP", "</script>"]


def test_hostile_names(mount, new_vm):
    vm = new_vm('we"b\\1')
    tree = mount.of(vm)
    names = {name.replace("/", "") for name in HOSTILE}
    for name in names:
        tree.mkdir(name)
    wait_until(lambda: Metrics(mount).of("kwsfs_snapshot_exclusive_bytes", "snapshot").keys() == names,
               "all were measured")
    now = Metrics(mount)
    assert now("kwsfs_vm_snapshots", vm='we"b\\1') == len(names)
    assert check(now.text) == "0"


def everything(tree, vm, mount):
    """The metrics when there is something of each kind."""
    tree.mkdir("s1")
    (mount.point / "pool" / "web").symlink_to("../snapshots/web1/s1/clones")
    os.listdir(mount.point / "lost+found")
    wait_until(lambda: agree(mount, tree, vm), "it was measured")
    return Metrics(mount)


def test_promtool(tree, vm, mount):
    now = everything(tree, vm, mount)
    assert check(now.text) == "0"
    assert check(now.text.replace("_total", "")) != "0"  # it does look
    helped = re.findall("^# HELP (\\S+) .+\\.$", now.text, re.MULTILINE)
    assert len(helped) == len(set(helped)) >= 20
    assert helped == re.findall("^# TYPE (\\S+)", now.text, re.MULTILINE)


def used_in(text):
    return set(re.findall(r"\bkwsfs_[a-z_]+", text))


def test_alerts_and_dashboard_use_what_is_there(tree, vm, mount):
    names = everything(tree, vm, mount).names
    rules = used_in((DOCS / "prometheus" / "alerts.yml").read_text())
    dashboard = json.loads((DOCS / "grafana" / "kwsfs.json").read_text())
    shown = used_in(json.dumps(dashboard["panels"] + dashboard["templating"]["list"]))
    assert len(rules) > 8 and rules <= names
    assert len(shown) > 12 and shown <= names
    for panel in dashboard["panels"]:
        assert panel["title"] and panel["targets"] and all(t["expr"] for t in panel["targets"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    told = used_in((DOCS / "MONITORING.md").read_text())
    assert len(told) > 2 and all(any(name.startswith(one) for name in names) for one in told)


def test_alert_rules(folder):
    rules = DOCS / "prometheus"
    assert "SUCCESS" in run(PROMTOOL, "check", "rules", rules / "alerts.yml")
    run(PROMTOOL, "test", "rules", "alerts-test.yml", cwd=rules)
    alerts = set(re.findall("alert: (\\w+)", (rules / "alerts.yml").read_text()))
    tested = (rules / "alerts-test.yml").read_text()
    fires = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts", tested))
    silent = set(re.findall(r"alertname: (\w+)\}?\n(?!\s+exp_alerts)", tested))
    assert alerts == fires and alerts <= silent
    told = set(re.findall(r"\bKwsfs\w+", (DOCS / "MONITORING.md").read_text()))
    assert told == alerts


def test_dashboard_queries(folder):
    """promtool reads each as the expression of a rule."""
    dashboard = json.loads((DOCS / "grafana" / "kwsfs.json").read_text())
    rules = [{"record": f"a:{n}", "expr": target["expr"].replace("$__rate_interval", "5m")}
             for panel in dashboard["panels"] for n, target in enumerate(panel["targets"])]
    for number, rule in enumerate(rules):
        rule["record"] = f"panel:query{number}"
    made = folder / "rules.yml"
    made.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(PROMTOOL, "check", "rules", made)
