"""Access keys: made, listed and removed by their account's owner. A removed key is nobody's at every front on return.

A key is one document of the catalog. Its secret is given out once, by `create`; nothing that lists keys shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ondol.clock import Clock
from ondol.core.catalog import Index, delete, put
from ondol.core.commits import Commits, Operations
from ondol.model.errors import InUse, InvalidSetting, NotFound
from ondol.model.principals import AccessKey, Principal

KEYS_MAX: Final = 1000
NAME_CHARS_MAX: Final = 64


def standing(index: Index, who: Principal) -> Callable[[], bool]:
    """Whether the key that let `who` in is still what it was: a stream outlives the request that was permitted."""
    key = index.key(who.name)
    return lambda: index.key(who.name) == key


class Keys:
    """The use cases. `own`: the id of the node's first key, which each start makes again; `draw`: a fresh (id, secret)."""

    def __init__(
        self, *, index: Index, commits: Commits, clock: Clock, draw: Callable[[], tuple[str, str]], own: str = ""
    ) -> None:
        self.own = own
        self._index = index
        self._commits = commits
        self._clock = clock
        self._draw = draw

    def of(self, account: str) -> list[AccessKey]:
        """All keys of an account, oldest first."""
        found = [key for key in self._index.keys() if key.account == account]  # noqa: SIM118  # no mapping's
        return sorted(found, key=lambda key: (key.created_s, key.id))

    async def create(self, account: str, *, name: str = "", read_only: bool = False) -> AccessKey:
        """A new key, in force at every front. Raises InvalidSetting where the name cannot be, or there are KEYS_MAX."""
        if len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise InvalidSetting("name", f"a key's name has at most {NAME_CHARS_MAX} characters, all of them printable")
        key_id, secret = self._draw()
        key = AccessKey(
            id=key_id, secret=secret, account=account, created_s=self._clock.wall_s(), name=name, read_only=read_only
        )

        def build() -> Operations:
            if len(self.of(account)) >= KEYS_MAX:
                raise InvalidSetting("keys", f"an account has at most {KEYS_MAX} keys; remove one that nobody uses")
            return [put(key, if_revision=0)]

        await self._commits.everywhere(await self._commits.retrying(build))
        return key

    async def remove(self, account: str, key_id: str) -> None:
        """Make the key nobody's. Raises NotFound for one that is not the account's, InUse for the node's own."""
        if key_id == self.own:
            raise InUse("this is the node's own first key, which its commands use; it stays", by=("credentials.json",))

        def build() -> Operations:
            key = self._index.key(key_id)
            if key is None or key.account != account:
                raise NotFound("key", key_id)
            return [delete(key)]

        await self._commits.everywhere(await self._commits.retrying(build))
