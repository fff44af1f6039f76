"""Which engine class is asked for an answer.

Owns: this choice, and what producers that refused one offer instead. Must not know: how a request is made or sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ndn_infer.config import Config
from ndn_infer.engine_class import LLAMA, WRONG_ENGINE, EngineClass, weights_label
from ndn_infer.errors import BadRecord, CallError, ConfigError
from ndn_infer.ndn.name import Name

USUAL_MACHINE: Final = "avx512"


def choose_engine(config: Config, offered: Sequence[str] = ()) -> str:
    """The class that a first request names: that of the option ask.engine, else that of a producer with the options of
    [engine] here, on the usual machine; where others are `offered` and that one is not, the first of these. Raises
    ConfigError."""
    engine = config.engine
    try:
        if config.ask.engine:
            return str(EngineClass.parse(config.ask.engine))
    except BadRecord as error:
        raise ConfigError(f"ask.engine: {error}", hint="'ndn-infer status' names the class of each producer") from error
    weights = weights_label(engine.precision, split=engine.dtype == "bf16")
    usual = str(EngineClass(engine.dtype, weights, LLAMA, engine.attention, USUAL_MACHINE, engine.kv_codec))
    return usual if usual in offered or not offered else offered[0]


class EngineChoice:
    """The class to ask for, by model digest; conversations of one client share it."""

    def __init__(
        self, config: Config, offered: Callable[[str], Sequence[str]] = lambda model: (), *,
        may_come: Callable[[str, str, Name], bool] = lambda model, engine, lost: False,
    ) -> None:  # fmt: skip
        """`offered`: classes that producers of a model offer now, the most offered first. `may_come`: as
        Offers.may_come."""
        self._config = config
        self._offered = offered
        self._may_come = may_come
        self._chosen: dict[str, str] = {}
        self._only: set[str] = set()

    def of(self, model: str) -> str:
        """Raises ConfigError."""
        if model not in self._chosen:
            self._chosen[model] = choose_engine(self._config, self._offered(model))
        return self._chosen[model]

    def may_come(self, model: str, lost: Name) -> bool:
        """Whether a producer of the class that is asked for may be there although nothing is heard of it, after `lost`
        has left."""
        return self._may_come(model, self.of(model), lost)

    def only(self, model: str, engine: str) -> None:
        """From now on this class answers for a model, or nobody does. Raises BadRecord for what is no class."""
        self._chosen[model] = str(EngineClass.parse(engine))
        self._only.add(model)

    def refused(self, model: str, error: CallError) -> str:
        """The class to ask for after this refusal: the one that the producer offers. Raises the error where it is
        another one, and where it is said which class is to answer, with the next step."""
        if error.code != WRONG_ENGINE or not error.offered:
            raise error
        try:
            offered = str(EngineClass.parse(error.offered))
        except BadRecord:
            raise error from None
        if self._config.ask.engine or model in self._only:
            hint = f"ask for that class with --set ask.engine={offered}, or start a producer of {self.of(model)}"
            raise CallError(str(error), code=error.code, offered=offered, hint=hint) from error
        self._chosen[model] = offered
        return offered
