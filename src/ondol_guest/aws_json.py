"""Results as JSON, in the form that awslambdaric gives them.

Its encoder takes more than the standard library's: decimals become numbers, bytes become text, named tuples (and whatever has
`_asdict`) become objects. Plain values, nearly all there are, go through the standard library's C encoder; finding out whether
a value is plain costs a set of types per container.
"""

import json
import sys
from json.encoder import c_make_encoder, encode_basestring, encode_basestring_ascii

SCALARS = frozenset((str, int, float, bool, type(None)))
CONTAINERS = frozenset((dict, list, tuple))
PLAIN = SCALARS | CONTAINERS
#: Deeper than this, the C encoder decides what is wrong: a circle, or just too deep.
DEPTH_MAX = 200


class Encoder:
    """Encodes for one runtime id: up to Python 3.11 everything beyond ASCII is escaped, from 3.12 on nothing is."""

    def __init__(self, execution_env):
        ascii_only = not _is_312_or_later(execution_env)
        self._quote = encode_basestring_ascii if ascii_only else encode_basestring
        self._usual = json.JSONEncoder(ensure_ascii=ascii_only).encode
        #: The containers that `_pieces_of` is in, by their ids: how it finds circles.
        self._open = {}
        self._pieces_of = c_make_encoder and c_make_encoder(self._open, None, self._quote, None, ": ", ", ", False, False, True)

    def encode(self, value):
        """JSON as bytes. Raises TypeError, ValueError, RecursionError."""
        if is_plain(value, 0):
            return self._plain(value).encode()
        pieces = []
        self._write(value, pieces.append, set())
        return "".join(pieces).encode()

    def _plain(self, value):
        """What JSONEncoder.encode gives, with the encoder in C that it makes for each value made once."""
        if self._pieces_of is None:
            return self._usual(value)
        try:
            return "".join(self._pieces_of(value, 0))
        except BaseException:
            self._open.clear()
            raise

    def _write(self, value, put, above):
        if isinstance(value, str):
            put(self._quote(value))
        elif isinstance(value, bytes):
            put(self._quote(value.decode("utf-8")))
        elif value is None or isinstance(value, (bool, int, float)):
            put(_scalar(value))
        else:
            self._write_container(value, put, above)

    def _write_container(self, value, put, above):
        if id(value) in above:
            raise ValueError("Circular reference detected")
        above.add(id(value))
        fields = None if isinstance(value, type) else getattr(value, "_asdict", None)
        if isinstance(value, list) or (isinstance(value, tuple) and not callable(fields)):
            self._write_items(value, put, above)
        elif callable(fields):
            self._write_object(fields(), put, above)
        elif isinstance(value, dict):
            self._write_object(value, put, above)
        else:
            self._write_other(value, put)
        above.discard(id(value))

    def _write_items(self, items, put, above):
        put("[")
        for index, item in enumerate(items):
            if index:
                put(", ")
            self._write(item, put, above)
        put("]")

    def _write_object(self, members, put, above):
        put("{")
        first = True
        for key, member in members.items():
            if not first:
                put(", ")
            first = False
            put(self._quote(_key(key)))
            put(": ")
            self._write(member, put, above)
        put("}")

    def _write_other(self, value, put):
        decimal = sys.modules.get("decimal")  # nobody has a Decimal without having imported it
        if decimal is None or not isinstance(value, decimal.Decimal):
            raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)
        put("NaN" if value.is_nan() else str(value))


def is_plain(value, depth):  # noqa: PLR0911  # a walk over cases
    """Whether the standard library's encoder gives what awslambdaric's gives."""
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind not in CONTAINERS:
        return False
    if depth > DEPTH_MAX:
        return True
    members = value
    if kind is dict:
        if not set(map(type, value)) <= SCALARS:
            return False
        members = value.values()
    kinds = set(map(type, members))
    if kinds <= SCALARS:
        return True
    if not kinds <= PLAIN:
        return False
    return all(is_plain(member, depth + 1) for member in members if type(member) not in SCALARS)


def _scalar(value):
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value)  # whatever a subclass, such as an enumeration, calls itself
    return json.dumps(value)


def _key(key):
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode("utf-8")
    if key is None or isinstance(key, (bool, int, float)):
        return _scalar(key)
    raise TypeError("keys must be str, int, float, bool or None, not %s" % type(key).__name__)


def _is_312_or_later(execution_env):
    _, _, version = execution_env.rpartition("python3.")
    return version.isdigit() and int(version) >= 12
