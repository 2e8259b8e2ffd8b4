# SPDX-License-Identifier: GPL-2.0-or-later
"""Many VMs, many snapshots, many users at a time."""
import concurrent.futures
import errno
import os
import threading

from commands import refused, wait_until

HUNDRED = 100


def test_a_hundred_snapshots(tree, vm):
    """The last one lies on a chain of a hundred layers."""
    vm.start()
    for number in range(HUNDRED):
        vm.write("vda", number, number << 13, 3 << 13)
        tree.mkdir(f"s{number:03}")
    tree.check()
    assert tree.link("s099/parent") == "../s098"
    for name in ("s099", "s050", "s000"):
        tree.rmdir(name)
    tree.check_files()
    vm.stop()
    tree.revert("s049")
    assert f"snapshots {HUNDRED - 3}" in tree.kws("status").splitlines()
    for name in sorted(tree.reference):
        tree.rmdir(name)
    tree.check_files()
    assert len(list(vm.folder.glob("*.qcow2"))) == 2


def test_images_share_their_layers(tree, vm):
    """All open at once need one descriptor for each layer, also while layers come and go."""
    for number in range(10):
        vm.write("vda", number + 1, number << 14, 65536)
        tree.mkdir(f"s{number}")
    tree.rmdir("s9")  # no merge is left to do when the last ones are opened
    files = {name: open(tree / name / "vda.raw", "rb", buffering=0) for name in tree.reference}
    try:
        assert_open_layers(tree.mount.process.pid, 9)
        files.pop("s4").close()
        tree.rmdir_closed("s4")
        tree.sync()
        for name, file in files.items():
            assert file.read() == tree.reference[name]["vda"], name
        tree.check()
    finally:
        for file in files.values():
            file.close()
    tree.check()
    assert_open_layers(tree.mount.process.pid, 0)


def assert_open_layers(pid, wanted):
    fds = f"/proc/{pid}/fd"

    def count():
        files = [os.path.realpath(f"{fds}/{fd}") for fd in os.listdir(fds)]
        return sum(file.removesuffix(" (deleted)").endswith(".qcow2") for file in files)

    wait_until(lambda: count() == wanted, f"{wanted} layers are open")


def life_of(tree, vm, rounds):
    for number in range(rounds):
        vm.write("vda", number + 1, number << 14, 65536)
        tree.mkdir(f"a{number}")
        vm.write("vda", number + 100, number << 14, 4096)
        tree.mkdir(f"b{number}")
        tree.check()
        tree.rmdir(f"a{number}")
        tree.check()
    vm.stop()
    tree.revert("b1")
    tree.check()
    tree.check_files()


def test_vms_in_parallel(mount, new_vm):
    """What is done to one VM is nothing to another, and none waits for it."""
    vms = [new_vm(name) for name in ("web1", "web2", "db")]
    for vm in vms:
        vm.start()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(life_of, mount.of(vm), vm, 5) for vm in vms]:
            done.result()


def test_operations_on_one_vm_at_a_time(tree, vm):
    """Eight who make, rename and delete at once: each gets what was asked for, or an errno."""
    vm.start()

    def user(number):
        for turn in range(4):
            name = f"user {number} turn {turn}"
            (tree / name).mkdir()
            os.rename(tree / name, tree / f"{name} renamed")
            if turn % 2:
                (tree / f"{name} renamed").rmdir()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(user, number) for number in range(8)]:
            done.result()
    content = vm.copy_of_content()
    tree.reference = {f"user {n} turn {t} renamed": content for n in range(8) for t in (0, 2)}
    tree.check()
    tree.check_files()


def test_one_name_for_many(tree, vm):
    """Of those who make the same directory at once, one succeeds."""
    made = []

    def user():
        try:
            (tree / "same").mkdir()
            made.append(True)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=user) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [True]
    tree.reference["same"] = vm.copy_of_content()
    tree.check()
    with refused(errno.EEXIST):
        (tree / "same").mkdir()


def test_readers_while_all_changes(tree, vm):
    """Every byte that a reader gets is right, and it is never more than refused."""
    vm.start()
    vm.write("vda", 1, 0, 2 << 20)
    tree.mkdir("kept")
    wanted = tree.reference["kept"]["vda"]
    stop = threading.Event()
    counts = [0] * 3

    def reader(number):
        while not stop.is_set():
            assert (tree / "kept" / "vda.raw").read_bytes() == wanted
            counts[number] += 1
            assert str(tree / "kept") in {folder for folder, _, _ in os.walk(tree.path)}

    with concurrent.futures.ThreadPoolExecutor() as pool:
        readers = [pool.submit(reader, number) for number in range(3)]
        try:
            for number in range(10):
                vm.write("vda", 2 + number, number << 16, 1 << 16)
                tree.mkdir(f"s{number}")
                if number:
                    tree.rmdir(f"s{number - 1}")
        finally:
            stop.set()
        for done in readers:
            done.result()
    assert min(counts) > 0
    tree.check()
    tree.check_files()


def test_a_vm_with_many_disks(mount, new_vm):
    vm = new_vm(disks={f"vd{letter}": 1 << 20 for letter in "abcdefgh"})
    tree = mount.of(vm)
    vm.start()
    for number, target in enumerate(vm.paths, start=1):
        vm.write(target, number, 0, 4096 * number)
    tree.mkdir("all")
    for number, target in enumerate(vm.paths, start=1):
        vm.write(target, 100 + number, 4096, 4096 * number)
    tree.mkdir("again")
    tree.check()
    tree.rmdir("all")
    tree.check()
    tree.check_files()
