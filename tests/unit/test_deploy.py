"""The deploying use cases over the fakes: what a change does, who wins a race, and when it is in force."""

import asyncio
import zipfile
from dataclasses import replace

import pytest

from ondol.core.deploy import NewFunction, etag
from ondol.core.resolve import resolve
from ondol.model.errors import AlreadyExists, Busy, InUse, InvalidSetting, NotFound, OutOfSpace, RevisionMismatch, Unavailable
from ondol.model.functions import UNNUMBERED, Alias, Code, Configuration, Stage
from ondol.testing.desk import Fronts
from ondol.testing.desk import desk as desk_over
from ondol.testing.store import MemoryStore

CODE = Code(sha256="a" * 64, zipped_bytes=10, unpacked_bytes=20)
OTHER_CODE = replace(CODE, sha256="b" * 64)
CONFIGURATION = Configuration(contract="plain", runtime="python3.11", handler="app.handler")


@pytest.fixture
async def desk(tmp_path):
    async with desk_over(tmp_path / "code") as made:
        yield made


@pytest.fixture
def fronts(desk):
    return desk.fronts


@pytest.fixture
def store(desk):
    return desk.store


@pytest.fixture
def deployments(desk):
    return desk.deployments


def new(name="hello", **changes):
    wanted = NewFunction(
        dialect="d", handle=name, account="1", region="r", name=name, code=CODE, configuration=CONFIGURATION, tags={}
    )
    return replace(wanted, **changes)


async def created(deployments, name="hello", **changes):
    made = await deployments.create(new(name, **changes))
    await deployments.settling.idle()
    return deployments.index.function(made.function.id)


async def test_a_new_function_is_found_by_its_handle_as_soon_as_create_returns(deployments):
    made = await deployments.create(new())
    found = deployments.index.handle("d", "1", "r", "hello")
    assert found.id == made.function.id
    assert deployments.latest(found).revision == made.revision


async def test_a_new_function_is_ready_only_when_every_front_has_it(deployments, fronts):
    fronts.hold()
    made = await deployments.create(new())
    assert deployments.index.function(made.function.id).stage is Stage.CREATING
    fronts.release()
    await deployments.settling.idle()
    assert deployments.index.function(made.function.id).stage is Stage.READY


async def test_a_name_is_given_once_even_when_two_ask_at_the_same_time(deployments):
    results = await asyncio.gather(deployments.create(new()), deployments.create(new()), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["AlreadyExists", "Deployed"]
    with pytest.raises(AlreadyExists):
        await deployments.create(new())


async def test_a_create_that_cannot_be_written_leaves_nothing(deployments, store):
    store.fail_next = OutOfSpace("the disk is full")
    with pytest.raises(OutOfSpace):
        await deployments.create(new())
    assert await store.snapshot() == (0, [])


async def test_an_update_makes_a_new_revision_and_drops_the_old_one(deployments):
    function = await created(deployments)
    updated = await deployments.update(function, code=OTHER_CODE)
    assert updated.function.latest == updated.revision.id != function.latest
    assert (updated.revision.code, updated.revision.configuration) == (OTHER_CODE, CONFIGURATION)
    assert [revision.id for revision in deployments.index.revisions(function.id)] == [updated.revision.id]


async def test_an_update_is_refused_while_another_is_not_in_force_yet(deployments, fronts):
    function = await created(deployments)
    fronts.hold()
    updated = await deployments.update(function, code=OTHER_CODE)
    for base in (function, updated.function):
        with pytest.raises(Busy):
            await deployments.update(base, code=CODE)
    fronts.release()
    await deployments.settling.idle()
    await deployments.update(deployments.index.function(function.id), code=CODE)


async def test_of_two_updates_at_once_one_wins_and_the_other_is_told(deployments):
    function = await created(deployments)
    results = await asyncio.gather(
        deployments.update(function, code=OTHER_CODE),
        deployments.update(function, configuration=replace(CONFIGURATION, memory_mib=256)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Busy", "Deployed"]


async def test_an_update_from_a_stale_reading_is_refused(deployments):
    function = await created(deployments)
    await deployments.update(function, code=OTHER_CODE)
    await deployments.settling.idle()
    with pytest.raises(Busy):
        await deployments.update(function, code=CODE)


async def test_tags_set_while_an_update_was_prepared_survive_it(deployments):
    function = await created(deployments)
    await deployments.retag(function.id, add={"team": "floor"})
    await deployments.update(function, code=OTHER_CODE)
    await deployments.settling.idle()
    assert deployments.index.function(function.id).tags == {"team": "floor"}


async def test_the_etag_changes_at_each_step_and_guards_updates(deployments):
    made = await deployments.create(new())
    await deployments.settling.idle()
    function = deployments.index.function(made.function.id)
    ready = deployments.latest(function)
    assert ready.etag != made.etag
    with pytest.raises(RevisionMismatch):
        await deployments.update(function, code=OTHER_CODE, if_etag=made.etag)
    updated = await deployments.update(function, code=OTHER_CODE, if_etag=ready.etag)
    assert updated.etag not in (ready.etag, made.etag)
    assert updated.etag == etag(updated.revision.id, Stage.UPDATING)


async def test_a_dry_run_shows_the_result_and_writes_nothing(deployments, store):
    function = await created(deployments)
    before = await store.snapshot()
    shown = await deployments.update(function, code=OTHER_CODE, dry_run=True)
    assert shown.revision.code == OTHER_CODE
    assert await store.snapshot() == before


async def test_publishing_gives_numbers_in_order_and_copies_the_revision(deployments):
    function = await created(deployments)
    first = await deployments.publish(function, description="one")
    assert (first.version.number, first.version.description, first.revision.version) == (1, "one", 1)
    assert first.revision.id != function.latest
    updated = await deployments.update(deployments.index.function(function.id), code=OTHER_CODE)
    await deployments.settling.idle()
    second = await deployments.publish(deployments.index.function(updated.function.id))
    assert (second.version.number, second.revision.code) == (2, OTHER_CODE)
    assert deployments.version(second.function, 1).revision.code == CODE


async def test_publishing_the_same_again_is_the_same_version(deployments, store):
    function = await created(deployments)
    first = await deployments.publish(function, description="one")
    commits = len(store.commits)
    again = await deployments.publish(deployments.index.function(function.id), description="two")
    assert (again.version, again.revision) == (first.version, first.revision)
    assert len(store.commits) == commits


async def test_a_deleted_version_is_published_under_a_new_number(deployments):
    function = await created(deployments)
    await deployments.publish(function)
    await deployments.delete_version(function.id, 1)
    assert (await deployments.publish(deployments.index.function(function.id))).version.number == 2


async def test_two_publications_at_once_make_one_version(deployments):
    function = await created(deployments)
    results = await asyncio.gather(deployments.publish(function), deployments.publish(function), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Busy", "Deployed"]
    assert [version.number for version in deployments.index.versions(function.id)] == [1]


async def test_the_version_without_a_number_is_published_in_its_own_place(deployments):
    function = await created(deployments)
    first = await deployments.publish(function, unnumbered=True)
    assert (first.version.number, first.revision.version, first.version.stage) == (UNNUMBERED, UNNUMBERED, Stage.CREATING)
    await deployments.settling.idle()
    updated = await deployments.update(deployments.index.function(function.id), code=OTHER_CODE)
    await deployments.settling.idle()
    assert deployments.version(updated.function, UNNUMBERED).revision.code == CODE
    second = await deployments.publish(deployments.index.function(function.id), unnumbered=True, description="two")
    assert (second.version.stage, second.revision.code, second.version.description) == (Stage.UPDATING, OTHER_CODE, "two")
    await deployments.settling.idle()
    assert deployments.version(second.function, UNNUMBERED).version.stage is Stage.READY
    assert deployments.index.revision(function.id, first.revision.id) is None, "what it ran before was kept"
    assert (await deployments.publish(second.function)).version.number == 1, "it took a number"


async def test_publishing_the_same_without_a_number_again_changes_nothing(deployments, store):
    function = await created(deployments)
    first = await deployments.publish(function, unnumbered=True)
    await deployments.settling.idle()
    commits = len(store.commits)
    again = await deployments.publish(deployments.index.function(function.id), unnumbered=True)
    assert (again.revision, again.version.stage, len(store.commits)) == (first.revision, Stage.READY, commits)


async def test_create_and_update_can_publish_in_the_same_commit(deployments):
    made = await deployments.create(new(publish=True, description="first"))
    assert (made.version.number, made.version.stage) == (1, Stage.CREATING)
    await deployments.settling.idle()
    function = deployments.index.function(made.function.id)
    assert deployments.version(function, 1).version.stage is Stage.READY
    updated = await deployments.update(function, code=OTHER_CODE, publish=True)
    assert (updated.version.number, updated.function.version_next) == (2, 3)


async def test_an_alias_shares_calls_between_two_versions_by_weight(deployments):
    function = await created(deployments)
    one = await deployments.publish(function)
    await deployments.update(deployments.index.function(function.id), code=OTHER_CODE)
    await deployments.settling.idle()
    two = await deployments.publish(deployments.index.function(function.id))
    await deployments.aliases.create(Alias(function=function.id, name="live", version=1, second=2, second_weight=0.25))
    chosen = [resolve(deployments.index, two.function, "live", draw).revision for draw in (0.0, 0.24, 0.25, 0.99)]
    assert chosen == [two.revision, two.revision, one.revision, one.revision]


@pytest.mark.parametrize(
    ("alias", "error"),
    [
        ({"version": 9}, NotFound),
        ({"version": 1, "second": 9, "second_weight": 0.5}, NotFound),
        ({"version": 1, "second": 1, "second_weight": 0.5}, InvalidSetting),
        ({"version": None, "second": 1, "second_weight": 0.5}, InvalidSetting),
    ],
)
async def test_an_alias_names_versions_that_are_there_and_differ(deployments, alias, error):
    function = await created(deployments)
    await deployments.publish(function)
    with pytest.raises(error):
        await deployments.aliases.create(Alias(function=function.id, name="live", **alias))


async def test_an_alias_is_changed_only_from_the_state_its_etag_names(deployments):
    function = await created(deployments)
    await deployments.publish(function)
    aliases = deployments.aliases
    alias = await aliases.create(Alias(function=function.id, name="live", version=1))
    tag = aliases.etag(alias)
    changed = await aliases.update(function.id, "live", lambda a: replace(a, description="new"), if_etag=tag)
    assert (changed.description, aliases.etag(changed) == tag) == ("new", False)
    with pytest.raises(RevisionMismatch):
        await aliases.update(function.id, "live", lambda a: a, if_etag=tag)


async def test_a_version_that_an_alias_names_stays(deployments):
    function = await created(deployments)
    await deployments.publish(function)
    await deployments.aliases.create(Alias(function=function.id, name="live", version=1))
    with pytest.raises(InUse) as refused:
        await deployments.delete_version(function.id, 1)
    assert refused.value.by == ("live",)
    await deployments.aliases.delete(function.id, "live")
    await deployments.delete_version(function.id, 1)
    assert deployments.index.versions(function.id) == []


async def test_an_alias_and_the_deletion_of_its_version_never_both_win(deployments):
    function = await created(deployments)
    await deployments.publish(function)
    alias = Alias(function=function.id, name="live", version=1)
    results = await asyncio.gather(
        deployments.aliases.create(alias), deployments.delete_version(function.id, 1), return_exceptions=True
    )
    assert len([result for result in results if isinstance(result, NotFound | InUse)]) == 1


async def test_deleting_takes_everything_of_the_function_with_it(deployments, store):
    other = await created(deployments, "other")
    before = {document.key for document in (await store.snapshot())[1]}
    function = await created(deployments, "hello")
    await deployments.publish(function)
    await deployments.aliases.create(Alias(function=function.id, name="live", version=1))
    await deployments.delete(function.id)
    assert {document.key for document in (await store.snapshot())[1]} == before
    assert [found.id for found in deployments.index.functions()] == [other.id]
    with pytest.raises(NotFound):
        await deployments.delete(function.id)


async def test_deleting_wins_over_an_update_under_way(deployments, fronts):
    function = await created(deployments)
    fronts.hold()
    await deployments.update(function, code=OTHER_CODE)
    deleting = asyncio.create_task(deployments.delete(function.id))
    fronts.release()
    await deleting
    await deployments.settling.idle()
    assert deployments.index.functions() == []


async def test_what_a_crash_left_half_way_is_finished_at_the_next_start(tmp_path):
    store, fronts = MemoryStore(), Fronts()
    fronts.hold()
    async with desk_over(tmp_path, store=store, fronts=fronts) as first:
        made = await first.deployments.create(new(publish=True))
    fronts.release()
    async with desk_over(tmp_path, store=store, fronts=fronts) as second:
        assert second.index.function(made.function.id).stage is Stage.CREATING
        assert second.deployments.settle_interrupted() == 1
        await second.settled()
        found = second.index.function(made.function.id)
        assert (found.stage, second.index.version(found.id, 1).stage) == (Stage.READY, Stage.READY)


async def test_an_update_between_two_steps_waits_for_its_own_turn_at_the_fronts(deployments, fronts):
    """READY is written only for what is not newer than the change the fronts were asked for."""
    fronts.hold()
    made = await deployments.create(new())
    await asyncio.sleep(0)
    await deployments.retag(made.function.id, add={"a": "b"})
    fronts.release()
    await deployments.settling.idle()
    assert deployments.index.function(made.function.id).stage is Stage.READY
    assert len(fronts.asked) == 2


async def test_reserving_leaves_the_account_its_minimum(deployments):
    one, two = await created(deployments, "one"), await created(deployments, "two")
    await deployments.reserve(one.id, 500)
    with pytest.raises(InvalidSetting):
        await deployments.reserve(two.id, 401)
    await deployments.reserve(two.id, 400)
    assert deployments.unreserved("1", "r") == 100
    await deployments.reserve(one.id, None)
    assert deployments.unreserved("1", "r") == 600


async def test_two_reservations_at_once_cannot_overbook_the_account(deployments):
    functions = [await created(deployments, name) for name in ("one", "two")]
    await asyncio.gather(*(deployments.reserve(f.id, 600) for f in functions), return_exceptions=True)
    assert deployments.unreserved("1", "r") == 400


async def test_tags_are_bounded_and_a_removal_makes_room(deployments):
    function = await created(deployments, tags={f"t{n}": "" for n in range(50)})
    with pytest.raises(InvalidSetting):
        await deployments.retag(function.id, add={"one more": ""})
    await deployments.retag(function.id, add={"one more": ""}, remove=frozenset({"t0"}))
    assert len(deployments.index.function(function.id).tags) == 50


async def test_code_goes_when_nothing_names_it_and_no_call_can_still_run_it(desk, deployments, tmp_path):
    codes = [await deployments.take(zipped(tmp_path / f"{n}.zip", str(n))) for n in range(2)]
    function = await created(deployments, code=codes[0])
    await deployments.update(function, code=codes[1])
    assert await deployments.collect_code() == 0
    await desk.clock.advance(3601)
    assert await deployments.collect_code() == 1
    assert desk.blobs.tree(codes[1]).exists()
    assert not desk.blobs.tree(codes[0]).exists()


def zipped(path, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("app.py", text)
    return path


async def test_a_caller_can_wait_until_its_change_is_in_force(deployments, fronts):
    fronts.hold()
    made = await deployments.create(new())
    waiting = asyncio.create_task(deployments.in_force(made.function.id))
    await asyncio.sleep(0)
    assert not waiting.done()
    fronts.release()
    await waiting
    assert deployments.index.function(made.function.id).stage is Stage.READY


async def test_a_front_that_is_away_is_asked_again_until_it_is_back(tmp_path, monkeypatch):
    """Its failure never loses the change, nor leaves the function busy for ever."""
    monkeypatch.setattr("ondol.core.settling.AGAIN_S_MIN", 0.0)
    fronts = Fronts()
    answers = iter([Unavailable("no front"), OutOfSpace("full"), None])

    async def have(number):
        if error := next(answers, None):
            raise error

    fronts.have = have
    async with desk_over(tmp_path, fronts=fronts) as desk:
        made = await desk.deployments.create(new())
        await desk.settled()
        assert desk.index.function(made.function.id).stage is Stage.READY


async def test_one_name_is_one_function_whichever_dialect_gave_it(deployments):
    await created(deployments, "mine")
    with pytest.raises(AlreadyExists):
        await deployments.create(new("mine", dialect="another"))
    await created(deployments, "mine", dialect="another", region="elsewhere")
