"""The filter of system calls as a program and as a policy, and Landlock's rules, without a kernel."""

from __future__ import annotations

import errno as errors
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.testing import bpf as kernel
from ondol.walls import built, landlock, policy
from ondol.walls.bpf import ALLOW, KILL, When, compile_filter, errno
from ondol.walls.numbers import ARCHITECTURES, numbers

MACHINES = sorted(ARCHITECTURES)
X32 = 0x40000000
I386, ARM = 0x40000003, 0x40000028

LAYERS = {"zygote": policy.zygote, "child": policy.child, "init": policy.init, "function": policy.function}


def of_both(machine, number, arguments):
    """What becomes of a function's call: the zygote's filter is inherited, its own came later."""
    filters, architecture = built.filters(machine), ARCHITECTURES[machine]
    newer = kernel.run(filters.child, architecture, number, arguments)
    return kernel.of_two(newer, kernel.run(filters.zygote, architecture, number, arguments))


def verdict_of(machine, name, *arguments):
    return of_both(machine, numbers(machine)[name], arguments)


def every_number(machine):
    """All that are known, some that are not, and those of the x32 convention."""
    return [*range(max(numbers(machine).values()) + 50), 0x3FFFFFFF, X32, X32 + 101, 0x7FFFFFFF, 0xFFFFFFFF]


def expected(machine, layer):
    """(number, verdict) as the lists have them."""
    known, verdicts = numbers(machine), LAYERS[layer]()
    by_number = {number: verdicts[name] for name, number in known.items() if name in verdicts}
    default, beyond = (ALLOW, ALLOW) if layer == "child" else (policy.default(), policy.beyond())
    return [(n, by_number.get(n, default if n <= max(known.values()) else beyond)) for n in every_number(machine)]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("layer", LAYERS)
def test_every_number_gets_what_the_list_says(machine, layer):
    program = getattr(built.filters(machine), layer)
    for number, verdict in expected(machine, layer):
        for arguments in itertools.product(*(kernel.words(verdict, place) for place in range(3))):
            got = kernel.run(program, ARCHITECTURES[machine], number, arguments)
            assert got == kernel.meant(verdict, arguments), (number, arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_zygotes_and_a_childs_filter_together_are_the_functions(machine):
    for number, verdict in expected(machine, "function"):
        for arguments in itertools.product(*(kernel.words(verdict, place) for place in range(3))):
            assert of_both(machine, number, arguments) == kernel.meant(verdict, arguments), (number, arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("layer", LAYERS)
def test_another_architectures_calls_kill(machine, layer):
    program = getattr(built.filters(machine), layer)
    others = {I386, ARM, *ARCHITECTURES.values()} - {ARCHITECTURES[machine]}
    assert {kernel.run(program, other, number) for other in others for number in (0, 1, 57, 500)} == {KILL}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "name",
    [
        *("mount", "umount2", "pivot_root", "chroot", "setns", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount"),
        *("mount_setattr", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "bpf", "perf_event_open"),
        *("userfaultfd", "keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register"),
        *("open_by_handle_at", "init_module", "finit_module", "kexec_load", "reboot", "syslog", "swapon", "acct", "vmsplice"),
        *("settimeofday", "clock_settime", "adjtimex", "sethostname", "quotactl", "mbind", "move_pages", "fanotify_init"),
    ],
)
def test_what_is_the_keepers_or_the_machines_is_not_permitted(machine, name):
    assert verdict_of(machine, name) == errno(errors.EPERM)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["clone3", "seccomp", "landlock_restrict_self", "memfd_secret", "io_setup", "listmount"])
def test_what_libraries_probe_for_is_as_if_it_were_not_there(machine, name):
    assert verdict_of(machine, name) == errno(errors.ENOSYS)


SIGCHLD, THREAD = 0x11, 0x3D0F00
RULED = [
    ("clone", (SIGCHLD,), ALLOW),
    ("clone", (THREAD,), ALLOW),
    *(("clone", (flag | SIGCHLD,), errno(errors.EPERM)) for flag in (0x20000, *(1 << bit for bit in range(25, 31)))),
    ("unshare", (0x400,), ALLOW),
    *(("unshare", (flag,), errno(errors.EPERM)) for flag in (0x80, 0x20000, *(1 << bit for bit in range(25, 31)))),
    ("socket", (1, 1, 0), ALLOW),
    ("socket", (1, 5, 0), ALLOW),
    ("socket", (2, 1 | 0x80800, 6), ALLOW),
    ("socket", (10, 2 | 0x80000, 0), ALLOW),
    ("socket", (10, 2, 58), ALLOW),
    ("socket", (16, 3 | 0x80000, 0), ALLOW),
    ("socket", (16, 3, 12), errno(errors.EPROTONOSUPPORT)),
    ("socket", (2, 3, 1), errno(errors.EPERM)),
    ("socket", (10, 3 | 0x800, 255), errno(errors.EPERM)),
    ("socket", (2, 5, 132), errno(errors.ESOCKTNOSUPPORT)),
    ("socket", (2, 1, 132), errno(errors.EPROTONOSUPPORT)),
    ("socket", (2, 1, 262), errno(errors.EPROTONOSUPPORT)),
    *(("socket", (family, 3, 0), errno(errors.EAFNOSUPPORT)) for family in (15, 17, 29, 31, 38, 40, 44)),
    ("socket", (1 << 32 | 17, 3, 0), errno(errors.EAFNOSUPPORT)),
    ("socketpair", (1, 1, 0), ALLOW),
    ("socketpair", (30, 1, 0), errno(errors.EAFNOSUPPORT)),
    ("setsockopt", (3, 1, 2), ALLOW),
    ("setsockopt", (3, 1, 26), errno(errors.EPERM)),
    ("setsockopt", (3, 6, 26), ALLOW),
    ("setsockopt", (3, 6, 31), errno(errors.ENOPROTOOPT)),
    ("ioctl", (0, 0x5401), ALLOW),
    ("ioctl", (0, 0x5412), errno(errors.EPERM)),
    ("ioctl", (0, 1 << 32 | 0x5412), errno(errors.EPERM)),
    ("ioctl", (0, 0x541C), errno(errors.EPERM)),
    ("personality", (0xFFFFFFFF,), ALLOW),
    ("personality", (0x40000,), errno(errors.EPERM)),
    ("prctl", (15,), ALLOW),
    ("prctl", (22, 2), errno(errors.EINVAL)),
    ("prctl", (35, 1), errno(errors.EINVAL)),
    ("mknodat", (0, 0, 0o010644), ALLOW),
    ("mknodat", (0, 0, 0o020666), errno(errors.EPERM)),
    ("mknodat", (0, 0, 0o060666), errno(errors.EPERM)),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "arguments", "verdict"), RULED)
def test_some_calls_are_allowed_with_some_arguments_only(machine, name, arguments, verdict):
    assert verdict_of(machine, name, *arguments) == verdict


@pytest.mark.parametrize("machine", MACHINES)
def test_a_zygote_enters_what_a_shell_has_and_no_user_namespace(machine):
    program, number = built.filters(machine).zygote, numbers(machine)["setns"]
    verdicts = {flag: kernel.run(program, ARCHITECTURES[machine], number, (3, flag)) for flag in (0, 0x20000, 0x10000000)}
    assert verdicts == {0: errno(errors.EPERM), 0x20000: ALLOW, 0x10000000: errno(errors.EPERM)}


@pytest.mark.parametrize("machine", MACHINES)
def test_an_init_makes_neither_processes_nor_sockets_nor_files(machine):
    program, known = built.filters(machine).init, numbers(machine)
    for name in ("clone", "socket", "unlinkat", "mkdirat", "kill", "ptrace", "memfd_create", "setns"):
        assert kernel.run(program, ARCHITECTURES[machine], known[name]) == errno(errors.EPERM), name


@pytest.mark.parametrize("machine", MACHINES)
def test_lists_name_only_what_there_is(machine):
    everywhere = {name for each in MACHINES for name in numbers(each)}
    assert not {name for layer in LAYERS.values() for name in layer()} - everywhere
    assert len(numbers(machine)) == len(set(numbers(machine).values()))


def test_numbers_are_the_kernels():
    """A few of each machine's, by hand: one word too many in the list would move all that follow."""
    x86, arm = numbers("x86_64"), numbers("aarch64")
    names = ("read", "clone", "prctl", "openat", "seccomp", "rseq", "landlock_restrict_self", "mseal")
    assert [x86[name] for name in names] == [0, 56, 157, 257, 317, 334, 446, 462]
    assert [arm[name] for name in names] == [63, 220, 167, 56, 277, 293, 446, 462]


@pytest.mark.parametrize("machine", MACHINES)
def test_filters_stay_small(machine):
    """The kernel walks a filter for each call that it has not learnt is allowed, and keeps a child's for as long as it lives."""
    filters = built.filters(machine)
    assert len(filters.child) <= 8 * 24
    assert len(filters.zygote) <= 8 * 400


def test_a_machine_without_a_list_gets_no_filter():
    with pytest.raises(built.NoWalls, match=r"no filter of system calls is known for riscv64"):
        built.build("riscv64")


_LEAVES = st.sampled_from([ALLOW, KILL, errno(1), errno(38)])
_VERDICTS = st.recursive(
    _LEAVES,
    lambda inner: st.builds(
        When,
        argument=st.integers(0, 5),
        values=st.lists(st.integers(0, 7), min_size=1, max_size=4, unique=True).map(tuple),
        then=inner,
        otherwise=inner,
        mask=st.sampled_from([0xFFFFFFFF, 3, 6]),
    ),
    max_leaves=6,
)


@given(
    verdicts=st.dictionaries(st.integers(0, 300), _VERDICTS, min_size=1, max_size=120),
    default=_LEAVES,
    beyond=_LEAVES,
    arguments=st.lists(st.integers(0, 9) | st.integers(0, 2**64 - 1), min_size=6, max_size=6),
)
def test_any_list_compiles_to_what_it_says(verdicts, default, beyond, arguments):
    program = compile_filter(7, verdicts, default, beyond)
    for number in range(302):
        verdict = verdicts.get(number, default if number <= max(verdicts) else beyond)
        assert kernel.run(program, 7, number, arguments) == kernel.meant(verdict, arguments)


def test_a_list_too_long_for_the_kernel_is_refused():
    rule = When(0, tuple(range(200)), ALLOW, KILL)
    rules = {2 * number: When(0, (number,), rule, KILL) for number in range(40)}
    with pytest.raises(ValueError, match="at most 4096"):
        compile_filter(7, rules, ALLOW, ALLOW)


@pytest.mark.parametrize("abi", [0, 1])
def test_a_landlock_that_would_break_moving_files_is_not_used(abi):
    assert landlock.function(abi) is landlock.init(abi) is None


@pytest.mark.parametrize(("abi", "handled", "scoped", "flags"), [(2, 14, 0, 0), (3, 15, 0, 0), (4, 15, 0, 0), (5, 16, 0, 0), (6, 16, 3, 0), (7, 16, 3, 1), (99, 16, 3, 1)])  # fmt: skip
def test_landlock_is_asked_for_what_its_version_knows(abi, handled, scoped, flags):
    rules = landlock.function(abi)
    assert (rules.handled, rules.scoped, rules.flags) == ((1 << handled) - 1, scoped, flags)
    assert all(rights & ~rules.handled == 0 for _, rights in rules.paths)


def test_landlock_lets_write_only_what_is_the_functions_own():
    writing = landlock.WRITE_FILE | landlock.MAKE_REG | landlock.REMOVE_FILE
    rules = landlock.function(7)
    assert [path for path, rights in rules.paths if rights & writing == writing] == ["/tmp", "/dev/shm"]
    assert not any(rights & (landlock.MAKE_CHAR | landlock.MAKE_BLOCK) for _, rights in rules.paths)
    assert [rights for _, rights in landlock.init(7).paths] == [landlock.EXECUTE | landlock.READ_FILE | landlock.READ_DIR]
