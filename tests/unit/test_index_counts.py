"""What the index keeps beside its documents agrees with them, whatever changes in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ondol.core.catalog import Index, key_of, put
from ondol.model.deferrals import Deferral
from ondol.model.functions import Alias, Code, Configuration, Function, Handle, Pin, Revision, Stage, Version
from ondol.model.items import Item
from ondol.model.principals import AccessKey
from ondol.store import Change, Document, packed

CONFIGURATION = Configuration(contract="c", runtime="r", handler="h")
SMALL = st.integers(0, 2)


def revision(function, name, account, size):
    return Revision(
        id=f"r{name}", account=f"a{account}", region="here", function=f"f{function}", name="n", created_s=0.0,
        code=Code(sha256="0", zipped_bytes=size, unpacked_bytes=size), configuration=CONFIGURATION,
    )  # fmt: skip


def handle(name, function):
    return Handle(dialect="d", account="a", region="here", name=f"n{name}", function=f"f{function}")


def item(kind, account, name, code):
    return Item(dialect="d", kind=f"k{kind}", account=f"a{account}", region="", name=f"n/{name}", codes=(f"c{code}",))


NOUNS = st.one_of(
    st.builds(revision, SMALL, SMALL, SMALL, st.integers(0, 99)),
    st.builds(handle, SMALL, SMALL),
    st.builds(item, SMALL, SMALL, SMALL, SMALL),
)
NAMES = st.sampled_from(["f0", "f1"])
OTHERS = st.one_of(
    st.builds(Function, id=NAMES, account=NAMES, region=NAMES, name=NAMES, latest=NAMES, created_s=st.just(1.5)),
    st.builds(Version, function=NAMES, number=st.integers(-1, 2), revision=NAMES, stage=st.sampled_from(Stage)),
    st.builds(Alias, function=NAMES, name=NAMES, version=st.none() | SMALL),
    st.builds(Pin, function=NAMES, qualifier=st.none() | NAMES, environments=SMALL),
    st.builds(Deferral, function=NAMES, qualifier=st.none() | NAMES, retries_max=st.none() | SMALL),
    st.builds(AccessKey, id=NAMES, secret=NAMES, account=NAMES, created_s=st.just(1.5)),
)


@given(st.lists(st.tuples(NOUNS | OTHERS, st.booleans()), max_size=60))
def test_its_documents_are_those_that_were_written(steps):
    index, there = Index(), {}
    for number, (noun, gone) in enumerate(steps, 1):
        written = put(noun)
        index.apply(Change(number, written.key, None if gone else written.value))
        there.pop(written.key, None)
        if not gone:
            there[written.key] = packed(Document(written.key, written.value, number))
    assert {each.key: each for each in index.packed()} == there


@given(st.lists(st.tuples(NOUNS, st.booleans()), max_size=40))
def test_counts_and_reverse_tables_are_those_of_what_is_there(steps):
    index, there = Index(), {}
    for number, (noun, gone) in enumerate(steps, 1):
        key = key_of(noun)
        index.apply(Change(number, key, None if gone else put(noun).value))
        there.pop(key, None)
        if not gone:
            there[key] = noun
    revisions = [noun for noun in there.values() if isinstance(noun, Revision)]
    handles = [noun for noun in there.values() if isinstance(noun, Handle)]
    items = [noun for noun in there.values() if isinstance(noun, Item)]
    for account in ("a0", "a1", "a2"):
        assert index.stored_bytes(account, "here") == sum(r.code.zipped_bytes for r in revisions if r.account == account)
        for kind in ("k0", "k1", "k2"):
            wanted = sorted((i for i in items if (i.kind, i.account) == (kind, account)), key=lambda i: i.name)
            assert index.items("d", kind, account, "") == wanted
    for function in ("f0", "f1", "f2"):
        assert {r.id for r in index.revisions(function)} == {r.id for r in revisions if r.function == function}
        assert {h.name for h in index.handles(function)} == {h.name for h in handles if h.function == function}
    assert len(index.revisions()) == len(revisions)
    assert index.item_codes() == {code for i in items for code in i.codes}
    assert all(index.item(i.dialect, i.kind, i.account, i.region, i.name) == i for i in items)
