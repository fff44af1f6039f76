"""Our daemons as Mini-NDN applications, over the stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.minindn.stand_in import FakeNode, calls


def test_producer_starts_in_its_nodes_environment(apps: Any, python: str, core: FakeNode) -> None:
    producer = apps.InferProducer(core, python=python, functions="decode", settings={"NODE_SETTING": "core"})
    producer.start()
    try:
        producer.wait_ready(20.0)
        assert producer.process.poll() is None
        # no PYTHONPATH of Mini-NDN's, and the forwarder is the one that client.conf names
        assert calls(core) == ["||core|produce --functions decode --exit-with-parent"]
    finally:
        process = producer.process
        producer.stop()
    assert process.poll() is not None


def test_producer_that_fails_says_why(apps: Any, python: str, core: FakeNode) -> None:
    producer = apps.InferProducer(core, python=python, functions="decode", settings={"BROKEN": "1"})
    producer.start()
    with pytest.raises(apps.InferFailed, match="core: produce decode ended: .*no keys here"):
        producer.wait_ready(20.0)
    producer.stop()


def test_producer_that_never_gets_ready_is_given_up(apps: Any, core: FakeNode, tmp_path: Path) -> None:
    script = tmp_path / "mute"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    producer = apps.InferProducer(core, python=str(script), functions="decode", settings={})
    producer.start()
    with pytest.raises(apps.InferFailed, match="was not ready in time"):
        producer.wait_ready(0.3)
    producer.stop()


def test_an_old_ready_does_not_count(apps: Any, python: str, core: FakeNode) -> None:
    producer = apps.InferProducer(core, python=python, functions="decode", settings={})
    producer.start()
    producer.wait_ready(20.0)
    producer.kill()
    assert not producer.running
    producer.environment["MUTE"] = "1"
    producer.start()
    with pytest.raises(apps.InferFailed, match="was not ready in time"):
        producer.wait_ready(0.3)
    producer.stop()


def test_a_producer_ends_when_we_do(apps: Any, python: str, core: FakeNode) -> None:
    """Whatever ends us closes the pipe."""
    producer = apps.InferProducer(core, python=python, functions="decode", settings={})
    producer.start()
    producer.wait_ready(20.0)
    process = producer.process
    process.stdin.close()
    process.wait(20.0)
    producer.stop()


def test_counters_are_those_of_its_own_node(apps: Any, python: str, core: FakeNode) -> None:
    producer = apps.InferProducer(core, python=python, functions="decode", settings={})
    assert producer.counters() == {"core/decode": {"calls": 1}}


def test_consumer_asks(apps: Any, python: str, core: FakeNode) -> None:
    consumer = apps.InferConsumer(core, python=python, settings={})
    consumer.start()
    assert consumer.ask("Where?")["text"] == "Paris"
    assert calls(core)[-1].endswith("|ask --json --no-embedded -- Where?")
    with pytest.raises(apps.InferFailed, match="core: ask failed: .*nobody answered"):
        consumer.ask("fail")
    with pytest.raises(apps.InferFailed, match="took more than"):
        consumer.run("ask", "--json", "--no-embedded", "--", "sleep", timeout=0.3)
