"""Which functions exist, and all that is said of each.

Owns: the names that `ndn-infer produce --functions` takes, and what follows from them: roles, what must be ready, which
process and which face. Must not know: the network. A function of your own is named `package.module:Class` and is built
without arguments, or registered by its package as a FunctionSpec (docs/adding_a_function.md).
"""

from __future__ import annotations

import difflib
import importlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ndn_infer.config import Config
from ndn_infer.errors import EngineUnavailable, UsageError
from ndn_infer.functions.base import NamedFunction
from ndn_infer.node.keys import USER
from ndn_infer.security.domains import PUBLIC, Domain

if TYPE_CHECKING:
    from ndn_infer.corpus.corpus import Corpus
    from ndn_infer.functions.answer_engine import AnswerEngine
    from ndn_infer.functions.engine_worker import EngineWorker
    from ndn_infer.functions.kv_answer import AnsweringHost
    from ndn_infer.functions.stage_host import StageHost
    from ndn_infer.functions.vllm_answer import VllmHost

log = logging.getLogger(__name__)

Functions = list[NamedFunction[Any]]


@dataclass(slots=True)
class Ingredients:
    """What the functions of one model are built from: digests and folders of what was made ready, as far as they need
    it. A process that serves several models has one for each, with the engine options of that model in `config`; the
    first has embedder, classifier and corpus."""

    config: Config
    model: str = ""
    folder: Path | None = None
    embedder: str = ""
    embedder_folder: Path | None = None
    classifier: str = ""
    classifier_folder: Path | None = None
    corpus: Corpus | None = None
    corpus_domain: Domain = PUBLIC
    """Where the corpus is served; in a tenant domain under `corpus_alias`, if it has one."""
    corpus_alias: str = ""
    _engine: AnsweringHost | None = field(default=None)
    _workers: list[EngineWorker] = field(default_factory=list)
    _vllm: list[VllmHost] = field(default_factory=list)

    def engine(self) -> AnsweringHost:
        """The engine as functions behind one face use it; a process has one for each model."""
        from ndn_infer.functions.engine_host import engine_worker
        from ndn_infer.functions.kv_answer import AnsweringHost

        assert self.folder is not None
        if not self._workers:
            self._workers.append(engine_worker(self.folder, self.config.engine))
        if self._engine is None:
            self._engine = AnsweringHost(self.model, self.folder, self.config.engine, self._workers[0])
        return self._engine

    def answer_engine(self) -> AnswerEngine:
        """What answers are computed by: our engine, or vLLM, of which a process has one for each model."""
        if self.config.engine.backend != "vllm":
            return self.engine()
        from ndn_infer.functions.vllm_answer import VllmHost

        assert self.folder is not None
        if not self._vllm:
            self._vllm.append(VllmHost(self.folder, self.config.engine))
        return self._vllm[0]

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

    if parts.config.engine.backend == "vllm":
        log.warning("prefill is not offered: vLLM's KV has a form and names of its own (docs/vllm.md)")
        return []
    return [Prefill(parts.model, parts.engine())]


def _decode(parts: Ingredients) -> Functions:
    from ndn_infer.functions.decode import Generate

    assert parts.folder is not None
    return [Generate(parts.model, parts.folder, parts.answer_engine())]


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
    from ndn_infer.functions.rag import CorpusPlace, corpus_functions

    assert parts.corpus is not None
    place = CorpusPlace(parts.corpus_domain, parts.corpus_alias)
    return [*corpus_functions(parts.corpus, parts.embedder, place)]


def _audit(parts: Ingredients) -> Functions:
    from ndn_infer.functions.audit.function import AuditAnswers

    assert parts.folder is not None
    return [AuditAnswers(parts.model, parts.folder, parts.engine())]


def _classify(parts: Ingredients) -> Functions:
    from ndn_infer.functions.classify import ClassifyTexts

    assert parts.classifier_folder is not None
    return [ClassifyTexts(parts.classifier, parts.classifier_folder)]


def _guard(parts: Ingredients) -> Functions:
    from ndn_infer.functions.guard.function import JudgeAnswers, ScreenTexts
    from ndn_infer.functions.guard.policies import ReadyPolicies

    policies = ReadyPolicies()
    return [JudgeAnswers(policies), ScreenTexts(policies)]


def _cite(parts: Ingredients) -> Functions:
    from ndn_infer.functions.cite import CheckCitations

    return [CheckCitations()]


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """An entry of `--functions`: all that is said of it, in one place.

    `role`: whose key signs its answers. `build`: makes it. `needs`: of "model", "embedder", "classifier" and "corpus",
    what is made ready before. `after`: entries that it calls. They are offered before it, and in one process behind
    another face, since no forwarder sends an Interest back to the face it came from. `engine`: it shares one engine
    with the others of its process. `beside`: an entry in whose process it is, where that is offered too; it is too
    small for its own. `layers`: makes it for some layers of a model, under a name like stage:0-14.

    A package of its own registers one under the entry point group `ndn_infer.functions` (docs/adding_a_function.md).
    """

    name: str
    role: str
    build: Callable[[Ingredients], Sequence[NamedFunction[Any]]] | None = None
    needs: frozenset[str] = frozenset()
    after: tuple[str, ...] = ()
    engine: bool = False
    beside: str = ""
    layers: Callable[[Ingredients, tuple[int, int]], Functions] | None = None


MODEL: Final = frozenset({"model"})

SPECS: Final = {
    spec.name: spec
    for spec in (
        FunctionSpec("tokenize", "tokenize", _tokenize, MODEL),
        FunctionSpec("embed", "embed", _embed, frozenset({"model", "embedder"})),
        FunctionSpec("prefill", "prefill", _prefill, MODEL, engine=True),
        FunctionSpec("decode", "decode", _decode, MODEL, after=("prefill",), engine=True, layers=_last_stage),
        FunctionSpec("stage", "stage", needs=MODEL, layers=_stage),
        FunctionSpec("audit", "audit", _audit, MODEL, after=("decode",)),
        FunctionSpec("classify", "classify", _classify, frozenset({"classifier"})),
        FunctionSpec("guard", "guard", _guard, after=("decode", "embed", "classify")),
        FunctionSpec("rag", "rag", _rag, frozenset({"embedder", "corpus"}), after=("embed",)),
        FunctionSpec("cite", "cite", _cite, after=("rag",), beside="rag"),
    )
}
"""Those of this package."""

ROLES: Final = (*(spec.role for spec in SPECS.values()), USER)
"""Roles of a machine unless it is told otherwise: those of the functions here, and that of who asks."""

GROUP: Final = "ndn_infer.functions"

_PAGE: Final = "docs/adding_a_function.md shows what one looks like"
_LAYERS: Final = re.compile(r"(stage|decode):(\d{1,5})-(\d{1,5})")
_OWN: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def spec_of(name: str) -> FunctionSpec:
    """What is said of an entry, with or without layers. Raises UsageError."""
    ours = SPECS.get(name.partition(":")[0])
    if ours is not None:
        return ours
    if ":" in name:
        own = _own(name)
        return FunctionSpec(name, own.role, lambda parts: [own()])
    found = tuple(entry_points(group=GROUP, name=name))
    if len(found) != 1:
        raise UsageError(f"{len(found)} packages register a function {name}")
    (entry,) = found
    try:
        spec = entry.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"function {name} of {entry.value} cannot be loaded: {error}") from error
    if not isinstance(spec, FunctionSpec) or spec.name != name or spec.build is None:
        raise UsageError(f"{entry.value} is not the FunctionSpec of {name}", hint=_PAGE)
    return spec


def known(names: Sequence[str]) -> list[str]:
    """Function names, each once. Raises UsageError for unknown ones."""
    ours = [*SPECS, *entry_points(group=GROUP).names]
    whole = {name for name in ours if name not in SPECS or SPECS[name].build is not None}
    unknown = [
        name for name in names
        if name not in whole and not _LAYERS.fullmatch(name)
        and (not _OWN.fullmatch(name) or name.partition(":")[0] in ours)
    ]  # fmt: skip
    if unknown or not names:
        near = difflib.get_close_matches(unknown[0], ours, n=1) if unknown else []
        what = f"unknown function {unknown[0]!r}" if unknown else "no function named"
        what += f"; did you mean {near[0]!r}?" if near and near[0] != unknown[0] else ""
        every = ", ".join(name for name in ours if name in whole)
        raise UsageError(
            what,
            hint=f"functions are {every}, stage:FIRST-LAST and decode:FIRST-LAST of a model's layers, or "
            "package.module:Class for your own",
        )
    return list(dict.fromkeys(names))


def needs(names: Sequence[str]) -> frozenset[str]:
    """What must be made ready for these functions."""
    return frozenset[str]().union(*(spec_of(name).needs for name in names))


def roles(names: Sequence[str]) -> tuple[str, ...]:
    """Roles of a machine that offers these functions."""
    return tuple(dict.fromkeys((*ROLES, *(spec_of(name).role for name in names))))


def processes(names: Sequence[str]) -> list[list[str]]:
    """Functions by the process that offers them. Those that can share an engine are in one: a model's weights take most
    of the memory."""
    together = [name for name in names if ":" not in name and spec_of(name).engine]
    guests = [name for name in names if spec_of(name).beside in names]
    rest = [
        [name, *(guest for guest in guests if spec_of(guest).beside == name)]
        for name in names if name not in together and name not in guests
    ]  # fmt: skip
    return [*rest, together] if together else rest


def waves(groups: Sequence[list[str]]) -> list[list[list[str]]]:
    """Processes by when they start: the functions that others of them call are offered before."""
    late = [group for group in groups if any(_calls(group, other) for other in groups if other is not group)]
    if not late or len(late) == len(groups):
        return [list(groups)]
    return [[group for group in groups if group not in late], *waves(late)]


def faces(names: Sequence[str]) -> list[list[str]]:
    """Functions of one process by the face that they are behind, those that others call first."""
    called = [name for name in names if _calls(names, [name])]
    if not called or len(called) == len(names):
        return [list(names)]
    return [*faces(called), [name for name in names if name not in called]]


def _calls(names: Sequence[str], others: Sequence[str]) -> bool:
    return any(name in others for caller in names for name in spec_of(caller).after)


def build(names: Sequence[str], *models: Ingredients) -> Functions:
    """The functions of these names, those that need a model once for each. Raises UsageError, EngineUnavailable when a
    package is missing."""
    functions: Functions = []
    for name in names:
        try:
            spec, layers = spec_of(name), _LAYERS.fullmatch(name)
            for parts in models if "model" in spec.needs else models[:1]:
                if layers and spec.layers is not None:
                    functions.extend(spec.layers(parts, (int(layers[2]), int(layers[3]))))
                elif spec.build is not None:
                    functions.extend(spec.build(parts))
        except ModuleNotFoundError as error:
            raise EngineUnavailable(f"function {name} needs the package {error.name}") from error
    return functions


def _own(path: str) -> type[NamedFunction[Any]]:
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # it is there, and needs a package that is not
        raise UsageError(f"there is no module {module_name}", hint="is its folder on PYTHONPATH?") from error
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, NamedFunction)):
        raise UsageError(f"{path} is not a NamedFunction", hint=_PAGE)
    return cls
