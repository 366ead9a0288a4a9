"""The server's and the client's bounds, each with its unit in its name. `config` builds them; nothing else invents numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one listener allows a client to make it keep, wait for or do."""

    #: Request line and header fields together; more is answered 431.
    head_bytes_max: int = 64 * 1024
    #: Header fields in one request; more is answered 431.
    headers_max: int = 200
    #: A connection without a request is closed after this.
    idle_s: float = 75.0
    #: From the first byte of a head to its last; then 408.
    head_s: float = 20.0
    #: A body that a reader waits for and that does not move is given up after this.
    body_idle_s: float = 30.0
    #: A client that does not take its response is cut off after this.
    write_idle_s: float = 60.0
    #: After an answer that ends a connection, what still arrives is thrown away for this long, so that the client can read it.
    linger_s: float = 5.0
    #: Connections at once; the next one is answered 503.
    connections_max: int = 10_000
    #: Requests of one connection waiting behind the one that runs; later ones are left unanswered, and HTTP lets a client
    #: repeat.
    pipelined_max: int = 128
    #: A body of a declared length up to this is whole before the application is called.
    buffered_body_bytes_max: int = 64 * 1024
    #: A longer body stops being read from the socket while this much of it waits for its reader.
    body_high_water_bytes: int = 512 * 1024
    #: What is left of a body that nobody wants is read to save the connection, up to this.
    discarded_bytes_max: int = 256 * 1024
    #: Granularity of all the seconds above: one timer for the whole server.
    sweep_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """What a server that we call may make us keep or wait for."""

    #: Connections to one server at once; the next request waits.
    connections_max: int = 256
    #: Requests waiting for a connection; the next one is refused.
    waiting_max: int = 4096
    #: For a connection, and for the server to come (back) up.
    connect_s: float = 10.0
    #: Pause between two attempts to reach a server that is away.
    retry_s: float = 0.05
    #: From the last byte of the request to the head of the answer.
    answer_s: float = 960.0
    #: Idle connections kept.
    idle_max: int = 32
    #: Status line and header fields together.
    head_bytes_max: int = 256 * 1024
    #: A response of a declared length up to this is delivered whole.
    buffered_body_bytes_max: int = 64 * 1024
    #: The socket is not read while this much of a response waits for its reader.
    body_high_water_bytes: int = 512 * 1024
