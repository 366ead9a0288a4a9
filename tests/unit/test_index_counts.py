"""What the index keeps beside its documents agrees with them, whatever changes in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ondol.core.catalog import Index, key_of, put
from ondol.model.functions import Code, Configuration, Handle, Revision
from ondol.model.items import Item
from ondol.store import Change

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
