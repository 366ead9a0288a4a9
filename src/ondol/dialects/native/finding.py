"""From a name in a path to what is deployed under it, whichever dialect gave the name."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from typing import Final

from ondol.core.catalog import Index
from ondol.dialects.native.operations import Asked
from ondol.dialects.native.reading import short
from ondol.model.errors import NotFound
from ondol.model.functions import Function
from ondol.model.principals import Principal

#: Where web functions get their names: the dialect that serves them.
WEB_NAMES: Final = "plain"
#: Dialects whose functions are shown, in the order of their look-up.
NAMING: Final = (WEB_NAMES, "aws")
#: How many names a refusal looks through, and how many it shows.
LOOKED_AT_MAX: Final = 200
SHOWN_MAX: Final = 5


def function_of(index: Index, asked: Asked) -> Function:
    """The function that the path's {name} means. Raises NotFound, which says what there is."""
    name = asked.path["name"]
    function = named(index, asked.principal, name)
    if function is not None:
        return function
    names = names_after(index, asked, "", LOOKED_AT_MAX)
    raise NotFound("function", f"{short(name)}; {there_are(name, names, 'functions')}")


def named(index: Index, principal: Principal, name: str) -> Function | None:
    """The function of that name in the principal's account and region."""
    for dialect in NAMING:
        function = index.handle(dialect, principal.account, principal.region, name)
        if function is not None:
            return function
    return None


def names_after(index: Index, asked: Asked, after: str, limit: int) -> list[str]:
    """Names of functions greater than `after`, in order."""
    account, region = asked.principal.account, asked.principal.region
    found = {name for dialect in NAMING for name in index.names(dialect, account, region, after=after, limit=limit)}
    return sorted(found)[:limit]


def there_are(name: str, names: list[str], what: str) -> str:
    """What a client that looked for `name` may have meant."""
    if not names:
        return f"there are no {what}"
    near = get_close_matches(short(name), names, n=SHOWN_MAX) or list(islice(names, SHOWN_MAX))
    more = ", …" if len(near) < len(names) else ""
    return f"there are {', '.join(near)}{more}"
