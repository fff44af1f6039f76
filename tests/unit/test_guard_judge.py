"""A guard finds what a policy names however it is written and wherever it is cut, and says where it is."""

from __future__ import annotations

import base64
import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.errors import BadRecord
from ndn_infer.guard.answer_judge import AnswerJudge
from ndn_infer.guard.enforcement import Demand, Enforcer
from ndn_infer.guard.judge import PolicyRules, TextJudge
from ndn_infer.guard.language import language_of
from ndn_infer.guard.personal import iban, luhn
from ndn_infer.guard.policy_file import read_policy
from ndn_infer.guard.policy_form import decode, encode, policy_of
from ndn_infer.guard.text_verdict import redacted, verdict_on_texts
from ndn_infer.guard.trial import try_text
from ndn_infer.records import TokenEvent

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")
pytest.importorskip("detect_secrets")

POLICY = policy_of(
    {
        "name": "house",
        "rules": [
            {"id": "codename", "kind": "phrases", "phrases": ["project nightingale", "bomb"]},
            {"id": "case", "kind": "pattern", "pattern": r"case\s?no\.? \d{3,6}"},
            {"id": "secrets", "kind": "secrets", "action": "redact"},
            {"id": "personal", "kind": "personal", "action": "redact"},
        ],
    }
)
RULES = PolicyRules(POLICY, "answer")
MAIL = "write to jo@example.com or call +1 415 555 2671, card 4111 1111 1111 1111, ghp_" + "a1" * 18 + ", thanks"


def hits(pieces: list[str]) -> set[tuple[str, int, int]]:
    judge = TextJudge(RULES)
    found = [hit for piece in pieces for hit in judge.push(piece)] + judge.push("", last=True)
    return {(hit.rule.id, hit.start, hit.end) for hit in found}


def rules_hit(text: str) -> set[str]:
    return {rule for rule, _, _ in hits([text])}


@pytest.mark.parametrize(
    "text",
    [
        "Project Nightingale", "pr0j3ct n1ght1ngal3", "p r o j e c t  n-i-g-h-t-i-n-g-a-l-e", "рrоjесt nіghtingаlе",
        "pro\u200bject\u200d night\u2060ingale", base64.b64encode(b"on project nightingale.").decode(),
        codecs.encode("project nightingale", "rot13"), "project%20nightingale", "%70roject nightingale",
        "&#112;roject nightingale", "elagnithgin tcejorp", "a b0mb!", "b.o.m.b", "ｂｏｍｂ",
        base64.b64encode(b"a" + base64.b64encode(b"on project nightingale.")).decode(),
        b"project nightingale".hex(), "𝐩𝐫𝐨𝐣𝐞𝐜𝐭 𝖓𝖎𝖌𝖍𝖙𝖎𝖓𝖌𝖆𝖑𝖊", "pro\nject\nnightin\tgale",
    ],
)  # fmt: skip
def test_a_phrase_is_found_however_it_is_written(text: str) -> None:
    assert rules_hit(f"it is {text} that we mean") == {"codename"}


@pytest.mark.parametrize("before", range(6))
def test_where_an_encoded_text_begins_changes_nothing(before: int) -> None:
    said = b"abcdef"[:before] + b"project nightingale!"
    for wire in (base64.b64encode(said), base64.b64encode(base64.b64encode(said)), base64.b32encode(said)):
        assert "codename" in rules_hit(f"see {wire.decode()} there")


def test_the_bits_of_a_phrase_are_found() -> None:
    bits = [f"{byte:08b}" for byte in b"project nightingale"]
    assert "codename" in rules_hit("".join(bits)) and "codename" in rules_hit(" ".join(bits))
    assert "codename" not in rules_hit(" ".join(bits[:9]))


@pytest.mark.parametrize("hold_back", [1, 2, 8])
def test_what_a_match_goes_on_with_after_it_had_to_be_told_is_redacted_too(hold_back: int) -> None:
    """A hold-back may end within a match that stands already and becomes longer."""
    mail = {"id": "mail", "kind": "personal", "types": ["email"], "action": "redact"}
    policy, text = (
        policy_of({"name": "m", "hold_back": hold_back, "rules": [mail]}),
        "Mail jo.doe@mail.example.com today!",
    )
    whole = 0
    for cut in range(1, 9):
        judge, reader = AnswerJudge(PolicyRules(policy, "answer"), "/x"), Enforcer(Demand(policy.digest, 64, 9.0), "/x")
        shown, last = "", (len(text) - 1) // cut
        for number in range(last + 1):
            event = TokenEvent((number,), text[number * cut :][:cut], "stop" if number == last else "")
            given = reader.on_event(event, 0.0, 0)
            if not judge.over:
                judge.push(event.ids, event.text, last=bool(event.finish))
                verdict = judge.verdict(0)
                given += reader.on_verdict(verdict, "", 0.0, 0) if verdict else []
            shown += "".join(one.text for one in given)
        whole += reader.complete
        assert shown == "Mail [email] today!" or (not reader.complete and "Mail [email] today!".startswith(shown))
    assert whole >= hold_back // 2


@pytest.mark.parametrize("text", ["bombastic", "projects, nightingales", "2024-01-02 12:30", "3.14159265358979323846"])
def test_what_is_no_match_is_none(text: str) -> None:
    assert not rules_hit(text)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, len(MAIL)), max_size=12),
    st.sampled_from(["", "tell of pr0ject nightingale, case no. 123 "]),
)
def test_where_a_text_is_cut_changes_nothing(cuts: list[int], before: str) -> None:
    text = before + MAIL
    places = [0, *sorted(cuts), len(text)]
    assert hits([text[a:b] for a, b in zip(places, places[1:], strict=False)]) == hits([text])


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_any_text_is_judged_and_nothing_is_held_at_its_end(text: str, cuts: list[int]) -> None:
    judge, places = TextJudge(RULES), [0, *sorted(cuts), len(text)]
    held = 0
    for a, b in zip(places, places[1:], strict=False):
        judge.push(text[a:b])
        assert held <= judge.held <= judge.characters
        held = judge.held
    judge.push("", last=True)
    assert judge.held == judge.characters


def test_what_is_shown_of_a_text() -> None:
    tried = try_text(RULES, [MAIL[at : at + 5] for at in range(0, len(MAIL), 5)])
    assert tried.shown == "write to [email] or call [phone], card [card], [GitHub Token], thanks"
    assert try_text(RULES, ["about a ", "bo", "mb"]).shown == "about a "


def test_messages_of_a_prompt_are_one_text() -> None:
    verdict = verdict_on_texts(RULES, ("it is project", "nightingale"), (), 0)
    assert (verdict.action, verdict.rules) == ("block", ("codename",))
    texts = ("I am jo@example.com", "and call +1 415 555 2671")
    verdict = verdict_on_texts(RULES, texts, (), 0)
    assert redacted(texts, verdict.redactions) == ("I am [email]", "and call [phone]")


def test_a_policy_has_one_form_whose_digest_is_its_name() -> None:
    again = decode(encode(POLICY))
    assert again == POLICY and len(POLICY.digest) == 64
    toml = b'name = "a"\n[[rules]]\nid = "x"\nkind = "length"\ntokens = 9\n'
    json = b'{"rules": [{"tokens": 9, "kind": "length", "id": "x"}], "name": "a"}'
    assert read_policy(toml) == read_policy(json)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "rhymes"}, "kind is one of"), ({"phrases": []}, "phrases is"), ({"colour": 1}, "no field 'colour'"),
        ({"kind": "pattern", "phrases": None, "pattern": "a.*b"}, "any length"),
        ({"kind": "pattern", "phrases": None, "pattern": "(a"}, "pattern:"),
        ({"kind": "pattern", "phrases": None, "pattern": "a?"}, "empty text"),
        ({"kind": "length", "phrases": None, "action": "redact"}, "no span"), ({"id": ""}, "id is"),
        ({"action": "warn"}, "action is"), ({"where": []}, "where is"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_policy_is_named(change: dict[str, object], words: str) -> None:
    rule = {"id": "x", "kind": "phrases", "phrases": ["a phrase"], **change}
    with pytest.raises(BadRecord, match=words):
        policy_of({"name": "a", "rules": [{key: value for key, value in rule.items() if value is not None}]})


def test_check_digits() -> None:
    assert luhn("4111 1111 1111 1111") and not luhn("4111 1111 1111 1112") and not luhn("1111 1111 1111 1111")
    assert iban("DE89 3704 0044 0532 0130 00") and not iban("DE88 3704 0044 0532 0130 00")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The capital of France is Paris, and it is on the river", "en"),
        ("Die Hauptstadt von Frankreich ist Paris und sie liegt an der Seine", "de"),
        ("La capitale de la France est Paris et elle est sur la Seine", "fr"),
        ("Столица Франции это Париж", "ru"), ("东京是日本的首都城市之一啊", "zh"), ("Paris", ""),
    ],
)  # fmt: skip
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("where", ["before", "within"])
def test_rules_about_a_text_are_asked_of_all_that_is_held_back(where: str) -> None:
    """However long its first event is."""
    rule = {"id": "tongue", "kind": "language", "allow": ["de"]}
    judge = AnswerJudge(PolicyRules(policy_of({"name": "a", "hold_back": 2, "rules": [rule]}), "answer"), "/n/a/v=1")
    said = "At the beginning stands what no rule has seen. "
    long = said + "und so weiter, wie es war und wie es ist. " * 100
    judge.push((1,), "Vorher. " * (where == "before") + long, last=False)
    judge.push((2,), "Ende.", last=True)
    text = judge.due()
    assert text is not None and said in text and text.endswith("Ende.")


def test_the_language_is_that_of_all_that_is_held_back() -> None:
    rule = {"id": "tongue", "kind": "language", "allow": ["de"]}
    judge = AnswerJudge(PolicyRules(policy_of({"name": "a", "hold_back": 2, "rules": [rule]}), "answer"), "/n/a/v=1")
    judge.push((1,), "It is the end of the day and the people go to their homes by the sea. " * 80, last=False)
    judge.push((2,), "Und die Sonne ist noch da, und wir sind bei der See und bei den Schiffen. " * 17, last=True)
    verdict = judge.verdict(0, [])
    assert verdict is not None and (verdict.action, verdict.rules) == ("block", ("tongue",))


def test_a_prompt_is_tried_as_guards_judge_it() -> None:
    text = "write to jo@example.com " + "and on " * 400
    rules = PolicyRules(POLICY, "prompt")
    assert try_text(rules, [text]).shown == text.replace("jo@example.com", "[email]")
    blocked = try_text(rules, ["about a ", "bo", "mb"])
    assert (blocked.shown, blocked.blocked, blocked.rules) == ("", True, ("codename",))


def test_a_span_that_was_told_is_not_told_again() -> None:
    judge = AnswerJudge(RULES, "/n/a/v=1")
    told = []
    for number in range(5):
        judge.push((number,), f"Write to jo{number}@example.com please, and then go home. ", last=number == 4)
        told += [*(verdict.redactions if (verdict := judge.verdict(0)) is not None else ())]
    assert len({(one.start, one.end) for one in told}) == len(told) == 5
