"""vLLM behind a producer, without vLLM: requests in its terms, choices, messages, the end of its process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.config import EngineConfig
from ndn_infer.engine.sampler import TokenHistory, choose
from ndn_infer.errors import ConfigError, EngineUnavailable, ModelError
from ndn_infer.functions.vllm_answer import engine_args, environment
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.sampling import Sampling, TokenBias
from ndn_infer.vllm.backend import mapping, processor_time
from ndn_infer.vllm.backend.messages import GONE, Begin, EngineFacts, Made, Stop, line_of, read
from ndn_infer.vllm.backend.process import VllmProcess
from ndn_infer.vllm.backend.requests import Surroundings, VllmRequests
from ndn_infer.vllm.backend.row import AnswerRow
from tests.inprocess.test_streams import until

VOCABULARY = 300


def test_the_likeliest_token_is_vllms_own_choice_and_all_else_ours() -> None:
    plain = mapping.params_of(Sampling(7, logprobs=3, stop_ids=(2, 9, 2), stop=("x",), seed=5), 0)
    assert "extra_args" not in plain and plain["max_tokens"] == 7 and plain["logprobs"] == 3
    assert plain["stop_token_ids"] == [2, 9] and plain["ignore_eos"] and not plain["detokenize"]
    assert plain["temperature"] == 0.0 and plain["prompt_logprobs"] is None
    for more in ({"temperature": 0.5}, {"presence_penalty": 1.0}, {"logit_bias": (TokenBias(3, 1.0),)}):
        assert mapping.EXTRA in mapping.params_of(Sampling(7, **more), 4)["extra_args"]
    assert mapping.params_of(Sampling(1, score_prompt=True), 0)["prompt_logprobs"] == 0
    assert mapping.params_of(Sampling(1), 0)["logprobs"] is None


def test_what_is_replayed_is_chosen_here_and_counts_beside_the_tokens_wanted() -> None:
    again = mapping.params_of(Sampling(7), 3, (), (5, 6))
    assert again["max_tokens"] == 9 and again["extra_args"][mapping.EXTRA][1:] == [3, [5, 6]]


def test_within_a_grammar_ours_chooses_and_end_tokens_end() -> None:
    held = mapping.params_of(Sampling(7, ignore_eos=True, grammar=Grammar("json_object"), stop_ids=(9,)), 0, {2})
    assert mapping.EXTRA in held["extra_args"] and held["stop_token_ids"] == [2, 9]
    assert mapping.params_of(Sampling(7, ignore_eos=True), 0, {2})["stop_token_ids"] == []


@settings(max_examples=40)
@given(
    st.builds(
        Sampling, st.just(64), st.sampled_from((0.0, 0.7, 1.3)), st.sampled_from((1.0, 0.6)), st.sampled_from((0, 20)),
        st.integers(0, 1 << 40), min_p=st.sampled_from((0.0, 0.05)), repetition_penalty=st.sampled_from((1.0, 1.3)),
        frequency_penalty=st.sampled_from((0.0, 0.4)), logit_bias=st.sampled_from(((), (TokenBias(5, 2.0),))),
    ),
    st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=12),
    st.integers(0, 11),
)  # fmt: skip
def test_a_row_chooses_as_our_engine_does_wherever_the_answer_broke_off(
    sampling: Sampling, prompt: list[int], broke_at: int
) -> None:
    logits = np.random.default_rng(len(prompt)).normal(0, 3, (12, VOCABULARY)).astype(np.float32)
    history = TokenHistory(prompt) if sampling.needs_history else None
    wanted: list[int] = []
    for row in logits:
        wanted.append(choose(row, sampling, len(prompt) + len(wanted), history).token)
        if history is not None:
            history.add(wanted[-1])
    extra = mapping.params_of(Sampling(temperature=1.0), 0)["extra_args"][mapping.EXTRA]
    assert isinstance(extra[0], str)
    extra = [mapping.records.encode(sampling).hex(), broke_at, []]
    output: list[int] = []
    going_on = AnswerRow(extra, prompt + wanted[:broke_at], output)
    for row in logits[broke_at:]:
        output.append(going_on.choose(row))
    assert wanted[:broke_at] + output == wanted
    # and where what there is comes again, whatever is likely then
    output = []
    replaying = AnswerRow([extra[0], 0, wanted[:broke_at]], prompt, output)
    for number, row in enumerate(logits):
        output.append(replaying.choose(logits[0] if number < broke_at else row))
    assert output == wanted


def test_messages_come_back_as_they_were() -> None:
    told = ((7, -0.25, ((7, -0.25), (9, -1.5))), (8, 0.0, ()))
    for message in (
        Begin(3, (1, 2), {"max_tokens": 4}, "salt"), Stop(3), EngineFacts("bf16", "bf16", "vllm-1", "cpu", 1, 2, 3, 4),
        Made(3, told, told[:1], "stop", 128, 0.5, 0.25, 0.125),
    ):  # fmt: skip
        assert read(line_of(message)) == message


@given(st.binary(max_size=60) | st.sampled_from([b'{"is":"Made"}', b'{"is":"Stop","x":1}', b"[]", b'{"is":[]}']))
def test_other_lines_are_refused(line: bytes) -> None:
    with pytest.raises(ModelError):
        read(line)


def test_options_of_ours_are_vllms_arguments() -> None:
    config = EngineConfig(
        backend="vllm", dtype="fp32", max_streams=3, threads=2, kv_memory_mib=3000, sharing="off",
        vllm_args='{"max_model_len": 512, "max_num_seqs": 5}',
    )  # fmt: skip
    args = engine_args(Path("/m"), config)
    assert (args["model"], args["dtype"], args["max_num_seqs"], args["max_model_len"]) == ("/m", "float32", 5, 512)
    assert not args["enable_prefix_caching"]
    assert environment(config)["VLLM_CPU_KVCACHE_SPACE"] == "3" and environment(config)["OMP_NUM_THREADS"] == "2"
    for wrong in ("[]", "{", '{"model": "x"}'):
        with pytest.raises(ConfigError, match=r"engine\.vllm_args"):
            engine_args(Path("/m"), EngineConfig(vllm_args=wrong))


def child_that(tmp_path: Path, *lines: str) -> str:
    """A program in the place of Python: what it says when it is started."""
    program = tmp_path / "python"
    facts = line_of(EngineFacts("bf16", "bf16", "vllm-1", "cpu", 100, 200, 3, 16)).decode()
    body = "\n".join(lines).replace("FACTS", facts.strip())
    program.write_text(f"#!{sys.executable}\nimport sys, time\n{body}\n")
    program.chmod(0o755)
    return str(program)


async def test_a_process_that_dies_ends_its_answers_and_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ndn_infer.vllm.backend.process.AGAIN_S", (0.01,))
    python = child_that(
        tmp_path, "print('''FACTS''', flush=True)", "line = sys.stdin.readline()", "assert '\"Begin\"' in line",
        "print('{\"is\":\"Made\",\"number\":1,\"tokens\":[[5,0.0,[]]]}', flush=True)",
    )  # fmt: skip
    process = VllmProcess(python, {}, {})
    facts = await process.start()
    assert facts.context == 100 and process.up
    heard: list[Made] = []
    ended = asyncio.Event()

    def hear(made: Made) -> None:
        heard.append(made)
        if made.finish:
            ended.set()

    process.begin([1, 2], {}, "", hear)
    await ended.wait()
    assert [made.tokens for made in heard] == [((5, 0.0, ()),), ()] and heard[-1].finish == GONE
    await until(lambda: process.up)
    await process.close()
    assert not process.up


async def test_one_that_does_not_start_says_what_to_do(tmp_path: Path) -> None:
    process = VllmProcess(child_that(tmp_path, "sys.exit(3)"), {}, {})
    with pytest.raises(EngineUnavailable, match="did not start") as failed:
        await process.start()
    assert "vllm_python" in failed.value.hint
    await process.close()
    with pytest.raises(EngineUnavailable, match="cannot be started"):
        await VllmProcess(str(tmp_path / "nothing"), {}, {}).start()


async def test_two_that_start_it_get_one_process_and_a_failed_start_is_made_again(tmp_path: Path) -> None:
    waits = "for line in sys.stdin: pass"
    process = VllmProcess(child_that(tmp_path, "sys.exit(3)"), {}, {})
    told = await asyncio.gather(process.start(), process.start(), return_exceptions=True)
    assert [type(one) for one in told] == [EngineUnavailable] * 2
    assert process.users == 0
    child_that(tmp_path, f"open({str(tmp_path / 'starts')!r}, 'a').write('x')", "print('''FACTS''', flush=True)", waits)
    first, second = await asyncio.gather(process.start(), process.start())
    assert first == second and (await process.start()).context == 100 and process.up
    assert (tmp_path / "starts").read_text() == "x"
    await process.close()
    await process.close()
    assert process.up, "one still uses it"
    await process.close()
    assert not process.up


async def test_the_sooner_it_ends_again_the_longer_the_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ran for long is started again as after the first time."""
    monkeypatch.setattr("ndn_infer.vllm.backend.process.AGAIN_S", (1.0, 5.0, 30.0))
    process, loop, pauses = VllmProcess("", {}, {}), asyncio.get_running_loop(), []
    now, lived = 0.0, [1.0, 1.0, 1.0, 1.0, 31.0, 1.0]

    async def run(_: object) -> None:
        nonlocal now
        now += lived[len(pauses)]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == len(lived):
            raise asyncio.CancelledError

    monkeypatch.setattr(process, "_run", run)
    monkeypatch.setattr(loop, "time", lambda: now)
    monkeypatch.setattr("ndn_infer.vllm.backend.process.asyncio.sleep", sleep)
    begun: asyncio.Future[EngineFacts] = loop.create_future()
    with pytest.raises(asyncio.CancelledError):
        await process._live(begun)
    monkeypatch.undo()
    assert pauses == [1.0, 5.0, 30.0, 30.0, 1.0, 5.0]


# ------------------------------------------------------------ in vLLM's process


class Engine:
    """In the place of AsyncLLM: each request makes tokens as it is told to, until the core is dead."""

    def __init__(self) -> None:
        self.errored = False
        self.fails: Exception | None = None
        self.steps = asyncio.Event()
        self.began: list[str] = []

    async def generate(self, prompt: object, params: object, number: str) -> AsyncIterator[SimpleNamespace]:
        self.began.append(number)
        for token in range(1 << 20):
            await self.steps.wait()
            if self.fails is not None:
                raise self.fails
            answer = SimpleNamespace(token_ids=[token], logprobs=None, finish_reason=None)
            yield SimpleNamespace(outputs=[answer], num_cached_tokens=0, finished=False, metrics=None)
            self.steps.clear()


class Child:
    """VllmRequests, and what its parent hears."""

    def __init__(self) -> None:
        self.engine, self.heard, self.ended = Engine(), list[Made](), 0
        self.requests = VllmRequests(self.engine, Surroundings(dict, self._write, self._end))

    def _write(self, lines: bytes) -> None:
        self.heard += [made for made in map(read, lines.splitlines(keepends=True)) if isinstance(made, Made)]

    def _end(self) -> None:
        self.ended += 1

    def begin(self, number: int) -> None:
        self.requests.take(Begin(number, (1, 2), mapping.params_of(Sampling(9), 0), ""))


async def test_a_dead_core_ends_the_process_and_no_answer() -> None:
    child = Child()
    for number in (1, 2):
        child.begin(number)
    child.engine.steps.set()
    await until(lambda: bool(child.heard))
    child.engine.errored, child.engine.fails = True, RuntimeError("EngineCore encountered an issue")
    child.engine.steps.set()
    await until(lambda: not len(child.requests))
    assert child.ended and not any(made.finish for made in child.heard)


async def test_a_request_that_fails_alone_says_why() -> None:
    child = Child()
    child.engine.fails = ValueError("no such adapter")
    child.engine.steps.set()
    child.begin(1)
    await until(lambda: bool(child.heard))
    assert child.heard[0].finish == "error: no such adapter" and not child.ended and not len(child.requests)


async def test_a_request_that_is_stopped_before_it_ran_is_forgotten() -> None:
    child = Child()
    child.begin(1)
    child.requests.take(Stop(1))
    await until(lambda: not len(child.requests))
    assert not child.engine.began and not child.heard


def test_processor_time_is_read_now_and_then_and_at_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    spent, families, reads = {1: 5.0, 2: 7.0}, 0, 0

    def family(pid: int) -> list[int]:
        nonlocal families
        families += 1
        return [*spent]

    def seconds(pid: int) -> float:
        nonlocal reads
        reads += 1
        return spent.get(pid, 0.0)

    monkeypatch.setattr(processor_time, "family_of", family)
    monkeypatch.setattr(processor_time, "cpu_s", seconds)
    clock = processor_time.ProcessorTime(1, 100.0)
    spent[1] += 0.25
    reads = 0
    assert clock.since(100.04) == 0.0 and not reads, "too soon"
    assert clock.since(100.04, exact=True) == 0.25
    spent[2] += 0.5
    assert clock.since(100.1) == 0.5 and families == 1
    spent[3] = 40.0
    spent[1] += 1.0
    assert clock.since(101.1) == 1.0 and families == 2, "what the new one took before was nobody's here"
    del spent[2]
    spent[3] += 1.0
    assert clock.since(101.2) == 1.0, "one that is gone takes nothing back"
