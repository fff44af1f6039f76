"""vLLM's requests and scheduler output, as the scheduler's half takes them.

Owns: what of a request goes into its chain, whether it is named at all. Reads attributes of vLLM's objects, and imports
none of its modules. Must not know: the network.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ndn_infer.errors import NdnInferError
from ndn_infer.vllm.book import Scheduled
from ndn_infer.vllm.model_digest import weights_digest
from ndn_infer.vllm.naming import BlockChain, InputSpan, Salted
from ndn_infer.vllm.settings import ConnectorSettings
from ndn_infer.vllm.tenants import SaltDomains

log = logging.getLogger(__name__)


class RequestReader:
    """`known`: the file in which digests of adapters are remembered."""

    def __init__(self, settings: ConnectorSettings, domains: SaltDomains, block_tokens: int, known: Path) -> None:
        self._settings = settings
        self._domains = domains
        self._block_tokens = block_tokens
        self._known = known

    def chain(self, request: Any) -> BlockChain | None:
        """None for a request that is not shared: its cache_salt is of no domain here, it has embeddings instead of
        token ids, or inputs that are not to be named, or an adapter that cannot be hashed."""
        salt = request.cache_salt or ""
        inputs = tuple(request.mm_features or ())
        embedded = request.prompt_embeds is not None or getattr(request, "prompt_is_token_ids", None) is not None
        if embedded or (inputs and self._settings.inputs == "off"):
            return None
        try:
            domain = self._domains.of_salt(salt)
            if domain is None:
                return None
            adapter = request.lora_request
            digest = weights_digest(Path(adapter.lora_path), self._known) if adapter is not None else ""
            salted = Salted(digest, salt, tuple(map(_span, inputs)))
            return BlockChain(domain, self._block_tokens, salted)
        except NdnInferError as error:
            log.warning("a request is not shared: %s", error)
            return None


def _span(feature: Any) -> InputSpan:
    return InputSpan(str(feature.identifier), int(feature.mm_position.offset), int(feature.mm_position.length))


def scheduled_in(output: Any, requests: Mapping[str, Any]) -> list[Scheduled]:
    """What was scheduled of each of these requests."""
    tokens, steps = output.num_scheduled_tokens, []
    for new in output.scheduled_new_reqs:
        request = requests.get(new.req_id)
        if request is not None:
            ids, count = request.all_token_ids, tokens[new.req_id]
            steps.append(Scheduled(new.req_id, new.block_ids[0], new.num_computed_tokens, count, ids, True))
    cached = output.scheduled_cached_reqs
    for at, name in enumerate(cached.req_ids):
        request, blocks = requests.get(name), cached.new_block_ids[at]
        if request is not None:
            steps.append(
                Scheduled(
                    name, blocks[0] if blocks else (), cached.num_computed_tokens[at], tokens[name],
                    request.all_token_ids, name in cached.resumed_req_ids,
                )
            )  # fmt: skip
    return steps
