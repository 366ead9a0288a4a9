"""What is wrong with a body that is no JSON, in the words of the parser that AWS's front end uses (Jackson).

Only called once a fast parser has refused the body, so it is written for telling, not for speed; it looks at the first
`LOOKED_AT_BYTES_MAX` bytes. Pure.
"""

from __future__ import annotations

#: A body that is broken further behind gets a general text: telling must not hold up the loop.
LOOKED_AT_BYTES_MAX = 64 * 1024
#: As deep as this module can walk.
_DEPTH_MAX = 200

_VALUE = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
_SOURCE = "[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {line}, column: {column}]"
_BLANK = b" \t\r\n"
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$")
_ESCAPES = b'"\\/bfnrtu'


class _Found(Exception):  # noqa: N818  # how the walk ends, not an error of ours
    """The first thing wrong: its text, and the position that the parser reports."""


def complaint(body: bytes) -> str:
    """One sentence and where it applies, as Jackson says it."""
    walk = _Walk(body[:LOOKED_AT_BYTES_MAX])
    try:
        walk.document()
    except _Found as found:
        text, at = found.args
        return f"{text}\n at {walk.source(at)}"
    return f"Unexpected content\n at {walk.source(len(walk.data))}"


class _Walk:
    """A recursive descent that stops at the first mistake."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.depth = 0

    def source(self, at: int) -> str:
        line = self.data.count(b"\n", 0, at) + 1
        column = at - (self.data.rfind(b"\n", 0, at) + 1) + 1
        return _SOURCE.format(line=line, column=column)

    def document(self) -> None:
        self.blank()
        if self.at >= len(self.data):
            raise _Found("No content to map due to end-of-input", self.at)
        self.value()
        self.blank()
        if self.at < len(self.data):
            self.value()

    def blank(self) -> None:
        while self.at < len(self.data) and self.data[self.at] in _BLANK:
            self.at += 1

    def value(self) -> None:
        byte = self.data[self.at]
        if byte == ord("{"):
            self.nested(self.members, "Object", b"}")
        elif byte == ord("["):
            self.nested(self.elements, "Array", b"]")
        elif byte == ord('"'):
            self.string()
        elif byte == ord("-") or chr(byte).isdigit():
            self.number()
        elif byte in _WORD:
            self.word()
        else:
            raise _Found(f"Unexpected character ({_shown(byte)}): expected a valid value {_VALUE}", self.at)

    def nested(self, inner: object, kind: str, close: bytes) -> None:
        start = self.at
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            raise _Found("Document nesting depth exceeds the maximum allowed", self.at)
        self.at += 1
        first = True
        while True:
            self.more(kind, start)
            if first and self.data[self.at : self.at + 1] == close:
                break
            assert callable(inner)
            inner(kind, start)
            self.more(kind, start)
            byte = self.data[self.at]
            if bytes([byte]) == close:
                break
            if byte != ord(","):
                raise _Found(f"Unexpected character ({_shown(byte)}): was expecting comma to separate {kind} entries", self.at)
            self.at += 1
            first = False
        self.at += 1
        self.depth -= 1

    def more(self, kind: str, start: int) -> None:
        """On to the next token; the input may not end here."""
        self.blank()
        if self.at >= len(self.data):
            text = f"Unexpected end-of-input: expected close marker for {kind} (start marker at {self.source(start)})"
            raise _Found(text, self.at)

    def members(self, kind: str, start: int) -> None:
        byte = self.data[self.at]
        if byte != ord('"'):
            text = f"Unexpected character ({_shown(byte)}): was expecting double-quote to start field name"
            raise _Found(text, self.at)
        self.string()
        self.more(kind, start)
        byte = self.data[self.at]
        if byte != ord(":"):
            text = f"Unexpected character ({_shown(byte)}): was expecting a colon to separate field name and value"
            raise _Found(text, self.at)
        self.at += 1
        self.more(kind, start)
        self.value()

    def elements(self, _kind: str, _start: int) -> None:
        self.value()

    def string(self) -> None:
        self.at += 1
        data = self.data
        while self.at < len(data):
            byte = data[self.at]
            if byte == ord('"'):
                self.at += 1
                return
            if byte < 0x20:
                text = (
                    f"Illegal unquoted character ({_shown(byte)}): has to be escaped using backslash "
                    "to be included in string value"
                )
                raise _Found(text, self.at)
            if byte == ord("\\"):
                self.escape()
            elif byte >= 0x80:
                self.sequence()
            else:
                self.at += 1
        raise _Found("Unexpected end-of-input: was expecting closing quote for a string value", self.at)

    def escape(self) -> None:
        following = self.data[self.at + 1 : self.at + 2]
        if following and following not in _ESCAPES:
            raise _Found(f"Unrecognized character escape {_shown(following[0])}", self.at + 1)
        self.at += 2

    def sequence(self) -> None:
        """One character of more than one byte. Jackson reports the place behind the byte it stumbles over."""
        byte = self.data[self.at]
        size = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte & 0xF8 == 0xF0 else 0
        if not size:
            raise _Found(f"Invalid UTF-8 start byte 0x{byte:x}", self.at + 1)
        for offset in range(1, size):
            following = self.data[self.at + offset : self.at + offset + 1]
            if following and following[0] & 0xC0 != 0x80:
                raise _Found(f"Invalid UTF-8 middle byte 0x{following[0]:x}", self.at + offset + 1)
        self.at += size

    def number(self) -> None:
        start = self.at
        while self.at < len(self.data) and self.data[self.at] in b"+-.eE0123456789":
            self.at += 1
        text = self.data[start : self.at].decode()
        digits = text.lstrip("-")
        if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
            raise _Found("Invalid numeric value: Leading zeroes not allowed", start + 1)
        try:
            float(text)
        except ValueError:
            raise _Found(f"Unexpected character in numeric value '{text[:40]}'", self.at) from None

    def word(self) -> None:
        start = self.at
        while self.at < len(self.data) and self.data[self.at] in _WORD:
            self.at += 1
        word = self.data[start : self.at].decode()
        if word not in ("true", "false", "null"):
            raise _Found(f"Unrecognized token '{word[:256]}': was expecting {_VALUE}", self.at)


def _shown(byte: int) -> str:
    """A byte as the parser names it."""
    if byte < 0x20 or 0x7F <= byte <= 0x9F:
        return f"(CTRL-CHAR, code {byte})"
    return f"'{chr(byte)}' (code {byte})"
