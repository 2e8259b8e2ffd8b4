# SPDX-License-Identifier: GPL-2.0-or-later
"""dashboard.html: what it says, seen by a real browser, and what names of others do to it."""
import base64
import errno
import os
import re
import stat
import subprocess

import html5lib
import pytest
from selenium.webdriver.common.keys import Keys

from browser import Browser
from commands import refused, run, try_run, wait_until
from disturb import disturbed
from kwsmount import BUILD

MIB = 1 << 20
XHTML = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture(scope="module")
def browser():
    opened = Browser()
    try:
        yield opened
    finally:
        opened.quit()


@pytest.fixture
def korean():
    opened = Browser("ko-KR")
    try:
        yield opened
    finally:
        opened.quit()


@pytest.fixture
def page(mount):
    return mount.point / "dashboard.html"


@pytest.fixture
def branches(tree, vm):
    """base - one - two, reverted to one, three on it; base is pinned, and described."""
    for number, name in enumerate(["base", "one", "two"], start=1):
        vm.write("vda", number, number << 16, 65536 * number)
        tree.mkdir(name)
    (tree / "base" / "pin").write_text("1")
    (tree / "base" / "description").write_text("before all & everything")
    tree.revert("one")
    vm.start()
    tree.mkdir("three")
    return tree


def fresh(page):
    """The page is kept for a moment: one that was made from now on."""
    before = page.stat().st_mtime_ns
    wait_until(lambda: page.stat().st_mtime_ns != before, "it is made anew")
    return page


def open_when(browser, page, shown):
    """Files are measured, and orphans looked for, in the background."""
    wait_until(lambda: shown in browser.open(fresh(page)).text(), f"it shows '{shown}'")


def is_valid(text):
    """By the rules of HTML's parser, which knows of each of its errors."""
    parser = html5lib.HTMLParser(strict=True)
    return parser.parse(text)


def rows(browser, vm="details.vm"):
    """{snapshot: texts of its cells}, in the page's order."""
    found = browser.driver.find_elements("css selector", f"{vm} tbody tr:not(.more)")
    return {row.find_element("css selector", "th").text:
            [cell.text for cell in row.find_elements("css selector", "td")[1:]] for row in found}


def tiles(browser):
    return dict(text.split("\n")[:2] for text in browser.texts(".tiles > div"))


def held_by(vm, snapshot):
    return sum(os.stat(path).st_blocks * 512 for path in vm.snapshot_layers()[snapshot].values())


def in_words(size):
    for unit in "B", "KiB", "MiB", "GiB", "TiB":
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" and size < 9.95 else f"{size:.0f} {unit}"
        size /= 1024
    raise AssertionError(size)


def renamed(vm, name):
    """libvirt takes nearly any name."""
    vm.virsh("domrename", vm.name, name)
    vm.name = name
    return vm


# ---- what it says ----

def test_it_says_what_is(branches, vm, page, browser):
    open_when(browser, page, "depth 4 / 128")
    assert tiles(browser)["VMs"] == "1" and tiles(browser)["Snapshots"] == "4"
    assert tiles(browser)["libvirt"] == "connected" and tiles(browser)["Running jobs"] == "0"
    assert "1 running" in browser.text(".tiles")
    line = browser.text("details.vm summary")
    assert "web1" in line and "running" in line and "4 snapshots" in line and "depth 4 / 128" in line
    table = rows(browser)
    assert list(table) == ["the VM now", "three current on one", "two", "one",
                           "base pinned"]
    for name, cells in list(table.items())[1:]:
        name = name.split()[0]
        assert cells[2] == in_words(held_by(vm, name)), name
        assert cells[3] == ("crash" if name == "three" else "offline")
        assert cells[4] == ("before all & everything" if name == "base" else "")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", cells[0])
        assert re.fullmatch(r"\d+ (s|min)", cells[1])
    assert "Nothing was refused" in browser.text("section[aria-labelledby=errors]")
    assert browser.console() == [] and browser.requests() == [f"file://{page}"]


def test_the_tree_is_drawn(branches, page, browser):
    browser.open(fresh(page))
    drawn = browser.js("""
        return [...document.querySelectorAll('tbody tr')].map((row) => ({
            dot: row.querySelector('circle').getAttribute('cx'),
            cls: row.querySelector('circle').getAttribute('class'),
            lines: [...row.querySelectorAll('line')].map((l) => [
                l.getAttribute('x1'), l.getAttribute('x2')])}))""")
    now, three, two, one, base = drawn
    assert now["dot"] == three["dot"] == one["dot"] == base["dot"] == "8"
    assert two["dot"] == "22"  # beside the way to the VM
    assert ["22", "8"] in one["lines"] and ["8", "8"] in two["lines"]
    assert (now["cls"], three["cls"], two["cls"], base["cls"]) == ("o", "c", None, "p")


def test_how_deep_and_how_much_room(branches, page, browser):
    (branches / ".kws" / "max_depth").write_text("4")
    open_when(browser, page, "depth 4 / 4")
    assert browser.js("return document.querySelector('.depth .bar').classList.contains('a')")
    space = browser.text("section[aria-labelledby=space]")
    total = os.statvfs(branches.vm.folder)
    assert f"/ {in_words(total.f_blocks * total.f_frsize)}" in space
    assert "not known yet" in space
    (shown,) = browser.texts(".spaces code")
    assert run("stat", "-c", "%d", shown) == run("stat", "-c", "%d", branches.vm.folder)
    assert shown == "/" or run("stat", "-c", "%d", shown) != run("stat", "-c", "%d", f"{shown}/..")


def test_errors_and_orphans(branches, page, browser):
    with refused(errno.EINVAL):
        (branches / ".kws" / "quiesce").write_text("perhaps")
    browser.open(fresh(page))
    assert "not 'perhaps'" in browser.text("section[aria-labelledby=errors]")
    assert "not 'perhaps'" in browser.text("details.vm .facts")
    open_when(browser, page, "Orphans\n0\nin lost+found")


def test_what_is_planned(branches, page, mount, browser):
    """And what went wrong with it that is about no VM."""
    browser.open(fresh(page))
    assert "Next" not in browser.text(".facts") and "expire" not in browser.text(".facts")
    (branches / "two" / "expires").write_text("2099-12-24T18:00:00Z")
    (branches / ".kws" / "ttl").write_text("5y")
    (branches / ".kws" / "schedule").write_text("2098-01-01 00:00 UTC")
    with refused(errno.EINVAL):
        (mount.point / "snapshots" / ".kws" / "ttl").write_text("soon")
    branches.sync()  # it is planned after the writes have returned
    browser.open(fresh(page))
    assert "two until 2099-12-24" in rows(browser)
    facts = browser.text(".facts")
    assert "Snapshots expire after\n5y" in facts and "Next snapshot\n2098-01-01 00:00 UTC" in facts
    assert re.search(r"Next pruning\n20\d\d-", facts)
    assert re.search("snapshots\n.*soon", browser.text("section[aria-labelledby=errors]"))


def table(browser, section):
    """{first cell of a row: its other cells}"""
    rows_of = browser.driver.find_elements("css selector", f"section[aria-labelledby={section}] tbody tr")
    return {row.find_element("css selector", "th").text:
            [cell.text for cell in row.find_elements("css selector", "td")] for row in rows_of}


def test_pools(branches, page, mount, browser, libvirtd):
    browser.open(fresh(page))
    assert browser.texts("section[aria-labelledby=pools]") == []
    link, gold = mount.point / "pool" / "web <b>", mount.point / "pool" / "gold"
    try:
        gold.symlink_to("../snapshots/web1/one/clones")
        link.symlink_to("../snapshots/web1/base/clones")
        (link / "web-01").mkdir()
        run("ln", "-sfn", "../snapshots/web1/two/clones", link)
        (link / "web-02").mkdir()
        (link / "web-03").mkdir()
        open_when(browser, page, "Pools")
        assert table(browser, "pools") == {"gold": ["0 / 0", "0", "0", "web1/one"],
                                           "web <b>": ["0 / 0", "2", "1", "web1/two"]}
        (link / ".kws" / "spare").write_text("1\n")
        wait_until(lambda: "spares 1 of 1" in (link / ".kws" / "status").read_text(), "a spare")
        browser.open(fresh(page))
        assert table(browser, "pools")["web <b>"] == ["1 / 1", "2", "1", "web1/two"]
        is_valid(page.read_text())
    finally:
        if link.is_dir():
            (link / ".kws" / "spare").write_text("0\n")
            wait_until(lambda: "-spare-" not in libvirtd.virsh("list", "--all", "--name"), "no spares")
        for clone in [*branches.path.glob("*/clones/web-*")]:
            clone.rmdir()
        for path in link, gold:
            path.unlink(missing_ok=True)


def test_who_would_take_whose_place(mount, new_vm, page, browser):
    features = {"one": "language C", "two & co": "language C", "three": "language Rust", "four": None}
    for name, text in features.items():
        vm = new_vm() if name == "two & co" else new_vm(name)
        if name == "two & co":
            renamed(vm, name)
        folder = mount.point / "recovery" / name
        wait_until(folder.exists, "it is seen")
        if text:
            (folder / "features").write_text(f"{text}\n")
    browser.open(fresh(page))
    nobody = ["", "Nobody who may be used is similar enough."]
    shown = table(browser, "recovery")
    assert shown == {"three": nobody, "one": ["1.000", "two & co", "it is started"],
                     "two & co": ["1.000", "one", "it is started"]}
    assert list(shown) == ["three", "one", "two & co"]  # whoever is the worst off is first
    is_valid(page.read_text())
    (mount.point / "recovery" / "policy").write_text("clone\n")
    (mount.point / "snapshots" / "one" / "golden").mkdir()
    browser.open(fresh(page))
    assert table(browser, "recovery") == {"one": nobody, "three": nobody,
                                          "two & co": ["1.000", "one", "a clone of it is started"]}
    names = browser.names("table", "columnheader", "rowheader")
    assert ("table", "Recovery") in names and ("rowheader", "three") in names
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.console() == []


def test_a_running_job_and_a_failed_one(mount, new_vm, page, browser):
    tree = mount.of(new_vm("web1", {"vda": 64 * MIB}))
    tree.vm.write("vda", 1, 0, 4 * MIB)
    tree.mkdir("s1")
    tree.vm.write("vda", 2, 0, 55 * MIB)
    tree.start_quietly()
    with disturbed(tree.vm.qemu, "pwrite64:delay_exit=200ms"):
        tree.rmdir("s1")
        (job,) = wait_until(lambda: os.listdir(tree / ".kws" / "jobs"), "a job runs")
        wait_until(lambda: "done" in tree.kws("status"), "it tells how far it is")
        browser.open(fresh(page))
        assert tiles(browser)["Running jobs"] == "1"
        assert "web1" in browser.text("section[aria-labelledby=jobs]")
        assert "disk vda" in browser.text("section[aria-labelledby=jobs]")
        total = browser.js("return document.querySelector('#jobs + ul progress').max")
        assert 50 * MIB < total <= 64 * MIB
        (tree / ".kws" / "jobs" / job / "cancel").write_text("1\n")
        with refused(errno.ECANCELED):
            tree.sync()
    browser.open(fresh(page))
    assert "canceled" in browser.text("section[aria-labelledby=errors]")
    assert "its last merge failed" in browser.text("details.vm summary")
    assert "1 failed" in browser.text(".tiles")
    assert f"tombstones {tiles(browser)['Tombstones']}\n" in tree.kws("status")


def test_no_snapshots_and_no_vms(mount, new_vm, page, browser):
    browser.open(page)
    assert "no VMs here" in browser.text("main") and not browser.shows("#tools")
    vm = renamed(new_vm(), "it's; reboot")
    tree = mount.of(vm)
    browser.open(fresh(page))
    command = browser.text("details.vm code")
    assert run("sh", "-c", command.replace("mkdir", "printf %s")) == f"{tree.path}/NAME"


# ---- names of others ----

HOSTILE_VM = "<img src=x onerror=document.title='hacked'> & \"q\" '--> 한글"
HOSTILE = ["<script>document.title='hacked'<\\script>", "\" onmouseover=\"document.title='hacked'",
           "'--><svg onload=document.title='hacked'>", "\u202egpj.exe\u2066", "a" * 240, "e\u0301" * 60,
           "&lt;b&gt;", "{{7*7}} %s %n $x", "<\u200b!-- ]]> <![CDATA["]
HOSTILE_TEXT = "</td></table></details><script>document.title='hacked'</script><!--"


@pytest.fixture
def hostile(mount, new_vm):
    tree = mount.of(renamed(new_vm(), HOSTILE_VM))
    for number, name in enumerate(HOSTILE):
        tree.vm.write("vda", number + 1, number << 16, 65536)
        tree.mkdir(name)
    (tree / HOSTILE[0] / "description").write_text(HOSTILE_TEXT)
    (tree / HOSTILE[1] / "description").write_text("long " * 790)
    with refused(errno.EINVAL):
        (tree / ".kws" / "quiesce").write_text(HOSTILE_TEXT)
    return tree


def test_hostile_names_are_text(hostile, page, browser):
    text = fresh(page).read_text()
    is_valid(text)
    browser.open(page)
    title = browser.driver.title
    assert title == f"kwsfs: {os.uname().nodename}" and browser.console() == []
    assert browser.requests() == [f"file://{page}"]
    assert browser.js("return document.scripts.length") == 1
    assert browser.js("return document.querySelectorAll('img, [onload], [onerror]').length") == 0
    names = browser.js("return [...document.querySelectorAll('tbody th > bdi')]"
                       ".map((e) => e.textContent)")
    shown = [name.replace("\u202e", "[U+202E]").replace("\u2066", "[U+2066]") for name in HOSTILE]
    shown = [name if len(name) <= 80 else name[:80] + "…" for name in shown]
    assert names == shown[::-1]
    assert browser.js("return document.querySelector('h3').textContent") == HOSTILE_VM
    assert HOSTILE_TEXT in browser.text("section[aria-labelledby=errors]")
    assert HOSTILE_TEXT in browser.text("table")
    assert max(len(cell) for cell in browser.texts("td")) <= 301
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth")
    # A script that had got in all the same could not run.
    browser.js("const e = document.createElement('b');"
               "e.innerHTML = '<b onclick=\"document.title = 1\">x</b>';"
               "document.body.append(e); e.firstChild.click()")
    assert browser.driver.title == title
    assert any("Content Security Policy" in entry["message"] for entry in browser.console())


# ---- readers of all kinds ----

def test_languages(branches, page, browser, korean):
    english, other = browser.open(fresh(page)), korean.open(page)
    assert english.js("return document.documentElement.lang") == "en"
    assert other.js("return document.documentElement.lang") == "ko"
    assert "Snapshots" in english.text() and not re.search("[가-힣]", english.text("main"))
    assert "스냅샷" in other.text() and "Snapshots" not in other.text()
    assert list(rows(other))[1] == "three 현재 one 위"
    other.driver.find_element("css selector", "label[for=en]").click()
    assert other.js("return document.documentElement.lang") == "en"
    assert "Snapshots" in other.text() and "스냅샷" not in other.text("main")
    # Whoever reads Korean sees it, not boxes: some font has it.
    assert run("fc-list", ":lang=ko", "family").strip()


def test_without_scripts(branches, page, browser):
    browser.scripts(allowed=False)
    try:
        browser.open(fresh(page))
        assert "Find a VM" not in browser.text()
        assert "three" in browser.text("table")
        browser.driver.find_element("css selector", "label[for=ko]").click()
        assert "지금의 가상 머신" in browser.text("table") and "the VM now" not in browser.text()
        browser.driver.find_element("css selector", "details.vm summary").click()
        assert not browser.shows("details.vm table")
    finally:
        browser.scripts(allowed=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(hostile, page, browser, scheme):
    """Both are there, and each text stands out from what is behind it."""
    (hostile / "s").mkdir()
    browser.open(fresh(page))
    browser.prefer(scheme)
    ground = browser.js("return getComputedStyle(document.documentElement).backgroundColor")
    assert (int(re.search(r"\d+", ground)[0]) < 60) == (scheme == "dark")
    contrasts = browser.contrasts()
    assert len(contrasts) > 50 and contrasts[0][0] >= 4.5, contrasts[:5]


def test_by_keyboard(branches, page, browser):
    browser.open(fresh(page))
    seen = []
    for _ in range(12):
        browser.press(Keys.TAB)
        name, ident, is_seen = browser.focused()
        if name == "body":
            break
        assert is_seen, (name, ident)
        seen.append(ident or name)
    assert seen == ["en", "find", "open", "close", "summary", "div", "summary"]
    browser.open(page)
    browser.press([Keys.TAB, Keys.ARROW_RIGHT])
    assert "스냅샷" in browser.text() and browser.js("return document.documentElement.lang") == "ko"
    browser.press(Keys.TAB * 4 + Keys.ENTER)
    assert not browser.shows("details.vm table")
    browser.press(Keys.ENTER)
    assert browser.shows("details.vm table")


def test_for_readers_of_the_screen(branches, page, browser):
    with refused(errno.EINVAL):
        (branches / ".kws" / "quiesce").write_text("perhaps")
    browser.open(fresh(page))
    for role, name in browser.names("link", "button", "radio", "searchbox", "textbox", "heading",
                                    "region", "table", "columnheader", "rowheader"):
        assert name, role
    assert ("group", "web1") in browser.names("group")  # what can be scrolled
    for kind in "banner", "main", "contentinfo":
        assert len(browser.names(kind)) == 1
    assert ("heading", "web1") in browser.names("heading")
    (name,) = [name for _, name in browser.names("table")]
    assert name.startswith("Snapshots of web1")
    assert ("rowheader", "three current on one") in browser.names("rowheader")
    assert browser.names("image", "graphics-document") == []
    levels = browser.js("return [...document.querySelectorAll('h1, h2, h3')].map((h) => +h.localName[1])")
    assert levels[0] == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:]))
    ids = browser.js("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_on_paper(branches, page, browser, folder):
    browser.open(fresh(page))
    (folder / "page.pdf").write_bytes(base64.b64decode(browser.driver.print_page()))
    text = run("pdftotext", "-layout", folder / "page.pdf", "-")
    for name in "web1", "base", "one", "two", "three", "before all & everything":
        assert name in text
    assert "Find a VM" not in text


def test_narrow(branches, page, browser):
    browser.driver.set_window_size(500, 900)
    try:
        browser.cdp("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1,
                    mobile=False)
        browser.open(fresh(page))
        assert browser.js("return document.documentElement.scrollWidth") <= 360
    finally:
        browser.cdp("Emulation.clearDeviceMetricsOverride")
        browser.driver.set_window_size(1280, 1000)


# ---- the file ----

def test_it_is_the_owners(mount, page):
    st = page.stat()
    assert stat.S_IMODE(st.st_mode) == 0o400 and (st.st_uid, st.st_gid) == (0, 0)
    denied = try_run("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "cat", page)
    assert denied.returncode and "Permission denied" in denied.stderr
    with refused(errno.EROFS, errno.EACCES):
        page.write_text("x")


def test_copies_are_whole(branches, page, browser, folder):
    """Each is made of a page that is kept for long enough."""
    run("cp", fresh(page), folder / "copy.html")
    assert (folder / "copy.html").stat().st_size == page.stat().st_size
    run("tar", "-C", fresh(page).parent, "-cf", folder / "tar", "dashboard.html")
    run("rsync", "-a", fresh(page), folder / "synced.html")
    assert (folder / "copy.html").read_text().endswith("</html>\n")
    is_valid((folder / "synced.html").read_text())
    browser.open(folder / "copy.html")
    assert "three" in browser.text("table") and browser.console() == []
    vm = browser.js("return document.querySelector('details.vm').id")
    browser.js("document.querySelector('details.vm').open = false")
    browser.js("location.hash = arguments[0]", vm)
    wait_until(lambda: browser.js("return document.querySelector('details.vm').open"), "it opens")


def test_it_is_there_while_libvirt_is_not(branches, page, libvirtd, browser):
    libvirtd.terminate()
    try:
        browser.open(fresh(page))
        wait_until(lambda: tiles(browser.open(fresh(page)))["libvirt"] == "gone", "it is seen")
        assert "three" in browser.text("table")
    finally:
        libvirtd.start()


# ---- many ----

def test_a_thousand_vms(browser, folder):
    """Of which not all snapshots are listed, and that is said."""
    many = folder / "many.html"
    with open(many, "wb") as out:
        subprocess.run([BUILD / "tests" / "lib" / "draw-dashboard", "1000", "100"], stdout=out, check=True,
                       stderr=subprocess.DEVNULL)
    assert many.stat().st_size < 10 * MIB
    browser.open(many)
    assert tiles(browser)["VMs"] == "1000" and tiles(browser)["Snapshots"] == "100000"
    assert browser.console() == []
    browser.driver.find_element("id", "find").send_keys("web77")
    shown = [name for name in browser.texts("details.vm:not([hidden]) h3")]
    assert shown == ["web77"] + [f"web77{i}" for i in range(10)]
    assert browser.text("#found") == "11 / 1000"
    browser.driver.find_element("css selector", "#vm77 summary").click()
    listed = rows(browser, "#vm77")
    assert len(browser.driver.find_elements("css selector", "#vm77 tbody tr")) == 12
    assert "nightly-090" in " ".join(listed) and "nightly-089" not in " ".join(listed)
    assert "90 older ones are not listed here" in browser.text("#vm77 table")


def test_all_of_a_few(browser, folder):
    """Of a hundred VMs all hundred snapshots are there."""
    many = folder / "many.html"
    with open(many, "wb") as out:
        subprocess.run([BUILD / "tests" / "lib" / "draw-dashboard", "100", "100"], stdout=out, check=True,
                       stderr=subprocess.DEVNULL)
    is_valid(many.read_text())
    assert len(re.findall("<th scope=row><bdi>nightly-", many.read_text())) == 100 * 100
    assert many.stat().st_size < 450 * 100 * 100
