"""Functions by name: what is refused, what each needs, which process and face it is in, and those of other packages."""

from __future__ import annotations

import importlib
import os
import pkgutil
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from ndn_infer import config as configuration
from ndn_infer import functions
from ndn_infer.errors import UsageError
from ndn_infer.functions import registry
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.registry import FunctionSpec
from ndn_infer.functions.stage import RunStage
from ndn_infer.functions.stage_steps import function_before
from ndn_infer.functions.tokenize import Text
from ndn_infer.kv.holders import HOLDER_ROLES
from ndn_infer.offers.live import offers
from ndn_infer.records import Message

CONFIG = configuration.load(file=Path(os.devnull), environment={})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prefil", "did you mean 'prefill'"), ("stage:a-b", "unknown function 'stage:a-b'"), ("decode:1", "unknown"),
        ("tokenize:x", "unknown"), ("stage", "unknown"), ("a b:C", "unknown"), (":", "unknown"),
        ("", "no function named"),
    ],
)  # fmt: skip
def test_functions_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        registry.known(text.split(",") if text else [])


def test_a_function_of_ones_own_that_is_not_there(tmp_path: Path) -> None:
    assert registry.known(["stage:0-14", "decode:15-29", "my.module:Class", "rag"])
    for name, said in {"no_such.module:X": "no module no_such.module", "json:loads": "is not a NamedFunction"}.items():
        with pytest.raises(UsageError, match=said):
            registry.build([name], registry.Ingredients(CONFIG))


def test_what_functions_need_and_whose_keys() -> None:
    assert registry.needs(["tokenize", "stage:0-14"]) == {"model"}
    assert registry.needs(["rag"]) == {"embedder", "corpus"}
    assert registry.needs(["embed", "decode:15-29"]) == {"model", "embedder"}
    assert registry.roles(["decode:15-29", "prefill"]) == registry.ROLES
    assert registry.ROLES == (
        "tokenize",
        "embed",
        "prefill",
        "decode",
        "stage",
        "audit",
        "classify",
        "guard",
        "rag",
        "cite",
        "user",
    )
    assert set(HOLDER_ROLES) == {spec.role for spec in registry.SPECS.values() if spec.engine}, "an engine holds KV"


def test_offers_are_looked_for_where_each_function_is_answered() -> None:
    for module in pkgutil.walk_packages(functions.__path__, functions.__name__ + "."):
        importlib.import_module(module.name)
    ours = [one for one in _below(NamedFunction) if one.__module__.startswith(functions.__name__)]
    named = {one.function: one.role for one in ours if hasattr(one, "function")}
    assert {function: offers.role_of(function) for function in named} == named and len(named) > 8
    assert offers.role_of(function_before(0, "m" * 32)) == RunStage.role
    assert set(offers.ROLES) == {spec.role for spec in registry.SPECS.values()}


def _below(cls: type) -> list[type]:
    return [one for below in cls.__subclasses__() for one in (below, *_below(below))]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("tokenize,prefill,decode,embed,rag", ["tokenize", "embed", "rag", "prefill,decode"]),
        ("embed,rag,cite,tokenize", ["embed", "rag,cite", "tokenize"]),
        ("cite,tokenize", ["cite", "tokenize"]),
        ("stage:0-14,decode:15-29,decode", ["stage:0-14", "decode:15-29", "decode"]),
    ],
)
def test_functions_that_share_an_engine_are_in_one_process(names: str, expected: list[str]) -> None:
    assert [",".join(group) for group in registry.processes(registry.known(names.split(",")))] == expected


def test_who_calls_others_starts_after_them() -> None:
    groups = registry.processes(registry.known(["rag", "tokenize", "prefill", "decode", "embed"]))
    assert registry.waves(groups) == [[["tokenize"], ["embed"], ["prefill", "decode"]], [["rag"]]]
    assert registry.waves([["rag"], ["tokenize"]]) == [[["rag"], ["tokenize"]]], "what it calls is elsewhere"
    assert registry.waves([]) == [[]]


def test_who_calls_others_of_its_process_is_behind_another_face() -> None:
    assert registry.faces(["tokenize", "prefill", "decode"]) == [["prefill"], ["tokenize", "decode"]]
    assert registry.faces(["rag", "decode", "embed", "prefill"]) == [["embed", "prefill"], ["rag", "decode"]]
    assert registry.faces(["decode", "tokenize"]) == [["decode", "tokenize"]]


# ---------------------------------------------------------------- functions of other packages


class Echo(NamedFunction[Message]):
    function = role = "echo"
    request_type = Message

    def __init__(self, model: str) -> None:
        self.subject = ("model", model)

    async def run(self, request: Message, job: Job) -> Text:
        return Text(request.content)


ECHO = FunctionSpec("echo", "echo", lambda parts: [Echo(parts.model)], registry.MODEL, after=("rag",))
WRONG = FunctionSpec("other", "other", lambda parts: [])


def register(monkeypatch: pytest.MonkeyPatch, **objects: str) -> None:
    found = EntryPoints(EntryPoint(name, f"{__name__}:{what}", registry.GROUP) for name, what in objects.items())
    monkeypatch.setattr(registry, "entry_points", lambda **wanted: found.select(**wanted))


def test_a_registered_function_is_as_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, echo="ECHO", prefill="WRONG")
    assert registry.known(["tokenize", "echo", "rag"]) == ["tokenize", "echo", "rag"]
    assert registry.needs(["echo"]) == {"model"} and registry.roles(["echo"]) == (*registry.ROLES, "echo")
    assert registry.waves([["echo"], ["rag"], ["embed"]]) == [[["embed"]], [["rag"]], [["echo"]]]
    assert registry.faces(["echo", "rag", "embed"]) == [["embed"], ["rag"], ["echo"]]
    (made,) = registry.build(["echo"], registry.Ingredients(CONFIG, model="ab" * 32))
    assert isinstance(made, Echo) and made.subject == ("model", "ab" * 32)
    assert registry.spec_of("prefill") is registry.SPECS["prefill"], "nobody takes a name of ours"
    with pytest.raises(UsageError, match="did you mean 'echo'"):
        registry.known(["ecko"])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("NOT_THERE", "cannot be loaded"),
        ("Echo", "is not the FunctionSpec"),
        ("WRONG", "FunctionSpec of a"),
    ],
)
def test_what_is_registered_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch, what: str, said: str) -> None:
    register(monkeypatch, a=what)
    with pytest.raises(UsageError, match=said):
        registry.build(registry.known(["a"]), registry.Ingredients(CONFIG))
