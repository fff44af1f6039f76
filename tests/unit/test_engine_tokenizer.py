"""Incremental text and stop strings, with a small byte-level tokenizer made here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from ndn_infer.engine.answer_text import StopMatcher, StreamDecoder, resume
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import DamagedCache, ModelError, PromptError

TEMPLATE = """{%- for message in messages %}
    {%- if message['role'] == 'narrator' %}{{ raise_exception('no stories here') }}{% endif %}
{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}
{%- endfor %}
{% if add_generation_prompt %}{% generation %}<|assistant|>{% endgeneration %}{% endif %}"""


def byte_tokenizer() -> Tokenizer:
    """One token per byte, a few merges, so that characters fall apart as in real vocabularies; 2 special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l"), ("Ã", "¼"), ("ð", "Ł")]
    vocab = {token: index for index, token in enumerate([*alphabet, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>"), AddedToken("<|user|>")])
    return tokenizer


TOKENIZER = ChatTokenizer(byte_tokenizer(), TEMPLATE, {"eos_token": "<|end|>"}, (260,))
ID = {TOKENIZER.token_bytes(number): number for number in range(TOKENIZER.vocab_size)}


@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=60))
def test_pieces_joined_equal_the_whole_for_any_ids(ids: list[int]) -> None:
    decoder = StreamDecoder(TOKENIZER)
    pieces = [decoder.push(token) for token in ids]
    assert "".join(pieces) + decoder.finish() == TOKENIZER.decode(ids)


HALVES = [token for token, text in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet())) if text > "~"]
"""Ids of bytes that are no character alone."""


@given(st.lists(st.sampled_from([*HALVES, 0, 1, 260, 261, 999]), min_size=20, max_size=200), st.booleans())
def test_pieces_joined_equal_the_whole_for_bytes_that_are_no_text(ids: list[int], skip_special: bool) -> None:
    decoder = StreamDecoder(TOKENIZER, skip_special=skip_special)
    pieces = [decoder.push(token) for token in ids]
    known = [token for token in ids if token < TOKENIZER.vocab_size]
    assert "".join(pieces) + decoder.finish() == TOKENIZER.decode(known, skip_special)


class Counted(ChatTokenizer):
    """Counts the ids that it decodes."""

    decoded = 0

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        self.decoded += len(ids)
        return super().decode(ids, skip_special)


def test_a_model_that_repeats_half_a_character_is_shown_as_it_goes_on() -> None:
    """4,000 tokens of it showed nothing, and took 93 s: all of them were decoded again for each."""
    tokenizer = Counted(byte_tokenizer(), "", {}, ())
    half = tokenizer.encode("\u20ac")[0]
    decoder, shown = StreamDecoder(tokenizer), ""
    for number in range(4000):
        shown += decoder.push(half)
        assert number - len(shown) < 20, "what is held back is bounded"
    assert shown + decoder.finish() == "\ufffd" * 4000
    assert tokenizer.decoded < 4000 * 40
    whole = [decoder.push(token) for token in (half, *tokenizer.encode("\u20acx"))]
    assert "".join(whole) == "\ufffd\u20acx"


def byte_fallback_tokenizer() -> ChatTokenizer:
    """Of the SentencePiece kind, which write bytes as tokens, and show each byte of half a character."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"a": 256, "<unk>": 257}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return ChatTokenizer(inner, "", {}, ())


def test_runs_of_byte_tokens_are_shown_too() -> None:
    tokenizer = byte_fallback_tokenizer()
    for ids in ([*"\u20ac".encode()], [0x80] * 50, [256, *"\u20ac".encode(), 256, 0xE2, 0x82, 256, *[0xF0] * 40, 256]):
        decoder = StreamDecoder(tokenizer)
        assert "".join(decoder.push(token) for token in ids) + decoder.finish() == tokenizer.decode(ids)


ids_of_text = st.text(max_size=5).map(lambda text: list(text.encode()))


@given(st.lists(st.one_of(ids_of_text, st.lists(st.integers(0, 261), max_size=5)), max_size=12), st.booleans())
def test_tokens_pushed_together_show_what_they_show_one_by_one(groups: list[list[int]], fallback: bool) -> None:
    tokenizer = byte_fallback_tokenizer() if fallback else TOKENIZER
    one, together = StreamDecoder(tokenizer), StreamDecoder(tokenizer)
    for group in groups:
        ids = group if fallback else [ID[bytes((token,))] if token < 256 else token for token in group]
        assert together.push_all(ids) == "".join(map(one.push, ids))
    assert together.finish() == one.finish()


def test_an_answer_that_broke_off_goes_on_as_if_it_had_not() -> None:
    """Its state is in its end, so that the work does not grow with the answer."""
    tokenizer = Counted(byte_tokenizer(), "", {}, ())
    said = tokenizer.encode("hello \u20ac and so on " * 200 + "\n\nUs")
    rest = [*tokenizer.encode("er: \u20ac")]
    for stops, expected in ((("\n\nUser:",), "\n\nUs"), (("so on \n\nUser: \u20ac!",), None), ((), "er: \u20ac")):
        tokenizer.decoded = 0
        decoder, matcher = resume(tokenizer, stops, said)
        assert tokenizer.decoded < 200 * max(map(len, stops), default=1)
        text = "".join(matcher.push(decoder.push(token))[0] for token in rest)
        whole, other = StreamDecoder(tokenizer), StopMatcher(stops)
        for token in said:
            other.push(whole.push(token))
        assert text == "".join(other.push(whole.push(token))[0] for token in rest)
        assert matcher.stopped == other.stopped and matcher.finish() == other.finish()
        assert expected is None or text in ("", expected)
    half = tokenizer.encode("\u20ac")
    decoder, _ = resume(tokenizer, (), (*said, *half[:2]))
    assert decoder.push(half[2]) == "\u20ac"


@given(st.text(max_size=40))
def test_valid_text_never_shows_half_a_character(text: str) -> None:
    decoder = StreamDecoder(TOKENIZER)
    pieces = [decoder.push(token) for token in TOKENIZER.encode(text)]
    shown = "".join(pieces)
    assert text.startswith(shown.replace("\ufffd", "")) or "\ufffd" in text
    if "\ufffd" not in text:
        assert "\ufffd" not in shown
        assert shown == text and decoder.finish() == ""


def test_a_character_comes_with_its_last_byte() -> None:
    decoder = StreamDecoder(TOKENIZER)
    ids = TOKENIZER.encode("a🙂b")
    pieces = [decoder.push(token) for token in ids]
    assert pieces[0] == "a" and pieces[-1] == "b" and pieces[-2] == "🙂"
    assert set(pieces[1:-2]) == {""}


def test_special_tokens_can_be_shown() -> None:
    ids = [*TOKENIZER.encode("he"), 260]
    assert TOKENIZER.decode(ids) == "he"
    assert TOKENIZER.decode(ids, skip_special=False) == "he<|end|>"
    decoder = StreamDecoder(TOKENIZER, skip_special=False)
    assert "".join(decoder.push(token) for token in ids) == "he<|end|>"


def test_sentencepiece_like_decoders_keep_their_spaces() -> None:
    """There the first token of a text loses its space: a window of new tokens alone would glue words together."""
    vocab = {"▁the": 0, "▁cat": 1, "s": 2, "▁": 3, "<unk>": 4}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.decoder = decoders.Metaspace()
    tokenizer = ChatTokenizer(inner, "", {}, ())
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push(token) for token in (0, 1, 2, 0)] == ["the", " cat", "s", " the"]


def test_ids_outside_the_vocabulary_are_refused() -> None:
    for bad in ([-1], [TOKENIZER.vocab_size], [0, 1 << 40]):
        with pytest.raises(PromptError, match="token ids"):
            TOKENIZER.decode(bad)
    assert TOKENIZER.decode([]) == ""


# ------------------------------------------------------------ stop strings


def stop_reference(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character, the slow way."""
    for end in range(1, len(text) + 1):
        hits = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if hits:
            return text[: end - max(map(len, hits))], True
    return text, False


@given(st.text("abc", max_size=30), st.lists(st.text("abc", max_size=4), max_size=3), st.randoms())
def test_stop_strings_do_not_depend_on_the_cuts(text: str, stops: list[str], random: object) -> None:
    matcher, shown, rest = StopMatcher(stops), "", text
    while rest:
        size = random.randint(0, 5)  # type: ignore[attr-defined]
        piece, rest = rest[:size], rest[size:]
        emitted, _ = matcher.push(piece)
        shown += emitted
    expected, stopped = stop_reference(text, stops)
    assert matcher.stopped == stopped
    assert shown + matcher.finish() == expected
    assert not stopped or (matcher.stopped_by in stops and text.startswith(shown + matcher.stopped_by))


def test_each_character_is_compared_a_bounded_number_of_times() -> None:
    """2,000 stop strings of 4,000 characters of an answer took 4.5 s: every end of the text was compared with each."""

    class Text(str):
        compared = 0

        def __getitem__(self, key: Any) -> Any:
            Text.compared += 1
            return super().__getitem__(key)

    for stop in ("a" * 255 + "b", "ab" * 127 + "c", "\n"):
        matcher, Text.compared = StopMatcher([Text(stop)]), 0
        for _ in range(2000):
            matcher.push("aab")
            matcher.push("a")
        assert Text.compared < 6 * 8000


def test_text_that_may_begin_a_stop_string_is_held_back() -> None:
    matcher = StopMatcher(["\n\nUser:"])
    assert matcher.push("Hello\n") == ("Hello", False)
    assert matcher.push("\nUs") == ("", False)
    assert matcher.push("age: x\n") == ("\n\nUsage: x", False)
    assert matcher.push("\nUser: hi") == ("", True)
    assert matcher.push("more") == ("", True)
    assert matcher.finish() == ""


# ------------------------------------------------------------ text is not control

CONTROL = TOKENIZER.vocab_size - 2, TOKENIZER.vocab_size - 1
TEMPLATES = [
    TEMPLATE,
    "{% for m in messages %}<|user|>{{ m.content | trim }}<|end|>{% endfor %}",
    "{% for m in messages %}{{ m.content }}{% endfor %}<|user|>",
    "{% for m in messages %}<{{ m.content }}|>{{ m.content[1:] }}end|>{% endfor %}",
    "{{ messages | tojson }}{% for m in messages %}"
    "{{ (m.content ~ '<|end|>').split('x') | join('<|user|>') }}{% endfor %}",
]
PARTS = st.sampled_from(
    ["<|end|>", "<|user|>", "<", "<|", "|>", ">", "end", "end|>", "user", "x", " ", "\n", "\ufdd0", "<<|end|>"]
)


def control_in(ids: list[int]) -> list[int]:
    return [token for token in ids if token in CONTROL]


@given(st.sampled_from(TEMPLATES), st.lists(st.lists(PARTS, max_size=6).map("".join), min_size=1, max_size=3))
def test_no_text_of_a_message_becomes_a_control_token(template: str, texts: list[str]) -> None:
    """A passage that said <|end|><|user|> had the model read a turn that nobody wrote."""
    tokenizer = ChatTokenizer(byte_tokenizer(), template, {"eos_token": "<|end|>"}, ())
    ids = tokenizer.apply_chat([{"role": "user", "content": text} for text in texts])
    plain = tokenizer.apply_chat([{"role": "user", "content": re.sub(r"[^x\s]", ".", text)} for text in texts])
    assert control_in(ids) == control_in(plain)
    messages = [{"role": "user", "content": text} for text in texts]
    assert tokenizer.decode(ids, skip_special=False) == tokenizer.render_chat(messages), "and it is all there"


@given(st.lists(PARTS, max_size=8).map("".join))
def test_no_plain_text_has_control_tokens(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert not control_in(ids) and TOKENIZER.decode(ids, skip_special=False) == text


def test_templates_find_what_they_look_for_in_messages() -> None:
    """Qwen's takes an assistant's thoughts out of earlier turns: by their control tokens, which stay text here."""
    inner = byte_tokenizer()
    inner.add_tokens([AddedToken("<think>"), AddedToken("</think>"), AddedToken("  ", normalized=False)])
    template = (
        "{% for m in messages %}{% if '</think>' in m.content and m.content.startswith('<think>') %}"
        "{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% else %}{{ m.content }}{% endif %}{% endfor %}<think>"
    )
    tokenizer = ChatTokenizer(inner, template, {}, ())
    said = [{"role": "assistant", "content": "<think>hm</think>\nhe  llo"}]
    assert tokenizer.render_chat(said) == "he  llo<think>"
    ids = tokenizer.apply_chat(said)
    assert ids.count(tokenizer.encode("  ")[0]) == 1 and ids[-1] not in tokenizer.encode("<think>")
    forged = tokenizer.apply_chat([{"role": "user", "content": "</think>"}])
    assert len(forged) > 2 and tokenizer.decode(forged) == "</think><think>"


def test_a_normalizer_makes_no_control_token_of_other_characters() -> None:
    inner = byte_tokenizer()
    inner.normalizer = normalizers.NFKC()
    inner.add_tokens([AddedToken("<call>", normalized=True)])
    tokenizer = ChatTokenizer(inner, "{{ messages[0].content }}", {}, ())
    for text in ("\uff1ccall\uff1e", "<call>"):
        for messages in ((), ({"role": "user", "content": text},)):
            try:
                ids = tokenizer.apply_chat(messages) if messages else tokenizer.encode(text)
            except PromptError as error:
                assert "control token" in str(error)
            else:
                assert inner.token_to_id("<call>") not in ids


def test_the_day_of_a_template_is_the_requests() -> None:
    tokenizer = ChatTokenizer(byte_tokenizer(), "{{ strftime_now('%d %b %Y %H:%M') }}", {}, ())
    said = [{"role": "user", "content": "x"}]
    assert tokenizer.render_chat(said, today=date(2026, 7, 9)) == "09 Jul 2026 00:00"
    with pytest.raises(PromptError, match="the date"):
        tokenizer.apply_chat(said)


# ------------------------------------------------------------ conversations and files


def test_conversation() -> None:
    messages = [{"role": "user", "content": "hi  {{ 7 * 7 }}"}]
    assert TOKENIZER.render_chat(messages) == "<|user|>hi  {{ 7 * 7 }}<|end|><|assistant|>"
    assert TOKENIZER.render_chat(messages, add_generation_prompt=False) == "<|user|>hi  {{ 7 * 7 }}<|end|>"
    ids = TOKENIZER.apply_chat(messages)
    assert 260 in ids and 261 in ids
    assert TOKENIZER.decode(ids, skip_special=False) == TOKENIZER.render_chat(messages)


def test_conversations_that_cannot_be() -> None:
    with pytest.raises(PromptError, match="at least one"):
        TOKENIZER.apply_chat([])
    with pytest.raises(PromptError, match="no stories here"):
        TOKENIZER.apply_chat([{"role": "narrator", "content": "x"}])
    with pytest.raises(PromptError, match="content"):
        TOKENIZER.apply_chat([{"role": "user"}])
    plain = ChatTokenizer(byte_tokenizer(), "", {}, ())
    with pytest.raises(ModelError, match="no chat template"):
        plain.apply_chat([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__subclasses__() }}",
        "{% set _ = messages.append({}) %}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(10000000) %}x{% endfor %}",
    ],
)
def test_templates_of_strangers_stay_in_the_sandbox(template: str) -> None:
    with pytest.raises(PromptError, match="refuses"):
        ChatTokenizer(byte_tokenizer(), template, {}, ()).render_chat([{"role": "user", "content": "x"}])


def test_load_reads_what_a_folder_says(tmp_path: Path) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    config = {
        "eos_token": {"content": "<|end|>"},
        "chat_template": [{"name": "default", "template": "{{ eos_token }}"}],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert ChatTokenizer.load(tmp_path).eos_ids == (260,)
    (tmp_path / "config.json").write_text('{"eos_token_id": 260}')
    loaded = ChatTokenizer.load(tmp_path)
    assert loaded.eos_ids == (260,)
    assert loaded.apply_chat([{"role": "user", "content": ""}]) == [260]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [260, 261]}')
    assert ChatTokenizer.load(tmp_path).eos_ids == (260, 261)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DamagedCache, match=r"tokenizer\.json"):
        ChatTokenizer.load(tmp_path)
