"""vLLM behind a producer, without vLLM: requests in its terms, choices, messages, the end of its process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

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
from ndn_infer.vllm.backend import mapping
from ndn_infer.vllm.backend.messages import GONE, Begin, EngineFacts, Made, Stop, line_of, read
from ndn_infer.vllm.backend.process import VllmProcess
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
    extra = [mapping.records.encode(sampling).hex(), broke_at]
    output: list[int] = []
    going_on = AnswerRow(extra, prompt + wanted[:broke_at], output)
    for row in logits[broke_at:]:
        output.append(going_on.choose(row))
    assert wanted[:broke_at] + output == wanted


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
