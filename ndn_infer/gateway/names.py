"""Names by which clients ask for models: aliases and digests of the network, and what this gateway's operator adds.

Owns: option gateway.names. Pure. Must not know: what an alias means.
"""

from __future__ import annotations

from collections.abc import Iterable

from ndn_infer.config.values import named_model
from ndn_infer.gateway.refusal import bad


class ModelNames:
    def __init__(self, given: Iterable[str]) -> None:
        """`given`: NAME=MODEL each; an empty NAME is that of requests that name none."""
        self._models = dict(map(named_model, given))

    def meant(self, name: str) -> str:
        """The alias or digest that a request means by `name`. Raises Refusal for "" where nothing is meant by that."""
        if not name and "" not in self._models:
            raise bad("model is missing: GET /v1/models lists what there is", "model")
        return self._models.get(name, name)

    def of(self, model: str) -> list[str]:
        """Further names of a model."""
        return [name for name, meant in self._models.items() if meant == model and name]
