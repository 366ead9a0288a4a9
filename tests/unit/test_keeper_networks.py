"""Parts of the keeper's networks that need neither rights nor a network: messages, findings, the resolver's file."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from ondol.keeper import gateways, netlink, nftables, probe_networks
from ondol.keeper.probe_networks import way_out
from ondol.keeper.resolver import Resolver
from ondol.keeper.surroundings import Surroundings


def tries(error=""):
    return lambda action: error


def test_a_kernel_that_refuses_is_said_with_the_modules_to_load():
    found = way_out(try_=tries("Operation not supported"), by_kernel=True)
    assert not found.ok
    assert not found.needed
    assert "nf_tables" in found.mend
    assert found.means == "functions reach their node and nothing else"


def test_an_ordinary_user_is_told_which_program_to_install(monkeypatch):
    monkeypatch.setattr(gateways.shutil, "which", lambda name: None)
    found = way_out(try_=tries(), by_kernel=False)
    assert not found.ok
    assert "apt install passt" in found.mend


def test_an_ordinary_user_who_may_not_open_the_device_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(gateways.shutil, "which", lambda name: f"/usr/bin/{name}")
    around = Surroundings(root=f"{tmp_path}/")
    found = way_out(around, tries(), by_kernel=False)
    assert not found.ok
    assert "chmod 666 /dev/net/tun" in found.mend
    (tmp_path / "dev/net").mkdir(parents=True)
    (tmp_path / "dev/net/tun").touch()
    found = way_out(around, tries(), by_kernel=False)
    assert found.ok
    assert found.detail.startswith("by /usr/bin/pasta; IPv4 only")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_looking_for_a_way_out_leaves_nothing_on_the_machine():
    found = probe_networks.way_out()
    assert found.ok, found
    assert "s1" not in [name for _, name in socket.if_nameindex()]


def test_attributes_are_padded_and_a_rule_holds_its_expressions_in_order():
    assert netlink.attribute(3, b"ab\0") == struct.pack("=HH", 7, 3) + b"ab\0\0"
    _, _, body = nftables.rule("t", "c", nftables.comes_by("s"), nftables.verdict(nftables.DROP))
    assert body.index(b"meta\0") < body.index(b"cmp\0") < body.index(b"immediate\0")
    assert len(body) % 4 == 0


def test_a_refused_message_raises_with_the_kernels_reason():
    asking = netlink.Netlink(netlink.ROUTE)
    with asking.sock, pytest.raises(OSError) as caught:
        asking.do([netlink.up(999_999)])
    assert caught.value.errno
    assert "the network cannot be changed" in str(caught.value)


def test_the_resolvers_are_the_machines_at_most_three_and_loopback_where_none_is_named(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("# nameserver 9.9.9.9\nsearch here\n" + "".join(f"nameserver 10.0.0.{n}\n" for n in range(5)))
    one, other = socket.socketpair()
    with one, other:
        assert Resolver(one, str(file)).servers() == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
        assert Resolver(one, str(tmp_path / "none")).servers() == ["127.0.0.1"]
