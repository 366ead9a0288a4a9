"""The node's socket is had, or it is said in one sentence why not."""

from __future__ import annotations

import socket

import pytest

from ondol.model.errors import Unavailable
from ondol.node.listening import listen


def test_a_free_port_is_listened_on_at_once():
    with listen("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname()):
        assert sock.getsockname()[1] > 0
        assert not sock.get_inheritable()


def test_a_port_in_use_is_named_with_what_to_do():
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} of 127.0.0.1 is in use.*--listen"):
            listen("127.0.0.1", port)


def test_a_port_just_left_can_be_had_again():
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with socket.create_connection(sock.getsockname()) as client:
            served, _ = sock.accept()
            served.close()  # the server's end closes first: its port lingers
            client.recv(1)
    listen("127.0.0.1", port).close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(Unavailable, match="no address of this machine"):
        listen(host, 0)


def test_ipv6_alone_listens_on_ipv6_alone():
    try:
        sock = listen("::1", 0)
    except Unavailable:
        pytest.skip("this machine has no IPv6")
    with sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
