"""Many changes at once, in seeded random orders: what is left always fits together, at every step of the watch."""

import asyncio
import random
from dataclasses import replace

import pytest

from ondol.core.catalog import Index
from ondol.core.deploy import NewFunction
from ondol.core.resolve import resolve
from ondol.model.errors import OndolError
from ondol.model.functions import Alias, Code, Configuration, Stage
from ondol.testing.desk import desk
from ondol.testing.store import MemoryStore

CONFIGURATION = Configuration(contract="plain", runtime="python3.11", handler="app.handler")
NAMES = ("one", "two")
STEPS_PER_WORKER = 40
WORKERS = 6


def code(draw):
    return Code(sha256=f"{draw.randrange(4):064x}", zipped_bytes=1, unpacked_bytes=1)


async def some_change(deployments, draw):
    """One change of a function picked by chance; that it is refused is as good."""
    name = draw.choice(NAMES)
    function = deployments.index.handle("d", "1", "r", name)
    if function is None:
        new = NewFunction(
            dialect="d", handle=name, account="1", region="r", name=name, code=code(draw), configuration=CONFIGURATION, tags={}
        )
        await deployments.create(replace(new, publish=draw.random() < 0.5))
        return
    numbers = [version.number for version in deployments.index.versions(function.id)] or [1]
    alias = Alias(function=function.id, name=draw.choice("xy"), version=draw.choice(numbers))
    match draw.choice(("code", "config", "publish", "alias", "move", "unalias", "tag", "reserve", "version", "delete")):
        case "code":
            await deployments.update(function, code=code(draw), publish=draw.random() < 0.3)
        case "config":
            await deployments.update(function, configuration=replace(CONFIGURATION, memory_mib=draw.choice((128, 256))))
        case "publish":
            await deployments.publish(function)
        case "alias":
            await deployments.aliases.create(alias)
        case "move":
            await deployments.aliases.update(function.id, alias.name, lambda old: replace(old, version=alias.version))
        case "unalias":
            await deployments.aliases.delete(function.id, alias.name)
        case "tag":
            await deployments.retag(function.id, add={"t": str(draw.random())})
        case "reserve":
            await deployments.reserve(function.id, draw.choice((None, 10, 500)))
        case "version":
            await deployments.delete_version(function.id, draw.choice(numbers))
        case "delete":
            if draw.random() < 0.3:
                await deployments.delete(function.id)


async def work(deployments, draw):
    for _ in range(STEPS_PER_WORKER):
        try:
            await some_change(deployments, draw)
        except OndolError:
            await asyncio.sleep(0)


def check_callable(index):
    """Whatever can be called resolves to a revision."""
    for name in index.names("d", "1", "r"):
        function = index.handle("d", "1", "r", name)
        assert function is not None
        resolve(index, function, None, 0.0)
        for version in index.versions(function.id):
            resolve(index, function, str(version.number), 0.0)
        for alias in index.aliases(function.id):
            assert resolve(index, function, alias.name, 0.0).function.id == function.id


def check_nothing_is_left_over(documents, index):
    functions = {function.id for function in index.functions()}
    for document in documents:
        kind, *rest = document.key.split("/")
        owner = document.value["function"] if kind == "handle" else rest[2] if kind == "function" else rest[0]
        assert owner in functions, f"{document.key} outlived its function"
    for function in index.functions():
        named = {function.latest, *(version.revision for version in index.versions(function.id))}
        assert {revision.id for revision in index.revisions(function.id)} == named
        assert function.stage is Stage.READY


@pytest.mark.parametrize("seed", range(12))
async def test_changes_in_any_order_leave_a_catalog_that_fits_together(tmp_path, seed):
    draw, store = random.Random(seed), MemoryStore()
    async with desk(tmp_path, store=store) as made:
        await asyncio.gather(*(work(made.deployments, random.Random(draw.random())) for _ in range(WORKERS)))
        await made.settled()
        number, documents = await store.snapshot()
        check_nothing_is_left_over(documents, made.index)
        assert made.deployments.unreserved("1", "r") >= 100
    follower = Index()
    async for change in store.watch(0):
        follower.apply(change)
        check_callable(follower)
        if change.number == number:
            break
