"""The floor under an isolated invocation: the smallest front that hands each request to a forked worker over a socket pair.

One worker, one request at a time, 4 byte length + JSON both ways; no auth, no logs, no accounting, no isolation. Port as the only
argument; a second one is the number of workers.
"""

import asyncio
import collections
import json
import os
import socket
import sys

import httptools
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def worker(line):
    def handler(event):
        return {"hello": event.get("name", "you")}

    while True:
        size = line.recv(4, socket.MSG_WAITALL)
        if not size:
            os._exit(0)
        event = json.loads(line.recv(int.from_bytes(size, "little"), socket.MSG_WAITALL))
        answer = json.dumps(handler(event)).encode()
        line.sendall(len(answer).to_bytes(4, "little") + answer)


class Line(asyncio.Protocol):
    """One worker."""

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""
        self.asks = None
        free(self)

    def ask(self, who, body):
        self.asks = who
        self.transport.write(len(body).to_bytes(4, "little") + body)

    def data_received(self, data):
        self.buffer += data
        size = int.from_bytes(self.buffer[:4], "little")
        if len(self.buffer) >= 4 + size:
            answer, self.buffer = self.buffer[4 : 4 + size], self.buffer[4 + size :]
            if not self.asks.transport.is_closing():
                self.asks.transport.write(HEAD % len(answer) + answer)
            free(self)


IDLE, WAITING = collections.deque(), collections.deque()


def free(line):
    if WAITING:
        line.ask(*WAITING.popleft())
    else:
        IDLE.append(line)


class Front(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        body, self.body = self.body, b""
        if IDLE:
            IDLE.pop().ask(self, body)
        else:
            WAITING.append((self, body))


async def main(port, ends):
    loop = asyncio.get_running_loop()
    for end in ends:
        await loop.create_connection(Line, sock=end)
    server = await loop.create_server(Front, "127.0.0.1", port)
    await server.serve_forever()


ends = []
for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        worker(theirs)
    theirs.close()
    ours.setblocking(False)
    ends.append(ours)
uvloop.run(main(int(sys.argv[1]), ends))
