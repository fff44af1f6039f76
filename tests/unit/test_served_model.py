"""--model: a name, and engine options of its own."""

from __future__ import annotations

import pytest

from ndn_infer import config as configuration
from ndn_infer.errors import ConfigError, UnknownModel
from ndn_infer.functions import registry
from ndn_infer.functions.registry import Ingredients
from ndn_infer.local.prepare import served_model

CONFIG = configuration.load(environment={}, flags=["engine.threads=3", "engine.weights=int8"])


def test_a_model_has_the_engine_options_of_the_process_but_for_its_own() -> None:
    plain, own = served_model(CONFIG, "smollm2"), served_model(CONFIG, "org/name,weights=int4,dtype=fp32")
    assert (plain.name, plain.config, plain.text) == ("smollm2", CONFIG, "smollm2")
    assert (own.name, own.text) == ("org/name", "org/name,weights=int4,dtype=fp32")
    engine = own.config.engine
    assert (engine.weights, engine.dtype, engine.threads) == ("int4", "fp32", 3)
    assert own.config.fetch == CONFIG.fetch and own.config.origins["engine.weights"] == "--model"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("m,weights=int5", "--model: engine.weights is one of"),
        ("m,weigths=int4", "unknown configuration key 'engine.weigths'; did you mean 'weights'"),
        ("m,threads=many", "--model: engine.threads is"),
    ],
)
def test_options_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        served_model(CONFIG, text)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UnknownModel):
        served_model(CONFIG, "no name,weights=int4")


def test_what_needs_no_model_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[str, str]] = []

    def spec(name: str, *needs: str) -> registry.FunctionSpec:
        def build(parts: Ingredients) -> list[object]:
            built.append((name, parts.model))
            return []

        return registry.FunctionSpec(name, name, build, frozenset(needs))  # type: ignore[arg-type]

    monkeypatch.setattr(
        registry, "SPECS", {"of": spec("of", "model"), "no": spec("no"), "both": spec("both", "corpus")}
    )
    registry.build(["of", "no", "both"], Ingredients(CONFIG, "a"), Ingredients(CONFIG, "b"))
    assert built == [("of", "a"), ("of", "b"), ("no", "a"), ("both", "a")]
