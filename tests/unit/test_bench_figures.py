"""What the benchmarks make of numbers and of other programs' output; nothing is timed here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import client, cold, figures, load, memory, processes


def test_a_targets_verdict_follows_the_median_not_the_best_round():
    slow = figures.Figure(what="first call", unit="ms", rounds=[7.0, 9.0, 10.0], target="<= 8")
    fast = figures.Figure(what="first call", unit="ms", rounds=[7.0, 8.0, 90.0], target="<= 8")
    rate = figures.Figure(what="calls", unit="/s", rounds=[5999.0], target=">= 6,000")
    assert (slow.met, fast.met, rate.met) == (False, True, False)


def test_a_figure_without_a_target_has_no_verdict():
    figure = figures.Figure(what="p99", unit="ms", rounds=[1.0])
    assert figure.met is None
    assert "| – | 1.00 ms | one round | – |" in figures.row(figure)


def test_a_target_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="a target reads"):
        _ = figures.Figure(what="p99", unit="ms", rounds=[1.0], target="about 7").met


@pytest.mark.parametrize(("percent", "wanted"), [(50, 5), (90, 9), (99, 10), (100, 10), (1, 1)])
def test_a_percentile_is_one_of_the_values(percent, wanted):
    assert figures.percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == wanted


def test_there_is_no_percentile_of_nothing():
    with pytest.raises(ValueError, match="nothing"):
        figures.percentile([], 50)


def test_the_page_keeps_what_the_check_compares():
    section = figures.Section(
        "Warm calls", "Rounds in turn.", [figures.Figure(what="p50", unit="µs", rounds=[100.0, 300.0, 200.0])]
    )
    text = figures.page(["Machine: small."], [section], {"pinned": 2.5, "free": 3.125})
    assert figures.recorded(text) == {"pinned": 2.5, "free": 3.125}
    assert "| p50 | – | 200 µs | 100–300 | – |  |" in text


def test_a_page_without_a_record_gives_nothing_to_compare():
    assert figures.recorded("# What was measured\n") == {}


def test_a_quarter_more_is_allowed_and_anything_above_is_named():
    before = {"pinned": 2.0, "free": 2.0}
    assert figures.regressions(before, {"pinned": 2.5, "free": 1.0}, allowed=0.25) == []
    (sentence,) = figures.regressions(before, {"pinned": 2.6, "free": 2.0}, allowed=0.25)
    assert sentence.startswith("pinned:")
    assert "+30%" in sentence


def test_the_load_generators_last_line_is_read():
    found = load.parse("Running 1s test\nRESULT 5000 1000000 150 2400 1 2 3 4\n")
    assert (found.requests, found.seconds, found.p50_us, found.p99_us, found.failed) == (5000, 1.0, 150, 2400, 10)
    assert found.per_s == 5000


def test_the_first_wrong_answer_is_kept():
    assert load.parse('BAD 403 {"message":"no"}\nRESULT 1 1 1 1 0 0 0 1\n').wrong == '403 {"message":"no"}'


def test_a_load_generator_that_said_nothing_is_an_error():
    with pytest.raises(RuntimeError, match="unable to connect"):
        load.parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_signed_requests_differ_and_carry_their_bodies_and_headers():
    made = load.signed(
        "http://127.0.0.1:1/x",
        [b"{}", b"[]"],
        key="AKIA",
        secret="s",
        region="r",
        service="lambda",
        headers={"X-Amz-Log-Type": "Tail"},
    )
    assert len(set(made)) == 2
    for request, body in zip(made, [b"{}", b"[]"], strict=True):
        head, _, sent = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /x HTTP/1.1\r\n")
        assert b"Host: 127.0.0.1:1" in head
        assert b"x-amz-log-type" in head.partition(b"SignedHeaders=")[2]
        assert sent == body


def _stat(pid, parent, command="", cpu="1 2 3 4", name="python3"):
    return processes.parse_stat(f"{pid} ({name}) S {parent} 1 1 0 -1 4194304 0 0 0 0 {cpu} 20 0 1 0 9 0 0", command)


def test_cpu_time_counts_own_and_waited_for_children_whatever_the_name():
    stat = _stat(7, 3, cpu="10 20 30 40", name="a (b) c")
    assert (stat.pid, stat.parent, stat.cpu_us) == (7, 3, 100 * processes.TICK_US)


def test_a_nodes_processes_are_told_apart():
    stats = [
        _stat(1, 0, "python3 -m ondol.cli.main up"),
        _stat(2, 1, "python3 -I -S keeper/__main__.py"),
        _stat(3, 1, "python3 -P -m ondol.app desk 13"),
        _stat(4, 1, "python3 -P -m ondol.app front 15"),
        _stat(5, 2, "python3 -I -S keeper/__main__.py"),
        _stat(6, 3, "python3 -P -m ondol.blobstores.worker"),
        _stat(7, 5, "python3.11 ondol_guest/zygote.py 22"),
        _stat(8, 5, "cat"),
        _stat(9, 7, "python3.11 ondol_guest/zygote.py 22"),
        _stat(10, 9, "sh -c date"),
    ]
    assert processes.grouped(stats) == {
        1: "supervisor", 2: "keeper", 3: "desk", 4: "front", 5: "keeper", 6: "desk", 7: "zygotes", 8: "guests", 9: "guests", 10: "guests",
    }  # fmt: skip


def test_kibibytes_are_read_by_name_and_other_lines_are_passed_over():
    assert memory.parse_kib(
        "MemAvailable:   24105 kB\nHugePages_Total:  0\n5581-5582 ---p 00000000 [rollup]\nPss: 12 kB\n"
    ) == {
        "MemAvailable": 24105,
        "Pss": 12,
    }


def test_only_a_first_call_has_an_init_duration():
    assert cold.init_ms("REPORT RequestId: x\tDuration: 0.59 ms\tInit Duration: 3.32 ms\t") == 3.32
    with pytest.raises(RuntimeError, match="not a first call"):
        cold.init_ms("REPORT RequestId: x\tDuration: 0.59 ms\t")


def test_a_head_is_read():
    assert client.parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A:b") == (200, {"content-length": "3", "x-a": "b"})


def test_a_failed_call_is_never_counted_as_an_answer():
    good = client.Answer(200, {}, b"{}", 0.0, 1.0)
    wrong = client.Answer(200, {"x-amz-function-error": "Unhandled"}, b"{}", 0.0, 1.0)
    assert client.all_good([good]) == [good]
    for bad in (wrong, ConnectionError("closed")):
        with pytest.raises(RuntimeError, match="1 of 2 calls failed"):
            client.all_good([good, bad])
