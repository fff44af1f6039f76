"""Who may sign what: a matrix written by hand against schemas/ndn-infer.lvs, every kind of name times every key."""

from __future__ import annotations

import itertools
import os
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ndn.app_support.light_versec import DEFAULT_USER_FNS, Checker

from ndn_infer import config as configuration
from ndn_infer import ndn
from ndn_infer.errors import ConfigError
from ndn_infer.namespace import KINDS, RESERVED_SITES, classify
from ndn_infer.ndn.name import Name
from ndn_infer.node.node import trust_schema
from ndn_infer.security.trust import TrustSchema
from tests.unit.trust_kit import DIGEST, NET, under_net

SCHEMA = TrustSchema.load(NET)

META = "/32=metadata/v=7/seg=0"
LIVE = "/v=7/seg=3"
NEWS = "/v=7/32=progress/v=9"
PARAMS = f"/params-sha256={DIGEST}"
CERT = "/KEY/k1/issuer/v=1"

# Every kind of key, by a short word. "n1" and "n2" are nodes of site "home", "m1" is a node of site "lab".
KEYS = {
    "anchor": "",
    "operator": "/operator",
    "site": "/home",
    "node": "/home/n1",
    "tokenize": "/home/n1/tokenize",
    "embed": "/home/n1/embed",
    "prefill": "/home/n1/prefill",
    "decode": "/home/n1/decode",
    "stage": "/home/n1/stage",
    "vllm": "/home/n1/vllm",
    "rag": "/home/n1/rag",
    "user": "/home/n1/user",
    "reviewer": "/home/n1/reviewer",
    "sentiment": "/home/n1/sentiment",
    "repo": "/home/n1/repo",
    "log": "/home/n1/log",
    "guard": "/home/n1/guard",
    "owner": "/home/n1/domain",
    "decode-n2": "/home/n2/decode",
    "decode-lab": "/lab/m1/decode",
    "site-lab": "/lab",
}
DECODERS = {"decode", "decode-n2", "decode-lab"}
ROLES = {"tokenize", "embed", "prefill", "stage", "vllm", "rag", "user", "reviewer", "sentiment", "repo", "guard"}
ROLES |= {"owner", "log"} | DECODERS

MODEL = f"/model/{DIGEST}"
OFFERS = f"{ndn.to_uri(NET)}/sync/offers"
CORPUS = f"/corpus/{DIGEST}"


def answers(function: str) -> list[str]:
    return [f"{function}/{word}/{DIGEST}{PARAMS}" for word in ("shared", "private")]


# (name below the net, who may sign it). The kinds of namespace.py in their order; every packet form that is judged.
MATRIX: list[tuple[str, set[str]]] = [
    # Node, Role, site, operator, anchor: their certificates, and nothing else under exactly that name.
    (f"/home/n1{CERT}", {"anchor", "site"}),
    (f"/home/n1/decode{CERT}", {"anchor", "site"}),
    (f"/home/n1/reviewer{CERT}", {"anchor", "site"}),
    (f"/home{CERT}", {"anchor"}),
    (f"/operator{CERT}", {"anchor"}),
    (CERT, set()),
    (f"/home/n1{META}", set()),
    (f"/home/n1/decode{META}", set()),
    # Question: the answer has the name of the Interest
    (f"/home/n1/decode/ask/status{PARAMS}", {"decode"}),
    (f"/home/n1/user/ask/status{PARAMS}", {"user"}),
    (f"/home/n2/decode/ask/status{PARAMS}", {"decode-n2"}),
    (f"/lab/m1/decode/ask/status{PARAMS}", {"decode-lab"}),
    (f"/home/n1/decode/ask/holds{PARAMS}", {"decode"}),
    (f"/home/n1/prefill/ask/holds{PARAMS}", {"prefill"}),
    *[(f"/home/n1/repo/ask/{verb}{PARAMS}", {"repo"}) for verb in ("insert", "delete", "list", "usage")],
    (f"/home/n2/repo/ask/insert{PARAMS}", set()),
    ("/home/n1/decode/ask/status", set()),
    (f"/home/n1/decode/ask/status{META}", set()),
    (f"/home/n1/decode/ask/status{LIVE}", set()),
    (f"/home/n1/decode/ask/status/more{PARAMS}", set()),
    (f"/home/n1/decode/status{META}", set()),
    # Offer
    # Input
    (f"/home/n1/user/instance/0a/input/{DIGEST}{META}", {"user"}),
    (f"/home/n1/decode/instance/0a/input/{DIGEST}{META}", {"decode"}),
    (f"/home/n1/user/instance/0a/input/{DIGEST}{LIVE}", set()),
    (f"/home/n1/user/input/{DIGEST}{META}", set()),
    # SavedChat
    (f"/home/n1/user/chat/public/holiday{META}", {"user"}),
    (f"/home/n2/decode/chat/public/holiday{META}", {"decode-n2"}),
    (f"/home/n1/user/chat/holiday{META}", set()),
    (f"/home/n1/user/chat/public/holiday{LIVE}", set()),
    # Evidence: whatever it vouches for, by its own key alone
    (f"/home/n1/user/evidence/public/context/{DIGEST}{META}", {"user"}),
    (f"/home/n1/decode/evidence/{DIGEST[:32]}.1/verdict/{DIGEST}{META}", {"decode"}),
    (f"/home/n1/user/evidence/public/context/{DIGEST}{LIVE}", set()),
    (f"/home/n1/user/evidence/public/{DIGEST}{META}", set()),
    (f"/home/n1/evidence/public/context/{DIGEST}{META}", set()),
    # LogCheckpoint, LogTile, LogEntry, WitnessedLog: by the log's own key alone
    *[(f"/home/n1/log/{what}{META}", {"log"}) for what in ("checkpoint", "tile/0/7", "entry/7", f"witnessed/{DIGEST}")],
    (f"/home/n1/log/checkpoint{LIVE}", set()),
    (f"/home/n2/log/checkpoint{META}", set()),
    (f"/home/n1/user/checkpoint{META}", set()),
    (f"/home/n1/log/ask/append{PARAMS}", {"log"}),
    # Instance, InstanceQuestion
    (f"/home/n1/decode/instance/0a{META}", set()),
    (f"/home/n1/decode/instance/0a/ask/status{PARAMS}", {"decode"}),
    (f"/home/n1/user/instance/0a/ask/offer{PARAMS}", {"user"}),
    (f"/home/n1/decode/instance/0a/ask/status{META}", set()),
    # EncryptionKey: vouched for by the identity's own signing key
    (f"/home/n1/decode/encryption{META}", {"decode"}),
    (f"/home/n1/user/encryption{META}", {"user"}),
    (f"/home/n2/decode/encryption{META}", {"decode-n2"}),
    (f"/home/n1/decode/encryption{LIVE}", set()),
    (f"/home/n1/encryption{META}", set()),
    # CatalogRecord
    (f"/catalog/model/smollm2{META}", {"operator"}),
    (f"/catalog/corpus/handbook{META}", {"operator"}),
    (f"/catalog/model/smollm2{LIVE}", set()),
    # Sync: the state is anybody's word, publications and what is said of them their owner's
    ("/sync/offers/v=3", ROLES),
    (f"/sync/offers{META}", set()),
    *[
        (f"/home/n1/{who}{OFFERS}/{form}", {"decode"})
        for who in ("decode", "decode/instance/0a")
        for form in (
            "t=7/seq=1",
            "t=7/seq=1/v=0/seg=0",
            "t=7/MAPPING/seq=1/seq=2",
            "%07",
            "%07/v=0/seg=0",
            "MAPPING/%01/%02",
            "32=state/%00%00%00%00%00%00%00%01",
        )
    ],
    (f"/home/n1/decode{OFFERS}/7/seq=1", set()),
    (f"/home/n1/decode{OFFERS}/t=7", set()),
    ("/home/n1/decode/ndn-infer/elsewhere/sync/offers/t=7/seq=1", set()),
    (f"/home/n1{OFFERS}/t=7/seq=1", set()),
    # DomainKey: which of the owners, the domain's id says (test_domains.py)
    (f"/domain/{DIGEST[:32]}/key/1{META}", {"operator", "owner"}),
    (f"/domain/{DIGEST[:32]}/key/1{LIVE}", set()),
    (f"/domain/{DIGEST[:32]}/keys/1{META}", set()),
    # TokenBlock
    (f"{MODEL}/tokens/public/{DIGEST}{META}", {"tokenize"} | DECODERS),
    (f"{MODEL}/tokens/tenant-a/{DIGEST}{META}", {"tokenize"} | DECODERS),
    (f"{MODEL}/tokens/public/{DIGEST}{LIVE}", set()),
    # KvBlock
    (f"{MODEL}/kv/public/bf16/{DIGEST}/0-29{META}", {"prefill", "vllm"} | DECODERS),
    (f"{MODEL}/kv/{DIGEST[:32]}.1/bf16/{DIGEST}/0-29{META}", {"prefill", "vllm"} | DECODERS),
    (f"{MODEL}/kv/public/bf16/{DIGEST}/0-29{LIVE}", set()),
    (f"{MODEL}/kv/public/bf16/{DIGEST}/0-29/v=7/32=manifest/seg=0", set()),
    # Activation: who runs the layers before; its calls are those of the service of that name
    (f"{MODEL}/act/public/bf16/15/{DIGEST}{META}", {"stage"}),
    (f"{MODEL}/act/public/bf16/15/{DIGEST}{LIVE}", set()),
    (f"/service/stage/before-15.{DIGEST[:32]}/shared/{DIGEST}{PARAMS}", {"stage"}),
    (f"/service/stage/result/before-15.{DIGEST[:32]}/{DIGEST}{META}", {"stage"}),
    # Passage
    (f"{CORPUS}/passage/{DIGEST}{META}", {"rag"}),
    (f"{CORPUS}/passage/{DIGEST}{LIVE}", set()),
    # Policy: its digest is in the name, so any role may publish one; verdicts are those of the role "guard" alone
    (f"/policy/{DIGEST}{META}", ROLES | {"operator"}),
    (f"/policy/{DIGEST}{LIVE}", set()),
    *[(f"/service/guard/{name}", {"guard"}) for name in answers("judge")],
    (f"/service/guard/result/judge/{DIGEST}{LIVE}", {"guard"}),
    # Result: an object, and a stream while it is made
    *[
        (f"{subject}/result/{function}/{DIGEST}{form}", allowed)
        for subject, function, allowed in (
            (MODEL, "tokenize", {"tokenize"}),
            (MODEL, "detokenize", {"tokenize"}),
            (MODEL, "embed", {"embed"}),
            (MODEL, "prefill", {"prefill"}),
            (MODEL, "generate", DECODERS),
            (MODEL, "lookup", set()),
            (MODEL, "sentiment", {"sentiment"}),
            (MODEL, "decode", DECODERS),
            (CORPUS, "lookup", {"rag"}),
            (CORPUS, "sentiment", {"sentiment"}),
            (CORPUS, "generate", set()),
            ("/service/reviewer", "review", {"reviewer"}),
            ("/service/user", "anything", {"user"}),
            ("/service/nobody", "anything", set()),
        )
        # AnswerRecord, RequestObject: whoever signs the result
        for form in (META, LIVE, NEWS, f"/record{META}", f"/request{META}")
    ],
    (f"{MODEL}/result/generate/{DIGEST}/record{LIVE}", set()),
    (f"{MODEL}/result/generate/{DIGEST}/receipt{META}", set()),
    (f"{MODEL}/result/generate/{DIGEST}/record/more{META}", set()),
    # Call: the answer has the name of the Interest
    *[(f"{MODEL}/{name}", {"tokenize"}) for name in answers("tokenize") + answers("detokenize")],
    *[(f"{MODEL}/{name}", {"embed"}) for name in answers("embed")],
    *[(f"{MODEL}/{name}", {"prefill"}) for name in answers("prefill")],
    *[(f"{MODEL}/{name}", DECODERS) for name in answers("generate")],
    *[(f"{MODEL}/{name}", set()) for name in answers("lookup")],
    # A function that this package does not know: the role of its name, and no other
    *[(f"{MODEL}/{name}", {"sentiment"}) for name in answers("sentiment")],
    *[(f"{CORPUS}/{name}", {"sentiment"}) for name in answers("sentiment")],
    *[(f"{MODEL}/{name}", set()) for name in answers("sentiments")],
    (f"{MODEL}/act/{DIGEST}{META}", set()),
    (f"{MODEL}/kv/public/bf16/{DIGEST}/0-29/sentiment{META}", set()),
    *[(f"{CORPUS}/{name}", {"rag"}) for name in answers("lookup")],
    *[(f"{CORPUS}/{name}", set()) for name in answers("generate")],
    *[(f"/service/reviewer/{name}", {"reviewer"}) for name in answers("review")],
    (f"{MODEL}/generate/shared/{DIGEST}{META}", set()),
    (f"{MODEL}/generate/secret/{DIGEST}{PARAMS}", set()),
    # Not of this namespace at all
    ("/other", set()),
    (f"/model/{DIGEST}", set()),
]

ROWS = [(name, key, key in allowed) for name, allowed in MATRIX for key in KEYS]


def certificate_of(key: str) -> Name:
    return under_net(KEYS[key] + CERT)


def test_matrix_is_exhaustive() -> None:
    kinds = {type(found) for name, _ in MATRIX if (found := classify(NET, under_net(name)).kind) is not None}
    assert kinds == set(KINDS)
    assert len(ROWS) >= 100
    assert {key for _, allowed in MATRIX for key in allowed} == set(KEYS) - {"node", "site-lab"}


@pytest.mark.parametrize(("name", "allowed"), MATRIX, ids=[name for name, _ in MATRIX])
def test_matrix(name: str, allowed: set[str]) -> None:
    verdicts = {key: SCHEMA.check(under_net(name), certificate_of(key)) for key in KEYS}
    assert {key for key, verdict in verdicts.items() if verdict.allowed} == allowed
    for verdict in verdicts.values():
        assert bool(verdict.rule) == verdict.allowed
        assert bool(verdict.explanation) != verdict.allowed


def test_a_key_name_is_judged_like_its_certificates() -> None:
    for name, key, allowed in ROWS:
        assert SCHEMA.check(under_net(name), under_net(KEYS[key] + "/KEY/k1")).allowed == allowed


def test_the_compiled_schema_says_the_same_without_our_loader() -> None:
    """NDNd and NDNts import the binary form: all rows but the reserved words must be in the schema itself."""
    checker = Checker.load(SCHEMA._checker.save(), DEFAULT_USER_FNS)
    for name, key, allowed in ROWS:
        full = ndn.components(under_net(name))
        assert checker.check(full, ndn.components(certificate_of(key))) == allowed, (name, key)


def test_every_name_below_another_net_is_refused() -> None:
    for name, key, _ in ROWS:
        foreign = ndn.from_uri("/ndn-infer/elsewhere" + name)
        assert not SCHEMA.check(foreign, certificate_of(key)).allowed
        foreign_key = ndn.from_uri("/ndn-infer/elsewhere" + KEYS[key] + CERT)
        assert not SCHEMA.check(under_net(name), foreign_key).allowed


@pytest.mark.parametrize(
    "bad",
    [
        f"{MODEL}/kv/public/bf16/{DIGEST}/0-29/metadata/v=7/seg=0",  # a generic "metadata"
        f"{MODEL}/kv/public/bf16/{DIGEST}/0-29/32=metadata/7/seg=0",
        f"{MODEL}/kv/public/bf16/{DIGEST}/0-29/32=metadata/seg=0/v=7",
        f"{MODEL}/kv/public/bf16/{DIGEST}/0-29/32=metadata/v=7",
        f"{MODEL}/kv/public/bf16/{DIGEST}/0-29{META}/extra",
        f"{MODEL}/kv/public/bf16/{DIGEST}/0-29/x{META}",
        f"{MODEL}/32=kv/public/bf16/{DIGEST}/0-29{META}",
        f"{MODEL}/generate/shared/{DIGEST}/params",
        f"{MODEL}/generate/shared/{DIGEST}",
        f"{MODEL}/result/generate/{DIGEST}/seg=1/v=7",
        f"{MODEL}/result/generate/{DIGEST}/v=7/7",
        f"/32=model/{DIGEST}/generate/shared/{DIGEST}{PARAMS}",
    ],
)
def test_names_a_little_off_are_nobodys(bad: str) -> None:
    for key in KEYS:
        assert not SCHEMA.check(under_net(bad), certificate_of(key)).allowed


@pytest.mark.parametrize(
    "key",
    [
        "/home/n1/decode",  # an identity
        "/home/n1/decode/KEY",
        "/home/n1/decode/KEY/k1/issuer",
        "/home/n1/decode/KEY/k1/issuer/1",  # a version that is none
        "/home/n1/decode/KEY/k1/issuer/seg=1",
        "/home/n1/decode/32=KEY/k1/issuer/v=1",
        "/home/n1/32=decode/KEY/k1/issuer/v=1",
        "/home/n1/decode/more/KEY/k1/issuer/v=1",
        "/home/KEY/decode/KEY/k1/issuer/v=1",
        "/home/n1/decode/KEY/k1/issuer/v=1/" + f"sha256digest={DIGEST}",
        "",
    ],
)
def test_key_names_a_little_off_sign_nothing(key: str) -> None:
    for name, _ in MATRIX:
        assert not SCHEMA.check(under_net(name), under_net(key)).allowed


def test_data_under_an_implicit_digest_is_refused() -> None:
    """The checker alone would cut the digest off and allow the rest."""
    name = under_net(f"{MODEL}/kv/public/bf16/{DIGEST}/0-29{META}/sha256digest={DIGEST}")
    assert not SCHEMA.check(name, certificate_of("decode")).allowed


@pytest.mark.parametrize("site", sorted(RESERVED_SITES))
def test_reserved_words_are_no_sites(site: str) -> None:
    """Light VerSec has no "not": without the loader's check the operator's key could certify <net>/operator/<node>."""
    for below in ("/n", "/n/decode"):
        assert not SCHEMA.check(under_net(f"/{site}{below}{CERT}"), under_net(f"/{site}{CERT}")).allowed
        assert not SCHEMA.check(under_net(f"/{site}{below}{CERT}"), certificate_of("anchor")).allowed
    assert not SCHEMA.check(
        under_net(f"/{site}/n/decode/ask/status{PARAMS}"), under_net(f"/{site}/n/decode{CERT}")
    ).allowed
    kv = under_net(f"{MODEL}/kv/public/bf16/{DIGEST}/0-29{META}")
    assert not SCHEMA.check(kv, under_net(f"/{site}/n/decode{CERT}")).allowed


# ---------------------------------------------------------------- requests

REQUESTS: list[tuple[str, set[str]]] = [
    (f"{MODEL}/generate/private/{DIGEST}{PARAMS}", ROLES),
    (f"{CORPUS}/lookup/private/{DIGEST}{PARAMS}", ROLES),
    (f"/service/reviewer/review/private/{DIGEST}{PARAMS}", ROLES),
    (f"{MODEL}/generate/shared/{DIGEST}{PARAMS}", set()),
    (f"/catalog/model/private/{DIGEST}{PARAMS}", set()),
    (f"{MODEL}/generate/private/{DIGEST}", set()),
    (f"{MODEL}/kv/public/bf16/{DIGEST}/0-29{META}", set()),
]


@pytest.mark.parametrize(("name", "allowed"), REQUESTS)
def test_signed_requests(name: str, allowed: set[str]) -> None:
    assert {key for key in KEYS if SCHEMA.check_interest(under_net(name), certificate_of(key)).allowed} == allowed


@pytest.mark.parametrize("verb", ["insert", "list", "usage"])
def test_commands_to_a_repo(verb: str) -> None:
    """Any role of its site, whichever machine, and the operator."""
    asked = under_net(f"/home/n1/repo/ask/{verb}{PARAMS}")
    allowed = {key for key in KEYS if SCHEMA.check_interest(asked, certificate_of(key)).allowed}
    assert allowed == ROLES - {"decode-lab"} | {"operator"}


def test_to_delete_takes_more() -> None:
    for node, allowed in (("n1", {"node", "site", "operator"}), ("n2", {"site", "operator"})):
        asked = under_net(f"/home/{node}/repo/ask/delete{PARAMS}")
        assert {key for key in KEYS if SCHEMA.check_interest(asked, certificate_of(key)).allowed} == allowed
    for other in (f"/home/n1/decode/ask/delete{PARAMS}", "/home/n1/repo/ask/delete"):
        assert not any(SCHEMA.check_interest(under_net(other), certificate_of(key)).allowed for key in KEYS)


@pytest.mark.parametrize("topic", ["append", "user"])
def test_what_is_asked_of_a_log(topic: str) -> None:
    """By any role of its site, whichever machine, and the operator."""
    asked = under_net(f"/home/n1/log/ask/{topic}{PARAMS}")
    allowed = {key for key in KEYS if SCHEMA.check_interest(asked, certificate_of(key)).allowed}
    assert allowed == ROLES - {"decode-lab"} | {"operator"}


def test_to_erase_takes_more() -> None:
    for node, allowed in (("n1", {"node", "site", "operator"}), ("n2", {"site", "operator"})):
        asked = under_net(f"/home/{node}/log/ask/erase{PARAMS}")
        assert {key for key in KEYS if SCHEMA.check_interest(asked, certificate_of(key)).allowed} == allowed


def test_asking_gives_no_right_to_answer() -> None:
    name = under_net(f"{MODEL}/generate/private/{DIGEST}{PARAMS}")
    assert SCHEMA.check_interest(name, certificate_of("user")).rule == "request"
    assert not SCHEMA.check(name, certificate_of("user")).allowed


# ---------------------------------------------------------------- words


def test_verdicts_name_the_rule() -> None:
    assert SCHEMA.check(under_net(f"/catalog/model/x{META}"), certificate_of("operator")).rule == "catalog_record"
    assert SCHEMA.check(under_net(f"{MODEL}/result/generate/{DIGEST}{LIVE}"), certificate_of("decode")).rule == (
        "generate_result"
    )
    assert SCHEMA.check(under_net(f"{MODEL}/{answers('prefill')[0]}"), certificate_of("prefill")).rule == (
        "function_answer"
    )


def test_refusals_say_what_the_name_is_who_may_sign_it_and_whose_the_key_is() -> None:
    said = SCHEMA.check(under_net(f"{MODEL}/kv/public/bf16/{DIGEST}/0-29{META}"), certificate_of("rag")).explanation
    assert "counts as kv block" in said
    assert "decode or prefill or vllm may sign it" in said
    assert "role rag of node n1, site home" in said
    said = SCHEMA.check(under_net(f"/home/n2/decode/ask/status{PARAMS}"), certificate_of("decode")).explanation
    assert "counts as answer" in said and "of the same name" in said and "node n1" in said
    said = SCHEMA.check(under_net("/other"), certificate_of("decode")).explanation
    assert "no rule lets anybody sign" in said
    said = SCHEMA.check(under_net(f"/catalog/model/x{META}"), ndn.from_uri("/evil/KEY/1")).explanation
    assert "/evil, which is not an identity of /ndn-infer/local" in said


def test_signers() -> None:
    name = under_net(f"{MODEL}/tokens/public/{DIGEST}{META}")
    assert SCHEMA.rules_for(name) == ("token_block",)
    assert SCHEMA.signers_for(name) == ("decode", "tokenize")


# ---------------------------------------------------------------- loading


@pytest.mark.parametrize("uri", ["/x", "/a/b/c/d/e", "/edu/ucla/cs", "/%22%20%0A//%2F/%C3%A9", "/..../32=kw/v=3"])
def test_any_network_name_works(uri: str) -> None:
    net = ndn.from_uri(uri.replace("//", "/%2F/"))
    schema = TrustSchema.load(net)
    name = net + ndn.from_uri(f"/catalog/model/x{META}")
    assert schema.check(name, net + ndn.from_uri("/operator" + CERT)).allowed
    assert not schema.check(name, net + ndn.from_uri("/home/n1/decode" + CERT)).allowed
    assert not schema.check(name, certificate_of("operator")).allowed


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=3))
def test_any_bytes_as_network_name(parts: list[bytes]) -> None:
    """No component can end the literal it stands in and change the schema."""
    net = b"".join(ndn.generic(part) for part in parts)
    schema = TrustSchema.load(net)
    operator = net + ndn.from_uri("/operator" + CERT)
    assert schema.check(net + ndn.from_uri(f"/catalog/model/x{META}"), operator).allowed
    assert not schema.check(net + ndn.from_uri(f"/home/n1/decode/ask/status{PARAMS}"), operator).allowed


def test_two_networks_do_not_mix() -> None:
    other = TrustSchema.load(ndn.from_uri("/ndn-infer"))
    # "local" is then a site of the outer network, and what was its operator is a node of it.
    assert not other.check(under_net(f"/catalog/model/x{META}"), certificate_of("operator")).allowed


def test_loading_fails_clearly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one component"):
        TrustSchema.load(b"")
    with pytest.raises(ConfigError, match="defines #net once"):
        TrustSchema.load(NET, "#a: x")
    with pytest.raises(ConfigError, match="does not compile"):
        TrustSchema.load(NET, '#net: "x"\n#a: #net/"b" <= #nothing')
    with pytest.raises(ConfigError, match="does not compile"):
        TrustSchema.load(NET, '#net: "x"\n#a: ///')
    with pytest.raises(ConfigError, match="cannot read"):
        TrustSchema.load(NET, tmp_path / "absent.lvs")
    with pytest.raises(ConfigError, match="functions"):
        TrustSchema.load(NET, '#net: "x"\n#k: #net/"k"\n#a: #net/b & { b: $other("x") } <= #k')


def test_loading_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "own.lvs"
    path.write_text('#net: "x"\n#KEY: "KEY"/_/_/_\n#anchor: #net/#KEY\n#all: #net/"free"/_ <= #anchor\n')
    schema = TrustSchema.load(NET, path)
    assert schema.check(under_net("/free/x"), certificate_of("anchor")).rule == "all"


def test_an_operator_has_a_schema_of_its_own(tmp_path: Path) -> None:
    """All of this package, and a rule for names that it does not know."""
    path = tmp_path / "own.lvs"
    ours = resources.files("ndn_infer").joinpath("schemas", "ndn-infer.lvs").read_text("utf-8")
    path.write_text(f'{ours}\n#note: #net/"notes"/_id/#META <= #operator\n')
    for flags, allowed in (([f"trust.schema={path}"], True), ([], False)):
        schema = trust_schema(configuration.load(file=Path(os.devnull), environment={}, flags=flags))
        assert schema.check(under_net(f"/notes/x{META}"), certificate_of("operator")).allowed is allowed
        assert schema.check(under_net(f"{MODEL}/{answers('embed')[0]}"), certificate_of("embed")).allowed
    with pytest.raises(ConfigError, match="cannot read the trust schema"):
        trust_schema(configuration.load(environment={}, flags=[f"trust.schema={tmp_path}/absent"]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["KEY", "home", "n1", "decode", "model", "kv", "32=metadata", "v=1", "seg=0", "", "x"]))
)
def test_odd_names_get_a_verdict(parts: list[str]) -> None:
    name = b"".join(ndn.component_from_uri(part) if part else ndn.generic(b"") for part in parts)
    for first, second in ((under_net("") + name, certificate_of("decode")), (name, name), (name, NET + name)):
        assert SCHEMA.check(first, second).allowed in (True, False)
        assert SCHEMA.check_interest(first, second).allowed in (True, False)


ALIKE = TrustSchema.load(NET)
"""One that has judged much before."""

TWISTED = """
#net: "n"
#root: #net/"KEY"/_/_/_
#user: #net/a/"KEY"/_/_/_ <= #root
#own: #net/a/x/"own" <= #user
#twin: #net/x/x/"twin" <= #user
#one: #net/x/"one" & {x: $eq_type("v=0")} <= #user
#either: #net/x/"either" & {x: "red"|"blue"} <= #user
"""


@settings(max_examples=300)
@given(st.data())
def test_names_that_are_alike_are_judged_alike(data: st.DataObject) -> None:
    """What is remembered of one name for another never differs from judging the other, for any mixture of parts."""
    base, _ = data.draw(st.sampled_from(MATRIX))
    key = under_net(data.draw(st.sampled_from(sorted(KEYS.values()))) + CERT)
    parts = list(ndn.components(under_net(base)))
    others = [ndn.generic("zz"), ndn.generic("yy"), ndn.version(3), ndn.segment(0), *parts, *ndn.components(key)]
    for _ in range(data.draw(st.integers(0, 2))):
        parts[data.draw(st.integers(0, len(parts) - 1))] = data.draw(st.sampled_from(others))
    name = b"".join(parts)
    assert ALIKE.check(name, key) == ALIKE._judge(name, key)


@pytest.mark.parametrize("backwards", [False, True])
def test_names_that_are_alike_under_constraints(backwards: bool) -> None:
    """Every name of up to three words, in both orders, so that each is judged after those it is like."""
    words = "a b q r own twin one either red blue v=1 v=2 KEY".split()
    schema, allowed = TrustSchema.load(ndn.from_uri("/n"), TWISTED), 0
    names = ["/".join(parts) for count in (1, 2, 3) for parts in itertools.product(words, repeat=count)]
    for owner, text in itertools.product("ab", sorted(names, reverse=backwards)):
        name, key = ndn.from_uri(f"/n/{text}"), ndn.from_uri(f"/n/{owner}/KEY/k/i/v=1")
        assert schema.check(name, key) == schema._judge(name, key), text
        allowed += schema.check(name, key).allowed
    assert allowed > 20
