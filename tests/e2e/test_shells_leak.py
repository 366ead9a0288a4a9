"""Shells made and ended by the hundred, through the sandbox port: nothing is left of them. `make soak` makes ten thousand."""

from __future__ import annotations

import os

import pytest

from ondol.testing import census, keepers

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(300)]

SHELLS = 100
WARM_UP = 10
AT_ONCE = 5
SETTLE_S_MAX = 20.0


@pytest.mark.parametrize("user", [None, keepers.USER], ids=["root", "an ordinary user"])
async def test_nothing_is_left_of_a_hundred_environments(user):
    reason = keepers.why_not(user)
    if reason:
        pytest.skip(reason)
    async with keepers.running_keeper(user) as kept:

        def see():
            pids = kept.processes()
            return census.take({"keeper": pids[:2], "below": pids[2:], "here": [os.getpid()]}, kept.data, kept.node)

        for _ in range(WARM_UP // AT_ONCE):
            await some(kept)
        before = see()
        for _ in range(SHELLS // AT_ONCE):
            await some(kept)
        after = census.settled(see, before, SETTLE_S_MAX)
        assert not census.grown(before, after), census.table(before, after)
        assert before["processes: below"] == 2, "the zygote, the account's maker of shells, and nobody else"
        assert after["rss KiB: keeper"] < before["rss KiB: keeper"] + 4096


async def some(kept):
    """Make, use and end AT_ONCE environments, one of them full of what is hard to end and to remove."""
    tree = kept.code(app__py="x = 1")
    insides = [await kept.inside(tree=tree) for _ in range(AT_ONCE)]
    for inside in insides:
        assert await inside.run("open('/tmp/x', 'w').write('x'); result = 1") == 1
    await insides[0].run(
        "import os\n"
        "if os.fork() == 0:\n    os.setsid()\n    import time\n    time.sleep(600)\n"
        "os.makedirs('/tmp/a/b/c'); os.symlink('/', '/tmp/a/up'); os.mkfifo('/tmp/a/pipe'); os.chmod('/tmp/a/b', 0)"
    )
    for inside in insides:
        await kept.sandboxes.discard(inside.shell)
        await inside.ended()
        inside.close()
        kept.insides.remove(inside)
