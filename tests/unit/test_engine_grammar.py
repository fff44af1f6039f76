"""Answers within a grammar: what is generated obeys it, and its tokens depend on nothing but the request."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("llguidance")
transformers = pytest.importorskip("transformers")

import torch  # noqa: E402

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine, Stream  # noqa: E402
from ndn_infer.engine.fallback import load_model  # noqa: E402
from ndn_infer.engine.grammar import Grammars  # noqa: E402
from ndn_infer.engine.tokenizer import ChatTokenizer  # noqa: E402
from ndn_infer.errors import EngineUnavailable, UsageError  # noqa: E402
from ndn_infer.records import grammar  # noqa: E402
from ndn_infer.records.grammar import Grammar  # noqa: E402
from ndn_infer.records.sampling import Sampling, TokenBias  # noqa: E402
from tests.unit.test_engine_tokenizer import byte_tokenizer  # noqa: E402

END = 260
PROMPT = tuple(range(40, 75))
PERSON = grammar.of_json_schema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "born": {"type": "integer", "minimum": 1800, "maximum": 1999},
            "tags": {"type": "array", "items": {"enum": ["a", "bc"]}, "minItems": 1, "maxItems": 3},
        },
        "required": ["name", "born", "tags"],
        "additionalProperties": False,
    }
)
TOOLS = [("look_up", {"type": "object", "properties": {"id": {"type": "integer", "maximum": 99}}, "required": ["id"],
                      "additionalProperties": False}), ("stop", {"type": "object", "maxProperties": 0})]  # fmt: skip
CALL = re.compile(r'<tool_call>\n\{"name": "(look_up|stop)", "arguments": (\{[^\n]*\})\}\n</tool_call>')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=270, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, bos_token_id=1, eos_token_id=END,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


class Made:
    """Engines over the same weights, and the text of what they say."""

    def __init__(self, folder: Path) -> None:
        options = EngineConfig("bf16", "int8")
        self.model = load_model(folder, options)
        self.grammars = Grammars(folder, self.model.config.vocab_size)
        self.tokenizer = ChatTokenizer.load(folder)

    def engine(self, **options: object) -> Engine:
        given = {"dtype": "bf16", "weights": "int8", "chunk_tokens": 32, "block_tokens": 16, **options}
        return Engine(self.model, EngineConfig(**given), self.grammars)  # type: ignore[arg-type]

    def text(self, stream: Stream) -> str:
        return self.tokenizer.decode(stream.generated)


@pytest.fixture(scope="module")
def made(folder: Path) -> Made:
    return Made(folder)


def run(engine: Engine, *streams: Stream) -> list[list[int]]:
    while any(stream.finished is None for stream in streams):
        engine.step()
    return [stream.generated for stream in streams]


def sampled(of: Grammar, seed: int, **more: object) -> Sampling:
    return Sampling(200, temperature=1.0, seed=seed, grammar=of, stop_ids=(END,), **more)  # type: ignore[arg-type]


def is_person(text: str) -> bool:
    value = json.loads(text)
    return (
        list(value) == ["name", "born", "tags"] and len(value["name"]) <= 5 and type(value["born"]) is int
        and 1800 <= value["born"] < 2000 and 1 <= len(value["tags"]) <= 3 and set(value["tags"]) <= {"a", "bc"}
        and text == json.dumps(value, ensure_ascii=False)
    )  # fmt: skip


def is_call(text: str) -> bool:
    found = CALL.fullmatch(text)
    if found is None:
        return False
    arguments = json.loads(found[2])
    return arguments == {} if found[1] == "stop" else list(arguments) == ["id"] and arguments["id"] < 100


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_what_is_generated_obeys_whatever_the_seed(made: Made, seed: int) -> None:
    engine = made.engine()
    asked = [
        (PERSON, is_person),
        (grammar.of_regex(r"[a-f]{3}-\d{2,4}"), lambda text: re.fullmatch(r"[a-f]{3}-[0-9]{2,4}", text)),
        (grammar.of_choice(["yes", "no", 'né\n"\\']), lambda text: text in ("yes", "no", 'né\n"\\')),
        (grammar.of_gbnf('root ::= "a" b{1,3}\nb ::= [0-9] ";"'), lambda text: re.fullmatch("a([0-9];){1,3}", text)),
        (grammar.of_lark('start: "x" ("," N){2}\nN: /[1-9]/'), lambda text: re.fullmatch("x(,[1-9]){2}", text)),
        (grammar.of_tools(TOOLS, required=True), is_call),
    ]
    streams = [engine.start(PROMPT, sampled(of, seed)) for of, _ in asked]
    run(engine, *streams)
    for stream, (of, obeys) in zip(streams, asked, strict=True):
        assert stream.finished == "stop", of.kind
        assert stream.generated[-1] == END
        assert obeys(made.text(stream)), (of.kind, made.text(stream))


def test_several_calls_and_text_before_them(made: Made) -> None:
    grammars = made.grammars
    call = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'

    def takes(of: Grammar, text: str) -> bool:
        """Whether an answer may have this text and end."""
        try:
            return bool(grammars.matcher(of, made.tokenizer.encode(text)).allowed()[END])
        except UsageError:
            return False

    once, more = (grammar.of_tools(TOOLS, parallel=parallel) for parallel in (False, True))
    for of in (once, more):
        assert takes(of, "Nothing to <call> here.")
        assert takes(of, f"I ask: {call}")
        assert not takes(of, f"{call} and so on")
        assert not takes(of, "a <tool_call> b")
        assert not takes(of, call.replace("stop", "start"))
    assert takes(more, f"{call}\n{call}")
    assert not takes(once, f"{call}\n{call}")
    must = grammar.of_tools(TOOLS, required=True)
    assert takes(must, call)
    assert not takes(must, f"I ask: {call}")
    number = grammar.of_json_schema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
                                     "additionalProperties": False})  # fmt: skip
    formed = grammar.of_tools(TOOLS, parallel=True, otherwise=number)
    assert takes(formed, call) and takes(formed, f"{call}\n{call}") and takes(formed, '{"n": 7}')
    for text in ("Nothing.", f"I ask: {call}", f'{{"n": 7}}{call}', f'{call}{{"n": 7}}', '{"m": 7}', ""):
        assert not takes(formed, text)
    any_object = grammar.of_tools(TOOLS, otherwise=grammar.of_json_object())
    assert takes(any_object, '{"m": "<tool_call>"}') and not takes(any_object, "[]")


@pytest.mark.parametrize("seed", [0, 5])
def test_tokens_do_not_depend_on_company_guesses_or_preemption(made: Made, seed: int) -> None:
    asked = [sampled(PERSON, seed), sampled(grammar.of_tools(TOOLS), seed, repetition_penalty=1.1)]
    alone: list[list[int]] = []
    for params in asked:
        engine = made.engine()
        alone += run(engine, engine.start(PROMPT, params))
    for options in ({"speculation": "ngram"}, {"kv_memory_mib": 1, "block_tokens": 16, "max_streams": 3}):
        engine = made.engine(**options)
        others = [engine.start(PROMPT[at:], Sampling(60, temperature=1.0, seed=at)) for at in range(4)]
        streams = [engine.start(PROMPT, params) for params in asked]
        run(engine, *others, *streams)
        assert [stream.generated for stream in streams] == alone, options


def test_forced_tokens_take_no_steps_of_their_own(made: Made) -> None:
    engine = made.engine()
    of = grammar.of_json_schema({"properties": {"a_rather_long_name_of_a_property": {"type": "boolean"}},
                                 "required": ["a_rather_long_name_of_a_property"], "type": "object",
                                 "additionalProperties": False})  # fmt: skip
    stream = engine.start(PROMPT, sampled(of, 1))
    run(engine, stream)
    assert len(stream.generated) > 40
    assert engine.counters.steps < len(stream.generated) / 3


@pytest.mark.parametrize("options", [{}, {"speculation": "ngram"}])
def test_an_answer_goes_on_within_its_grammar_from_every_position(made: Made, options: dict[str, object]) -> None:
    params = sampled(PERSON, 7, frequency_penalty=0.3)
    engine = made.engine(**options)
    [whole] = run(engine, engine.start(PROMPT, params))
    for at in range(1, len(whole), 3):
        engine = made.engine(**options)
        rest = engine.start((*PROMPT, *whole[:at]), params, answered=at)
        assert run(engine, rest) == [whole[at:]], at


def test_an_answer_that_does_not_follow_the_grammar_is_not_continued(made: Made) -> None:
    with pytest.raises(UsageError, match="does not follow"):
        made.engine().start((*PROMPT, 1, 2, 3), sampled(PERSON, 7), answered=3)


def test_max_tokens_may_cut_it(made: Made) -> None:
    engine = made.engine()
    stream = engine.start(PROMPT, Sampling(6, grammar=PERSON, stop_ids=(END,)))
    run(engine, stream)
    assert stream.finished == "length"
    assert len(stream.generated) == 6
    assert made.text(stream) == '{"name'[:6]


def test_the_mask_comes_before_bias_and_penalties(made: Made) -> None:
    """A bias cannot bring back what the grammar does not allow."""
    wanted = made.tokenizer.encode("z")[0]
    engine = made.engine()
    of = grammar.of_regex("[ab]{8}")
    streams = [
        engine.start(PROMPT, Sampling(20, grammar=of, logit_bias=(TokenBias(wanted, 100.0),))),
        engine.start(PROMPT, Sampling(20, grammar=of, ignore_eos=True, presence_penalty=-2.0)),
    ]
    run(engine, *streams)
    for stream in streams:
        assert re.fullmatch("[ab]{8}", made.text(stream))
        assert stream.finished == "stop", "also where the request ignores the model's end tokens"


def test_an_engine_without_a_tokenizer_says_so(made: Made) -> None:
    with pytest.raises(EngineUnavailable):
        Engine(made.model, EngineConfig("bf16", "int8")).start(PROMPT, sampled(PERSON, 1))


@pytest.mark.parametrize(
    "of",
    [
        grammar.of_regex("(?=a)b"), grammar.of_regex("("), grammar.of_lark("start: ("),
        grammar.of_gbnf("root ::= missing"), grammar.of_gbnf("root ::= ("),
        grammar.of_json_schema(False), grammar.of_json_schema({"type": "string", "pattern": "^(?!a)"}),
        grammar.of_json_schema({"type": "array", "minItems": 2, "maxItems": 1}),
        grammar.of_json_schema({"format": "no such format"}), grammar.of_json_schema({"type": "objekt"}),
        grammar.of_json_schema({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
        grammar.of_json_schema({"$ref": "#/$defs/none"}),
        grammar.of_tools([("a", {"type": "string", "pattern": "("})]),
    ],
    ids=lambda of: f"{of.kind} {of.text[:24]}",
)  # fmt: skip
def test_what_cannot_be_compiled_is_refused_in_one_line(made: Made, of: Grammar) -> None:
    with pytest.raises(UsageError) as told:
        made.grammars.compile(of)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400


def test_grammars_are_kept_and_bounded(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ndn_infer.engine.grammar.KEPT", 2)
    for number in range(4):
        made.grammars.compile(grammar.of_choice([f"choice {number}"]))
    assert len(made.grammars._compiled) == 2
    matcher = made.grammars.matcher(PERSON)  # one that was forgotten
    assert not matcher.allowed()[END]


def test_a_matcher_is_one_answers_own(made: Made) -> None:
    of = grammar.of_choice(["ab", "ac"])
    first, second = made.grammars.matcher(of), made.grammars.matcher(of)
    ids: Sequence[int] = made.tokenizer.encode("ab")
    assert first.valid([*ids, 5]) == 2
    assert first.forced() == second.forced() == [ids[0]]
    first.accept(ids[0])
    assert first.forced() == []
    assert second.forced() == [ids[0]]


@pytest.mark.parametrize(
    ("of", "text"), [(grammar.of_choice(["ab", "ac"]), "ab"), (Grammar("regex", "[0-9]{2}"), "42")]
)
def test_a_complete_answer_ends_and_one_that_is_not_does_not(made: Made, of: Grammar, text: str) -> None:
    matcher, ids = made.grammars.matcher(of), made.tokenizer.encode(text)
    for token in ids:
        assert not matcher.valid([END]) and matcher.valid([token]) == 1
        matcher.accept(token)
    assert matcher.allowed()[END] and matcher.valid([END]) == 1 and not matcher.valid(ids[:1])
    matcher.accept(END)
