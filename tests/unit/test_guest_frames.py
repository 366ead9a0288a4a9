"""Frames and the log's reader: whole however the bytes are cut, and nothing kept without a bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol_guest import frames


def feed_in_pieces(reader, data, size):
    events = []
    for at in range(0, len(data), size):
        events += reader.feed(data[at : at + size])
    return events


def record(text, at_us=5_000, magic=frames.LOG_MAGIC):
    data = text.encode()
    return frames.LOG_HEADER.pack(magic, len(data), at_us) + data


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**64 - 1), st.binary())), st.integers(1, 50)
)
def test_frames_survive_any_cutting(sent, size):
    data = b"".join(frames.pack(kind, invocation, payload, flags) for kind, flags, invocation, payload in sent)
    assert feed_in_pieces(frames.FrameReader(), data, size) == sent


@given(st.dictionaries(st.text(), st.integers()), st.binary())
def test_meta_and_body_come_apart_as_they_were_put_together(meta, body):
    ((_, _, _, payload),) = frames.FrameReader().feed(frames.pack_meta(frames.CALL, 1, meta, body))
    head, rest = frames.split_meta(payload)
    assert (__import__("json").loads(head), rest) == (meta, body)


@pytest.mark.parametrize(
    "data",
    [b"\x02" + bytes(15), frames.HEADER.pack(frames.VERSION, 1, 0, frames.FRAME_BYTES_MAX + 1, 0)],
    ids=["version", "length"],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(frames.BrokenFrame):
        frames.FrameReader().feed(data)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x05\x00\x00\x00abc"])
def test_meta_that_is_cut_is_refused(payload):
    with pytest.raises(frames.BrokenFrame):
        frames.split_meta(payload)


pieces = st.lists(
    st.one_of(
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1).map(
            lambda t: (t + "\n", None)
        ),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda t: (t, 5)),
    )
)


@given(pieces, st.integers(1, 40))
def test_lines_and_records_survive_any_cutting(events, size):
    data = b"".join(text.encode() if at is None else record(text) for text, at in events)
    reader = frames.LogReader(1000)
    assert feed_in_pieces(reader, data, size) + reader.flush() == events


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_bytes_are_read_and_none_are_kept_beyond_the_bound(data, size):
    reader = frames.LogReader(64)
    events = feed_in_pieces(reader, data, size) + reader.flush()
    assert all(text is None or len(text.encode()) <= 3 * 64 for text, _ in events)
    assert reader.flush() == []


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1), st.integers(4, 20), st.booleans()
)
def test_long_text_is_cut_between_characters(text, bound, framed):
    text = text if framed else text.replace("\n", "")
    reader = frames.LogReader(bound)
    events = reader.feed(record(text) if framed else text.encode()) + reader.flush()
    assert "".join(piece for piece, _ in events) == text
    assert all(len(piece.encode()) <= bound for piece, _ in events)


def test_carriage_returns_before_a_newline_go_and_others_stay():
    assert frames.LogReader(99).feed(b"50%\r100%\r\n") == [("50%\r100%\n", None)]


def test_an_unfinished_line_waits_for_its_end_or_a_flush():
    reader = frames.LogReader(99)
    assert reader.feed(b"be") == []
    assert reader.feed(b"gun\nnext") == [("begun\n", None)]
    assert reader.flush() == [("next", None)]


def test_a_record_in_the_middle_of_a_line_divides_it():
    assert frames.LogReader(99).feed(b"no newline" + record("a\nb") + b"then\n") == [
        ("no newline", None),
        ("a\nb", 5),
        ("then\n", None),
    ]


def test_records_of_every_level_are_read():
    assert frames.LogReader(99).feed(record("x", magic=0xA55A0016)) == [("x", 5)]


def test_the_mark_is_no_text():
    assert frames.LogReader(99).feed(frames.LOG_HEADER.pack(frames.LOG_MARK, 0, 7_000)) == [(None, 7)]


def test_a_record_that_claims_too_much_is_text():
    data = frames.LOG_HEADER.pack(frames.LOG_MAGIC, 2**32 - 1, 0) + b"x\n"
    (event,) = frames.LogReader(99).feed(data)
    assert event[0].endswith("x\n")
    assert event[1] is None


def test_a_record_cut_off_by_the_end_is_given_as_far_as_it_came():
    reader = frames.LogReader(99)
    assert reader.feed(record("whole")[:-2]) == []
    assert reader.flush() == [("who", 5)]
