"""Parameters of the adaptive strategy, and the names that choose it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.forwarder.core.adaptive import ADAPTIVE, Adaptive, Settings, parse_settings
from ndn_infer.forwarder.core.strategy import BEST_ROUTE, StrategyChoice
from ndn_infer.forwarder.core.strategy_base import StrategyError

VERSIONED = ADAPTIVE + ndn.from_uri("/v=5")


def parameters(text: str) -> ndn.Name:
    return VERSIONED + ndn.from_uri(text)


# ------------------------------------------------------------ parameters


def test_parameters() -> None:
    assert parse_settings({}) == Settings(60.0, 3, 300.0, 0.01, 0.25, 2.0)
    given_all = {
        "probing-interval": "30000", "max-timeouts": "5", "measurements-lifetime": "120000",
        "retx-suppression-initial": "20", "retx-suppression-max": "400", "retx-suppression-multiplier": "1.5",
    }  # fmt: skip
    assert parse_settings(given_all) == Settings(30.0, 5, 120.0, 0.02, 0.4, 1.5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/probing-interval~999", "at least 1000"),
        ("/probing-interval~300000", "greater than probing-interval"),
        ("/measurements-lifetime~60000", "greater than probing-interval"),
        ("/probing-interval~-5000", "whole number"),
        ("/probing-interval~1e4", "whole number"),
        ("/probing-interval~" + "9" * 400, "whole number"),
        ("/probing-interval~%D9%A1000", "whole number"),
        ("/max-timeouts~x", "whole number"),
        ("/max-timeouts~-1", "whole number"),
        ("/retx-suppression-multiplier~nan", "a number"),
        ("/retx-suppression-multiplier~0.5", "at least 1"),
        ("/retx-suppression-initial~300", "at most"),
        ("/retx-suppression-initial~0", "above 0"),
        ("/probing-intervall~5000", "no parameter probing-intervall"),
        ("/probing-interval", "name~value"),
        ("/~5", "name~value"),
        ("/max-timeouts~", "name~value"),
        ("/%FF~1", "no parameter"),
    ],
)
def test_bad_parameters(text: str, reason: str) -> None:
    choice = StrategyChoice()
    before = choice.of(ndn.from_uri("/a"))
    with pytest.raises(StrategyError, match=reason):
        choice.set(ndn.from_uri("/a"), parameters(text))
    assert choice.of(ndn.from_uri("/a")) is before


@given(st.dictionaries(st.sampled_from([*Settings.__slots__, "x"]).map(lambda key: key.replace("_", "-")), st.text()))
def test_any_text_is_settings_or_an_error(given_texts: dict[str, str]) -> None:
    try:
        parse_settings(given_texts)
    except StrategyError as error:
        assert "\n" not in str(error)


def test_choosing_by_name() -> None:
    """NFD: parameters follow the version; without a version there is no place for them."""
    choice = StrategyChoice()
    plain = choice.set(ndn.from_uri("/a"), ADAPTIVE)
    assert plain is choice.set(ndn.from_uri("/b"), VERSIONED) is choice.of(ndn.from_uri("/a/x"))
    tuned = choice.set(ndn.from_uri("/c"), parameters("/max-timeouts~5"))
    assert isinstance(tuned, Adaptive) and tuned.settings.max_timeouts == 5
    assert tuned is not plain and tuned.name == parameters("/max-timeouts~5")
    assert choice.set(ndn.from_uri("/d"), parameters("/max-timeouts~5")) is tuned
    assert choice.set(ndn.from_uri("/e"), ADAPTIVE + ndn.from_uri("/max-timeouts~5")) is None
    assert choice.set(ndn.from_uri("/e"), ADAPTIVE + ndn.from_uri("/v=6")) is None
    with pytest.raises(StrategyError, match="AsfStrategy does not support version 4"):
        choice.set(ndn.from_uri("/e"), ADAPTIVE + ndn.from_uri("/v=4"))
    with pytest.raises(StrategyError, match="no parameters"):
        choice.set(ndn.from_uri("/e"), BEST_ROUTE + ndn.from_uri("/v=5/x~1"))
