"""Tries a way out for functions as gateways make it: devices and a firewall table, in namespaces that are gone at once."""

from __future__ import annotations

import os
from collections.abc import Callable

from ondol import syscalls
from ondol.keeper import gateways, netlink, nftables
from ondol.keeper.netlink import Netlink
from ondol.keeper.surroundings import Surroundings
from ondol.keeper.trying import WAY_OUT, Finding, tried

TUN = "/dev/net/tun"

Try = Callable[[Callable[[], None]], str]


def way_out(around: Surroundings | None = None, try_: Try = tried, *, by_kernel: bool | None = None) -> Finding:
    """Not needed: without it, functions reach their node alone."""
    around = around or Surroundings()
    if syscalls.may_mount() if by_kernel is None else by_kernel:
        return _finding(try_(_by_kernel), "by the kernel, with devices and a firewall table of the node's", _MEND_KERNEL)
    program = gateways.program()
    if not program:
        return _finding(f"neither of {', '.join(gateways.PROGRAMS)} is here", "", "apt install passt (or slirp4netns)")
    tun = around.root.rstrip("/") + TUN
    if not os.access(tun, os.R_OK | os.W_OK):
        return _finding(f"{TUN} cannot be opened by this user", "", f"as root: modprobe tun && chmod 666 {TUN}")
    return _finding(try_(_in_user_namespace), f"by {program}", _MEND_KERNEL)


_MEND_KERNEL = "the kernel needs veth and nf_tables with nat (as root: modprobe -a veth nf_tables nft_masq nft_ct)"


def _finding(error: str, there: str, mend: str) -> Finding:
    if not error:
        return Finding(WAY_OUT, ok=True, needed=False, detail=f"{there}; IPv4 only, functions have no IPv6 way out")
    means = "functions reach their node and nothing else"
    return Finding(WAY_OUT, ok=False, needed=False, detail=error, mend=mend, means=means)


def _by_kernel() -> None:
    Netlink(netlink.NETFILTER).do(nftables.batch(nftables.table(f"ondol-try-{os.getpid()}", owned=True)))
    syscalls.unshare(syscalls.CLONE_NEWNET)
    _furnish()


def _in_user_namespace() -> None:
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)
    _furnish()


def _furnish() -> None:
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    Netlink(netlink.ROUTE).do([netlink.veth("s1", 0, "eth0", 0, own)])
    Netlink(netlink.NETFILTER).do(gateways.gateway_rules())
