"""The queue in memory keeps the rules that the one on disk keeps."""

from __future__ import annotations

import pytest

from ondol.testing.queue import MemoryQueue
from ondol.testing.suites.queue import QueueSuite


class TestMemoryQueue(QueueSuite):
    @pytest.fixture
    def queue(self):
        return MemoryQueue()

    @pytest.fixture
    def reopen(self, queue):
        async def again():
            return queue

        return again
