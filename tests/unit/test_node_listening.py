"""The node's socket is had, or it is said in one sentence why not."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from ondol.model.errors import Unavailable
from ondol.node.listening import listen, listen_many


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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_several_sockets_share_one_port_and_connections_fall_to_all_of_them(host):
    try:
        socks = listen_many(host, 0, 2)
    except Unavailable:
        pytest.skip("this machine has no IPv6")
    with ExitStack() as stack:
        for sock in socks:
            stack.enter_context(sock)
            sock.setblocking(False)
        assert len({sock.getsockname()[1] for sock in socks}) == 1
        for _ in range(40):  # to one alone once in 2^39 times
            stack.enter_context(socket.create_connection(socks[0].getsockname()[:2]))
        for sock in socks:
            accepted, _ = sock.accept()
            accepted.close()


@pytest.mark.parametrize("theirs", [1, 3])
@pytest.mark.parametrize("ours", [1, 3])
def test_a_port_that_others_listen_on_is_not_shared_with_them(ours, theirs):
    socks = listen_many("127.0.0.1", 0, theirs)
    with ExitStack() as stack:
        for sock in socks:
            stack.enter_context(sock)
        with pytest.raises(Unavailable, match="in use"):
            listen_many("127.0.0.1", socks[0].getsockname()[1], ours)


def test_several_sockets_can_have_a_port_just_left():
    socks = listen_many("127.0.0.1", 0, 2)
    port = socks[0].getsockname()[1]
    with ExitStack() as stack:
        for sock in socks:
            stack.enter_context(sock)
            sock.settimeout(0.05)
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        for sock in socks:
            try:
                sock.accept()[0].close()  # the server's end closes first: its port lingers
            except TimeoutError:
                continue
        client.recv(1)
    for sock in listen_many("127.0.0.1", port, 2):
        sock.close()
