"""Which system calls a sandbox may not make, as one table; `seccomp` turns it into a filter. x86-64 numbers.

A deny list on top of namespaces without capabilities: it takes away the kernel's rarely used and often broken
parts, everything that reaches into pid 1 (the supervisor has the same uid as user code), and everything that
could make new namespaces. Numbers are those of Linux's `arch/x86/entry/syscalls/syscall_64.tbl`.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Literal, NamedTuple

LAST_KNOWN = 469
"""Newer calls answer ENOSYS, as on the kernel this table was made for: programs then use the older ones."""

DENIED: Mapping[str, int] = {
    # keyrings are shared with whoever started us; bpf, perf and friends are kernel attack surface
    "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321, "perf_event_open": 298,
    "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "fanotify_init": 300, "fanotify_mark": 301, "lookup_dcookie": 212, "memfd_secret": 447,
    "uretprobe": 335, "uprobe": 336, "lsm_get_self_attr": 459, "lsm_set_self_attr": 460, "lsm_list_modules": 461,
    # the kernel counts these per user of the host: a sandbox could use up what his editor and desktop need
    "inotify_init": 253, "inotify_init1": 294,
    # other processes
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_getfd": 438, "kcmp": 312,
    "process_madvise": 440, "process_mrelease": 448,
    # a page in a pipe that other forks of the same process still share: they wrote into it on older kernels
    "vmsplice": 278,
    # mounts, roots, namespaces, handles that bypass paths
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "setns": 308, "unshare": 272,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "statmount": 457, "listmount": 458, "open_tree_attr": 467,
    "name_to_handle_at": 303, "open_by_handle_at": 304,
    # the machine: modules, kexec, clock, names, accounting, quota, swap, ports, log
    "init_module": 175, "finit_module": 313, "delete_module": 176, "create_module": 174,
    "get_kernel_syms": 177, "query_module": 178, "kexec_load": 246, "kexec_file_load": 320, "reboot": 169,
    "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "sethostname": 170,
    "setdomainname": 171, "acct": 163, "quotactl": 179, "quotactl_fd": 443, "swapon": 167, "swapoff": 168,
    "iopl": 172, "ioperm": 173, "modify_ldt": 154, "syslog": 103, "vhangup": 153, "uselib": 134,
    "ustat": 136, "sysfs": 139, "_sysctl": 156, "nfsservctl": 180, "cachestat": 451,
}  # fmt: skip


class Test(NamedTuple):
    """Compares the low 32 bits of one argument: the kernel ignores the rest of an int."""

    argument: int
    op: Literal["equals", "differs", "has", "outside"]
    value: int | tuple[int, ...]


class Rule(NamedTuple):
    """Denies a call with `error` when all tests of any alternative hold; no alternatives: always."""

    number: int
    error: int
    alternatives: tuple[tuple[Test, ...], ...] = ()


_PID_1 = Test(0, "equals", 1)
_ALL = Test(0, "equals", 0xFFFFFFFF)  # kill(-1)
_CLONE_NEW = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_PLAIN_PROTOCOLS = (0, 1, 6, 17, 58)  # default, ICMP, TCP, UDP, ICMPv6: no SCTP, DCCP, MPTCP, SMC
_LEASE, _NOTIFY = (
    1024,
    1026,
)  # on a file that it shares with others, who would wait 45 s to open it, or be watched
_TTY = (0x5412, 0x541C, 0x541D, 0x5423)  # TIOCSTI types for us, TIOCLINUX, TIOCCONS, TIOCSETD loads drivers


def _about_pid_1(number: int, *more: tuple[Test, ...]) -> Rule:
    return Rule(number, errno.EPERM, ((_PID_1,), *more))


RULES: tuple[Rule, ...] = (
    *(Rule(number, errno.EPERM) for number in DENIED.values()),
    Rule(435, errno.ENOSYS),  # clone3: its flags lie in memory, where no filter can see them
    Rule(56, errno.EPERM, ((Test(0, "has", _CLONE_NEW),),)),  # clone
    _about_pid_1(62, (_ALL,)),  # kill
    _about_pid_1(200),  # tkill
    _about_pid_1(234, (Test(1, "equals", 1),)),  # tgkill
    _about_pid_1(129, (_ALL,)),  # rt_sigqueueinfo
    _about_pid_1(297, (Test(1, "equals", 1),)),  # rt_tgsigqueueinfo
    _about_pid_1(302),  # prlimit64: a CPU limit of 0 kills even pid 1
    _about_pid_1(142),  # sched_setparam
    _about_pid_1(144),  # sched_setscheduler
    _about_pid_1(203),  # sched_setaffinity
    _about_pid_1(314),  # sched_setattr
    _about_pid_1(256),  # migrate_pages
    _about_pid_1(279),  # move_pages
    _about_pid_1(434),  # pidfd_open
    # by process or group number 1, or by user: that is pid 1 as well
    Rule(141, errno.EPERM, ((Test(1, "equals", 1),), (Test(0, "equals", 2),))),  # setpriority
    Rule(251, errno.EPERM, ((Test(1, "equals", 1),), (Test(0, "equals", 3),))),  # ioprio_set
    Rule(16, errno.EPERM, tuple((Test(1, "equals", request),) for request in _TTY)),  # ioctl
    Rule(72, errno.EPERM, tuple((Test(1, "equals", command),) for command in (_LEASE, _NOTIFY))),  # fcntl
    Rule(135, errno.EPERM, ((Test(0, "outside", (0, 0xFFFFFFFF)),),)),  # personality: keep or ask
    Rule(
        41,  # socket
        errno.EAFNOSUPPORT,
        (
            (Test(0, "outside", (_UNIX, _INET, _INET6, _NETLINK)),),
            (Test(0, "equals", _NETLINK), Test(2, "differs", 0)),  # only NETLINK_ROUTE
            (Test(0, "equals", _INET), Test(2, "outside", _PLAIN_PROTOCOLS)),
            (Test(0, "equals", _INET6), Test(2, "outside", _PLAIN_PROTOCOLS)),
        ),
    ),
    Rule(53, errno.EAFNOSUPPORT, ((Test(0, "outside", (_UNIX,)),),)),  # socketpair
)
