"""Configuration: every option from every source, near misses, hostile files and variables."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import config
from ndn_infer.config import values
from ndn_infer.errors import ConfigError

OPTIONS = list(config.options())


EXAMPLES = {
    values.name: "/a,/b/v=1", values.address: "127.0.0.1:1,:2", values.grant: "/a=/b,/a=/c",
    values.named_model: "gpt-4o=m,=m",
    values.trusted_signer: "/lab,0123abcd=/lab/x", values.store_policy: "/a=ttl:1+share:0.5,/b=pin",
    values.device: "cuda:1", values.permissions: "660",
    values.log_policy: "public=/a/log+gateway+refuse,*=/b/log+decode+spool",
    values.http_url: "http://127.0.0.1:4318", values.file_path: "~/a folder/x",
}  # fmt: skip


def other(section: str, key: str, value: object) -> str:
    """A text for another value that the option takes."""
    limits = config.limits(section, key)
    if limits.form is not None:
        return EXAMPLES[limits.form]
    if limits.choices:
        return next(choice for choice in limits.choices if choice and choice != value)
    if isinstance(value, tuple):
        return "a, b"
    if isinstance(value, str):
        return f"{value}x"
    assert isinstance(value, int | float)
    others = (value + 1, type(value)(value - 1), *((value / 2,) if isinstance(value, float) else ()))
    return str(next(item for item in others if limits.low <= item <= limits.high))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option[0]}.{option[1]}")
def test_every_option_can_be_set_everywhere(option: tuple[str, str, object, str], tmp_path: Path) -> None:
    section, key, default, _ = option
    text = other(section, key, default)
    if isinstance(default, str) and "," in text:
        text = text.split(",")[0]
    expected = tuple(map(str.strip, text.split(","))) if isinstance(default, tuple) else type(default)(text)
    file = tmp_path / "config.toml"
    file.write_text(f"[{section}]\n{key} = {json.dumps(expected)}")
    variable = f"NDN_INFER_{section}_{key}".upper()
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    for word, effective in {
        "file": config.load(file=file),
        "environment": config.load(file=empty, environment={variable: text}),
        "flag": config.load(file=empty, flags=[f"{section}.{key}={text}"]),
    }.items():
        assert getattr(getattr(effective, section), key) == expected
        assert effective.origins[f"{section}.{key}"].startswith(word)
        others = {name for name, origin in effective.origins.items() if origin != "default"}
        assert others == {f"{section}.{key}"}


@pytest.mark.parametrize(
    ("environment", "flags", "words"),
    [
        ({"NDN_INFER_FETCH": "1"}, [], "NDN_INFER_FETCH"), ({"NDN_INFER_": "1"}, [], "NDN_INFER_"),
        ({"NDN_INFER_FETCH_LIFETIME": "1"}, [], "lifetime_ms"), ({"NDN_INFER_FOO_BAR": "1"}, [], "FOO_BAR"),
        ({"NDN_INFER_FETCH_LIFETIME_MS": "soon"}, [], "int"), ({}, ["fetch.lifetime_ms"], "section.key=value"),
        ({}, ["lifetime_ms=1"], "section.key=value"), ({}, ["fetch.lifetme_ms=1"], "did you mean 'lifetime_ms'"),
        ({}, ["ftch.lifetime_ms=1"], "did you mean 'fetch'"), ({}, ["fetch.lifetime_ms=-1"], "0.* or more|1 to 600000"),
        ({}, ["fetch.deadline_s=nan"], "finite"), ({}, ["fetch.deadline_s=inf"], "finite"),
        ({}, ["fetch.deadline_s=1,5"], "float"), ({}, ["fetch.lifetime_ms=1.5"], "int"),
    ],
)  # fmt: skip
def test_near_misses_name_what_is_wrong(
    environment: dict[str, str], flags: list[str], words: str, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    with pytest.raises(ConfigError, match=words) as caught:
        config.load(file=empty, environment=environment, flags=flags)
    assert "\n" not in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[fetch", "TOML"), (b"\xff\xfe", "TOML"), (b"a = " + b"[" * 5000, "TOML"), (b"fetch = 1", "outside"),
        (b"[fetch]\ndeadline_s = nan", "finite"), (b"[fetch]\nlifetime_ms = 1.0", "int"),
        (b"[fetch]\nlifetime_ms = 2020-01-01", "int"), (b"[[fetch]]\nlifetime_ms = 1", "outside"),
        (b"[ask]\nmodel = 1", "str"), (b"[fetch.x]\ny = 1", "fetch.x"),
    ],
    ids=range(10),
)  # fmt: skip
def test_files_that_are_wrong(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        config.load(file=file)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option[0]}.{option[1]}")
def test_every_option_refuses_what_is_out_of_its_range(option: tuple[str, str, object, str]) -> None:
    section, key, default, _ = option
    limits = config.limits(section, key)
    assert not limits.refuses(default)
    beyond = [f"{limits.low - 1:.17g}", f"{limits.high + 1:.17g}"] if isinstance(default, int | float) else []
    for text in ["no-such-word"] if limits.choices else [value for value in beyond if value not in ("inf", "nan")]:
        text = str(int(float(text))) if isinstance(default, int) and not limits.choices else text
        with pytest.raises(ConfigError, match=f"{section}.{key} ") as caught:
            config.load(file=Path(os.devnull), flags=[f"{section}.{key}={text}"])
        assert str(limits) in str(caught.value)


@pytest.mark.parametrize("option", [one for one in OPTIONS if config.limits(*one[:2]).form is values.file_path],
                         ids=lambda option: f"{option[0]}.{option[1]}")  # fmt: skip
def test_a_path_at_nobodys_home_is_refused_where_it_is_given(option: tuple[str, str, object, str]) -> None:
    section, key, *_ = option
    for text in ("~nosuchuser/x", "a\0b"):
        with pytest.raises(ConfigError, match=f"{section}.{key} has .*(home|zero byte)") as caught:
            config.load(file=Path(os.devnull), flags=[f"{section}.{key}={text}"])
        assert caught.value.hint and "\n" not in str(caught.value)


def test_a_user_without_a_home_is_told_which_folders_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.platformdirs, "user_data_dir", lambda name: f"~nosuchuser/{name}")
    monkeypatch.setattr(config.platformdirs, "user_cache_dir", lambda name: f"~nosuchuser/{name}")
    with pytest.raises(ConfigError, match=r"paths\.data_dir") as caught:
        config.load(file=Path(os.devnull))
    assert caught.value.hint == "--set paths.data_dir=/some/folder"
    with pytest.raises(ConfigError, match=r"paths\.cache_dir"):
        _ = config.load(file=Path(os.devnull), flags=["paths.data_dir=/x"]).cache_dir


def test_truth_is_read_from_words_not_from_length() -> None:
    """bool("false") is True."""
    for text, value in {"false": False, "0": False, "off": False, "True": True, "on": True}.items():
        assert values.from_text(bool, text) is value
    with pytest.raises(ValueError):
        values.from_text(bool, "maybe")
    assert config.ValueLimits().refuses(False) == ""


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("forwarder.tcp_bind=127.0.0.1", "expected host:port"), ("forwarder.udp_bind=127.0.0.1:99999", "65535"),
        ("forwarder.tcp_bind=:1,,:2", "has an item ''"), ("forwarder.tcp_bind=:1 :2", "brackets"),
        ("forwarder.cs_counted=a", "starts with '/'"), ("forwarder.cs_counted=/v=x", "not a number"),
        ("forwarder.grants=/a", "identity=prefix"), ("forwarder.grants=/=/b", "identity=prefix"),
        ("kv.trusted_signers=lab", "write /ndn"), ("kv.trusted_signers=01=/lab", "write /ndn"),
        ("producer.store_policies=/a", "ttl:SECONDS"), ("producer.store_policies=/a=", "ttl:SECONDS"),
        ("producer.store_policies=/a=ttl:x", "ttl:SECONDS"), ("producer.store_policies=/a=share:2", "ttl:SECONDS"),
        ("producer.store_policies=/a=ttl:-1", "ttl:SECONDS"), ("producer.store_policies=/a=pin:1", "ttl:SECONDS"),
        ("producer.store_policies=/a=ttl:nan", "ttl:SECONDS"), ("engine.device=gpu", "cuda"),
        ("forwarder.unix_mode=8", "octal"), ("network.net=lab", "starts with"),
    ],
)  # fmt: skip
def test_items_are_checked_where_they_are_given(flag: str, words: str) -> None:
    path = flag.partition("=")[0]
    with pytest.raises(ConfigError, match=words) as caught:
        config.load(file=Path(os.devnull), flags=[flag])
    assert path in str(caught.value)


@pytest.mark.parametrize("text", ['"127.0.0.1:1"', "[1]", '[":1", 2]', '[[":1"]]', "{a = 1}"])
def test_a_list_in_a_file_is_an_array_of_texts(text: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f"[forwarder]\ntcp_bind = {text}")
    with pytest.raises(ConfigError, match=r'forwarder.tcp_bind is a list, as \["a", "b"\]'):
        config.load(file=file)
    file.write_text("[forwarder]\ntcp_bind = []")
    assert config.load(file=file).forwarder.tcp_bind == ()


def test_what_engines_and_codecs_there_are() -> None:
    """Choices that name objects of other units, which config does not import."""
    pytest.importorskip("torch")
    from ndn_infer.engine.next_tokens import SPECULATION
    from ndn_infer.engine.weights import DTYPES
    from ndn_infer.kv.codec import CODECS

    for key, known in {"speculation": SPECULATION, "dtype": DTYPES, "kv_codec": CODECS}.items():
        assert set(config.limits("engine", key).choices) == set(known)


def test_the_network_in_use_is_below_every_other_setting(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text('net = "/lab"\nsite = "gpu"\nnode = "g1"\n')
    flags = [f"paths.data_dir={tmp_path}"]
    effective = config.load(file=Path(os.devnull), flags=flags)
    assert (effective.network.net, effective.network.site, effective.network.node) == ("/lab", "gpu", "g1")
    assert config.load(file=Path(os.devnull), flags=[*flags, "network.net=/x"]).network.net == "/x"
    for wrong, words in {"net = 1": "net", 'nett = "/x"': "nett", "[[": "TOML"}.items():
        (tmp_path / "network.toml").write_text(wrong)
        with pytest.raises(ConfigError, match=words):
            config.load(file=Path(os.devnull), flags=flags)


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            config.load(file=path)


words = st.sampled_from(
    ["fetch", "lifetime_ms", "deadline_s", "ask", "model", "=", ".", "[", "]", "\n", "1", "'x'", " "]
)


@settings(max_examples=300)
@given(st.lists(words | st.text(max_size=6), max_size=12).map("".join))
def test_hostile_texts_raise_nothing_but_config_error(text: str) -> None:
    for load in (
        lambda: config.load(flags=[text], file=Path(os.devnull)),
        lambda: config.load(environment={"NDN_INFER_" + text: text}, file=Path(os.devnull)),
    ):
        try:
            load()
        except ConfigError:
            continue


@settings(max_examples=200)
@given(st.lists(words | st.text(max_size=6), max_size=20).map("".join))
def test_hostile_files_raise_nothing_but_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config.load(file=file)
    except ConfigError:
        return


def test_directories_of_two_networks_differ(tmp_path: Path) -> None:
    one, two = (
        config.load(file=Path(os.devnull), flags=[f"paths.data_dir={tmp_path}", f"network.net={net}"])
        for net in ("/a/b", "/a+b")
    )
    assert one.keys_dir != two.keys_dir
    assert one.keys_dir.parent.parent == two.keys_dir.parent.parent == tmp_path
    assert one.socket_path.name == "forwarder.sock"
    assert one.socket_path != two.socket_path


def test_two_homes_of_a_user_have_two_sockets(tmp_path: Path) -> None:
    one, two = (config.load(file=Path(os.devnull), flags=[f"paths.data_dir={tmp_path / home}"]) for home in "ab")
    assert one.socket_path != two.socket_path and one.socket_path.parent.parent == two.socket_path.parent.parent
