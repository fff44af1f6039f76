"""The send queue of a stream face: whatever the system takes at a time, bytes leave whole and in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.wire.send_queue import BUFFERS_AT_A_TIME, SendQueue


@given(st.lists(st.binary(min_size=1, max_size=20)), st.lists(st.integers(1, 50)))
def test_bytes_leave_in_order_in_any_portions(packets: list[bytes], portions: list[int]) -> None:
    queue, out, limits = SendQueue(), b"", iter(portions)
    half = len(packets) // 2
    for packet in packets[:half]:
        queue.append(packet)
    queue.extend(packets[half:], len(b"".join(packets[half:])))
    assert queue.size == len(b"".join(packets))
    while queue.size:
        head = b"".join(queue.head())
        count = min(next(limits, len(head)), len(head))
        out += head[:count]
        queue.sent(count)
    assert out == b"".join(packets)
    assert queue.head() == []


def test_the_head_is_bounded() -> None:
    queue = SendQueue()
    for _ in range(BUFFERS_AT_A_TIME + 5):
        queue.append(b"x")
    assert len(queue.head()) == BUFFERS_AT_A_TIME


def test_clear_forgets_a_packet_sent_in_part() -> None:
    queue = SendQueue()
    queue.append(b"abc")
    queue.sent(1)
    queue.clear()
    queue.append(b"xyz")
    assert b"".join(queue.head()) == b"xyz"
