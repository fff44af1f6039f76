"""Addresses as text, forwarder URIs, face URIs, and whom a web page may speak for."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.addresses import address_error, is_loopback, split_host_port
from ndn_infer.config import ForwarderConfig
from ndn_infer.errors import ConfigError
from ndn_infer.forwarder.link.face_uri import FaceUriError, parse_face_uri
from ndn_infer.forwarder.shell.listeners import addresses_of
from ndn_infer.transport.link.links import connect, parse_uri
from ndn_infer.web_pages import asked_for, from_this_machine


@given(st.one_of(st.ip_addresses(), st.sampled_from(["node1", "a.example", "localhost", ""])), st.integers(0, 65535))
def test_a_host_and_a_port_come_back_as_written(host: object, port: int) -> None:
    text = str(host)
    written = f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
    assert split_host_port(written) == (text, port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("6363", "host:port"),
        ("host:", "a port"),
        ("host:-1", "a port"),
        ("host:٣", "a port"),
        ("host:99999", "65535"),
        ("host:" + "9" * 5000, "65535"),
        ("[::1:6363", "IPv6"),
        ("[nowhere]:1", "IPv6"),
        ("[::1]6363", "IPv6"),
        ("::1:6363", "brackets"),
        ("a b:1", "spaces"),
    ],
)
def test_what_is_no_address_is_told_what_is_right(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        split_host_port(text)
    if text:
        with pytest.raises(ConfigError, match=r"tcp_bind.*" + words):
            ForwarderConfig(tcp_bind=("127.0.0.1:1", text))


def test_several_listen_addresses() -> None:
    given = ["127.0.0.1:1", "[::1]:2", ":3", "127.0.0.1:1"]
    assert addresses_of(given) == [
        ("127.0.0.1", 1),
        ("::1", 2),
        ("", 3),
    ]


# ---------------------------------------------------------------- a forwarder's URI


@pytest.mark.parametrize(
    "uri",
    [
        "tcp://127.0.0.1:99999", "tcp://127.0.0.1:abc", "tcp://[::1:6363", "tcp://:6363", "tcp://", "tcp://h:0", "unix://",
        "unix://relative/path", "unix:///a\0b", "udp://127.0.0.1:6363", "/run/nfd.sock", "", "tcp4://a/b:1", "http://x",
    ],
)  # fmt: skip
async def test_a_bad_forwarder_address_is_an_error_of_use(uri: str) -> None:
    with pytest.raises(ConfigError, match="cannot use forwarder address") as caught:
        await connect(uri, 1.0)
    assert "unix:///path" in caught.value.hint


async def test_a_host_that_no_name_can_be_is_an_error_of_use() -> None:
    with pytest.raises(ConfigError, match="no host"):
        await connect("tcp://a..b:1", 1.0)


def test_forwarder_addresses_that_are_good() -> None:
    assert parse_uri("tcp6://[fe80::1%eth0]:7")[2] == ("fe80::1%eth0", 7)
    assert parse_uri("tcp://node1")[2] == parse_uri("tcp4://node1:6363/")[2] == ("node1", 6363)
    assert parse_uri("unix:///run/nfd.sock")[1] == "/run/nfd.sock"


# ---------------------------------------------------------------- face URIs


@pytest.mark.parametrize("text", ["udp4://10.0.0.2:6363", "tcp6://[::1]:6363", "udp6://[fe80::1%eth0]:6363"])
def test_canonical_face_uris_come_back(text: str) -> None:
    assert str(parse_face_uri(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "udp6://10.0.0.2:1", "udp4://[::1]:1", "tcp4://10.0.0.2", "tcp4://10.0.0.2:x", "tcp4://10.0.0.2:65536",
        "udp6://[FE80::1%eth0]:1", "udp6://[fe80::1]:1", "udp6://[2001:db8::1%eth0]:1", "udp6://[0:0::1]:1",
        "udp6://[fe80::1%25eth0]:1", "udp6://::1:1",
    ],
)  # fmt: skip
def test_others_are_not_canonical(text: str) -> None:
    with pytest.raises(FaceUriError) as caught:
        parse_face_uri(text)
    assert caught.value.code == 400


# ---------------------------------------------------------------- loopback, origins, hosts


@given(st.ip_addresses())
def test_loopback_is_an_address_of_the_interface(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    assert is_loopback(str(address)) is (mapped or address).is_loopback


FOREIGN = [
    "127.0.0.1.evil.example", "127.attacker.net", "localhost.evil.example", "localhost:x", "evil.example", "127.1",
    "2130706433", "0.0.0.0", "", "127.0.0.1@evil.example", "127.0.0.1/x", "[::1", "127.0.0.1:1:2",
]  # fmt: skip
OURS = ["localhost", "LOCALHOST:9696", "127.0.0.1", "127.8.8.8:80", "[::1]:9696", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", FOREIGN)
def test_names_that_only_look_like_this_machine(host: str) -> None:
    assert not is_loopback(host)
    assert not from_this_machine([f"http://{host}"], ["127.0.0.1:9696"])
    assert not from_this_machine([], [host])
    if host != "0.0.0.0":  # an address, which no page can own
        assert not asked_for([host], {"node1"})


@pytest.mark.parametrize("host", OURS)
def test_this_machine(host: str) -> None:
    assert from_this_machine([f"http://{host}"], [host]) and from_this_machine([], [host])
    assert asked_for([host], set())


def test_one_origin_at_most_and_exactly_one_host() -> None:
    assert not from_this_machine(["null"], ["localhost"])
    assert not from_this_machine([], []) and not from_this_machine([], ["localhost", "localhost"])
    assert not from_this_machine(["http://localhost", "http://evil.example"], ["localhost"])
    assert asked_for(["Node1:9464"], {"node1"}) and asked_for(["192.0.2.7:9464"], set())
    assert not asked_for([], {"node1"}) and not asked_for(["node1", "node1"], {"node1"})


def test_a_path_that_no_unix_socket_can_have_is_told_with_what_to_do() -> None:
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError) as caught:
        sock.bind("/tmp/" + "x" * 200)
    told = address_error("the socket", caught.value)
    assert "too long" in str(told) and "paths.runtime_dir" in told.hint
