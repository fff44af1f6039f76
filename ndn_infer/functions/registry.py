"""Which functions exist and how each is built.

Owns: the names that `ndn-infer produce --functions` takes. Must not know: the network. A function of your own is named
`package.module:Class` and is built without arguments (docs/adding_a_function.md).
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ndn_infer.config import Config
from ndn_infer.errors import EngineUnavailable, UsageError
from ndn_infer.functions.base import NamedFunction

if TYPE_CHECKING:
    from ndn_infer.corpus.corpus import Corpus
    from ndn_infer.functions.engine_host import EngineHost
    from ndn_infer.functions.engine_worker import EngineWorker
    from ndn_infer.functions.stage_host import StageHost

Functions = list[NamedFunction[Any]]


@dataclass(slots=True)
class Ingredients:
    """What functions are built from. `folders` maps model digests to prepared folders."""

    config: Config
    model: str = ""
    folder: Path | None = None
    embedder: str = ""
    embedder_folder: Path | None = None
    corpus: Corpus | None = None
    _engine: EngineHost | None = field(default=None)
    _workers: list[EngineWorker] = field(default_factory=list)

    def engine(self) -> EngineHost:
        """The engine as functions behind one face use it; there is one in a process."""
        from ndn_infer.functions.engine_host import EngineHost, engine_worker

        assert self.folder is not None
        if not self._workers:
            self._workers.append(engine_worker(self.folder, self.config.engine))
        if self._engine is None:
            self._engine = EngineHost(self.model, self.folder, self.config.engine, self._workers[0])
        return self._engine

    def behind_another_face(self) -> Ingredients:
        """The same for functions behind another face of this process: they share the engine, but neither KV blocks at
        hand nor what was published."""
        return replace(self, _engine=None)


def _tokenize(parts: Ingredients) -> Functions:
    from ndn_infer.functions.tokenize import Detokenize, Tokenize

    assert parts.folder is not None
    return [Tokenize(parts.model, parts.folder), Detokenize(parts.model, parts.folder)]


def _embed(parts: Ingredients) -> Functions:
    from ndn_infer.functions.embed import EmbedTexts, EmbedTokens

    functions: Functions = []
    if parts.folder is not None:
        functions.append(EmbedTokens(parts.model, parts.folder))
    if parts.embedder_folder is not None:
        functions.append(EmbedTexts(parts.embedder, parts.embedder_folder))
    return functions


def _prefill(parts: Ingredients) -> Functions:
    from ndn_infer.functions.prefill import Prefill

    return [Prefill(parts.model, parts.engine())]


def _decode(parts: Ingredients) -> Functions:
    from ndn_infer.functions.decode import Generate

    assert parts.folder is not None
    return [Generate(parts.model, parts.folder, parts.engine())]


def _stage(parts: Ingredients, layers: tuple[int, int]) -> Functions:
    from ndn_infer.functions.stage import RunStage

    return [RunStage(_stage_host(parts, layers))]


def _last_stage(parts: Ingredients, layers: tuple[int, int]) -> Functions:
    from ndn_infer.functions.pipeline import GenerateOverStages

    assert parts.folder is not None
    return [GenerateOverStages(parts.folder, _stage_host(parts, layers))]


def _stage_host(parts: Ingredients, layers: tuple[int, int]) -> StageHost:
    from ndn_infer.functions.stage_host import StageHost

    assert parts.folder is not None
    return StageHost(parts.model, parts.folder, layers, parts.config.engine)


def _rag(parts: Ingredients) -> Functions:
    from ndn_infer.functions.rag import Lookup

    assert parts.corpus is not None
    return [Lookup(parts.corpus, parts.embedder)]


BUILDERS: Final[dict[str, Callable[[Ingredients], Functions]]] = {
    "tokenize": _tokenize,
    "embed": _embed,
    "prefill": _prefill,
    "decode": _decode,
    "rag": _rag,
}

OF_LAYERS: Final[dict[str, Callable[[Ingredients, tuple[int, int]], Functions]]] = {
    "stage": _stage,
    "decode": _last_stage,
}
"""Functions that some layers of a model are enough for, named like stage:0-14."""

NEEDS_MODEL: Final = frozenset({"tokenize", "prefill", "decode", "stage"})

_LAYERS: Final = re.compile(r"(stage|decode):(\d{1,5})-(\d{1,5})")
_OWN: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def kind(name: str) -> str:
    """What a function's name is without its layers; "" for a function of one's own."""
    if _LAYERS.fullmatch(name):
        return name.partition(":")[0]
    return "" if ":" in name else name


def parse(text: str) -> list[str]:
    """Function names from a comma-separated list. Raises UsageError for unknown ones."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    ours = (*BUILDERS, *OF_LAYERS)
    unknown = [
        name for name in names
        if name not in BUILDERS and not _LAYERS.fullmatch(name)
        and (not _OWN.fullmatch(name) or name.partition(":")[0] in ours)
    ]  # fmt: skip
    if unknown or not names:
        near = difflib.get_close_matches(unknown[0], ours, n=1) if unknown else []
        what = f"unknown function {unknown[0]!r}" if unknown else "no function named"
        what += f"; did you mean {near[0]!r}?" if near and near[0] != unknown[0] else ""
        raise UsageError(
            what,
            hint=f"functions are {', '.join(BUILDERS)}, stage:FIRST-LAST and decode:FIRST-LAST of a model's "
            "layers, or package.module:Class for your own",
        )
    return list(dict.fromkeys(names))


def build(names: Sequence[str], parts: Ingredients) -> Functions:
    """The functions of these names. Raises UsageError, EngineUnavailable when a package is missing."""
    functions: Functions = []
    for name in names:
        try:
            layers = _LAYERS.fullmatch(name)
            if layers:
                functions.extend(OF_LAYERS[layers[1]](parts, (int(layers[2]), int(layers[3]))))
            else:
                functions.extend(BUILDERS[name](parts) if name in BUILDERS else [_own(name)])
        except ModuleNotFoundError as error:
            raise EngineUnavailable(f"function {name} needs the package {error.name}") from error
    return functions


def _own(path: str) -> NamedFunction[Any]:
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # it is there, and needs a package that is not
        raise UsageError(f"there is no module {module_name}", hint="is its folder on PYTHONPATH?") from error
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, NamedFunction)):
        raise UsageError(f"{path} is not a NamedFunction", hint="docs/adding_a_function.md shows what one looks like")
    return cls()
