"""Structure from bytes, and bytes from bytes: how a fuzzer's input becomes a request, and how inputs are made without one."""

from __future__ import annotations

import random


class Draw(random.Random):
    """A source of "random" choices that are the input's bits: a fuzzer that changes a byte changes a choice."""

    def __new__(cls, data):
        return super().__new__(cls)

    def __init__(self, data):
        super().__init__(0)
        self.data, self.at = data, 0

    def getrandbits(self, k):
        size = (k + 7) // 8
        piece = self.data[self.at : self.at + size]
        self.at += size
        return int.from_bytes(piece.ljust(size, b"\0"), "little") & (1 << k) - 1

    def random(self):
        return self.getrandbits(32) / 2**32

    def rest(self):
        """What no choice has used."""
        return self.data[self.at :]


def pieces(data, draw):
    """The same bytes, cut where `draw` says."""
    edges = sorted({0, len(data), *(draw.randint(0, len(data)) for _ in range(draw.randint(0, 4)))})
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def mutations(seeds, tokens, chance, count):
    """`count` inputs made of the seeds by changing, cutting, doubling, crossing them and putting tokens in."""
    pool = list(seeds) or [b""]
    for _ in range(count):
        data = bytearray(chance.choice(pool))
        for _ in range(chance.choice((1, 1, 2, 3, 6))):
            _change(data, pool, tokens, chance)
        yield bytes(data)
        if len(pool) < 200 and chance.random() < 0.05:
            pool.append(bytes(data))


def _change(data, pool, tokens, chance):
    at = chance.randint(0, len(data))
    kind = chance.randint(0, 6)
    if kind == 0 and tokens:
        data[at:at] = chance.choice(tokens)
    elif kind == 1 and tokens:
        token = chance.choice(tokens)
        data[at : at + len(token)] = token
    elif kind == 2:
        del data[at : at + chance.choice((1, 2, 8, 64))]
    elif kind == 3 and len(data) > at:
        data[at] ^= 1 << chance.randint(0, 7)
    elif kind == 4:
        end = at + chance.choice((1, 4, 16))
        data[at:at] = data[at:end] * chance.choice((1, 2, 30))
    elif kind == 5:
        other = chance.choice(pool)
        data[at:] = other[chance.randint(0, len(other)) :]
    else:
        data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 8)))
