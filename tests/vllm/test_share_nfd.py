"""vLLM instances that share KV blocks through an unmodified NFD, which is killed in the end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder
from tests.interop.peers import needs, nfd
from tests.vllm.test_share import BLOCK, alike, bits, whole_blocks
from tests.vllm.world import published, wait_for, world_on

pytestmark = [
    *needs("nfd", "nfdc"),
    pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="make test-vllm"),
    pytest.mark.timeout(560),
]


@pytest.mark.parametrize("count", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_what_one_saved_the_other_has_by_name(smollm2: ModelFolder, tmp_path: Path, count: int) -> None:
    with nfd(tmp_path / "nfd") as peer, world_on(tmp_path, smollm2.path, peer.socket) as world:
        a, b = world.instances["a"], world.instances["b"]
        prompts = world.prompts(count)
        computed, hit = zip(*(a.one_by_one(prompt, prompt) for prompt in prompts), strict=True)  # of its own cache
        wait_for(lambda: published(a))
        reused = b.one_by_one(*prompts)
        assert [answer.cached for answer in reused] == [whole_blocks(prompt) for prompt in prompts]
        assert bits(reused) == bits(list(hit)) and alike(reused, list(computed))
        hits = b.count("external_prefix_cache_hits")
        assert hits == b.count("named_kv_tokens_matched") == BLOCK * b.count("named_kv_kv_blocks_loaded")
        assert peer.process is not None
        os.kill(peer.process.pid, signal.SIGKILL)
        again = [world.prompt(700)]
        wanted = a.one_by_one(*again)
        assert bits(b.one_by_one(*again)) == bits(wanted), "computed"
