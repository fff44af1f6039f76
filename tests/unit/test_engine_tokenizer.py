"""Incremental text and stop strings, with a small byte-level tokenizer made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from ndn_infer.engine.tokenizer import ChatTokenizer, StopMatcher, StreamDecoder
from ndn_infer.errors import DamagedCache, ModelError, PromptError

TEMPLATE = """{%- for message in messages %}
    {%- if message['role'] == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}
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


@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=60))
def test_pieces_joined_equal_the_whole_for_any_ids(ids: list[int]) -> None:
    decoder = StreamDecoder(TOKENIZER)
    pieces = [decoder.push(token) for token in ids]
    assert "".join(pieces) + decoder.finish() == TOKENIZER.decode(ids)


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


def test_text_that_may_begin_a_stop_string_is_held_back() -> None:
    matcher = StopMatcher(["\n\nUser:"])
    assert matcher.push("Hello\n") == ("Hello", False)
    assert matcher.push("\nUs") == ("", False)
    assert matcher.push("age: x\n") == ("\n\nUsage: x", False)
    assert matcher.push("\nUser: hi") == ("", True)
    assert matcher.push("more") == ("", True)
    assert matcher.finish() == ""


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
    with pytest.raises(PromptError, match="no tools here"):
        TOKENIZER.apply_chat([{"role": "tool", "content": "x"}])
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
    (tmp_path / "config.json").write_text('{"eos_token_id": 260}')
    loaded = ChatTokenizer.load(tmp_path)
    assert loaded.eos_ids == (260,)
    assert loaded.apply_chat([{"role": "user", "content": ""}]) == [260]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [260, 261]}')
    assert ChatTokenizer.load(tmp_path).eos_ids == (260, 261)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DamagedCache, match=r"tokenizer\.json"):
        ChatTokenizer.load(tmp_path)
