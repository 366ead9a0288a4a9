"""The fake store keeps the same promises as the one on disk."""

import pytest

from ondol.testing.store import MemoryStore
from ondol.testing.suites.store import StoreSuite


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    async def store(self):
        store = MemoryStore()
        yield store
        await store.close()
