"""nfdc, every subcommand, against our forwarder and against NFD: the same command list, the same answers.

Answers are compared after masking what must differ (ids, counters, times, addresses). What differs for a reason stands
in DIFFERENCES, with that reason; a difference that went away is an error too.
"""

from __future__ import annotations

import re
import shlex
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest

from tests.interop.peers import OLD_LIST_S, Done, Peer, needs, nfd, our_forwarder, until

pytestmark = needs("nfd", "nfdc", "ndnpeek", "ndnpoke")

DEEP: Final = "".join(f"/{number}" for number in range(34))
STRATEGY: Final = "/localhost/nfd/strategy"

# {udp}, {udp2}: neighbours that nobody is; {tcp}: something listens there; {own}: the forwarder's own UDP listener;
# {id ...}: the id of the face with that remote URI.
COMMANDS: Final = f"""
status show
face list
channel list
face create {{udp}}
face create {{udp}}
face create {{udp}} permanent
face create {{udp}} persistency persistent
face create {{udp}} congestion-marking off mtu 1000
face create {{udp}} congestion-marking on congestion-marking-interval 20 default-congestion-threshold 5000
face create {{udp}} mtu 100
face create {{udp}} mtu 63
face create {{udp}} mtu auto
face create {{udp}} mtu 5000
face create {{udp}} mtu -5
face create {{udp}} reliability on
face show {{id {{udp}}}}
face create {{udp}} reliability off
face show {{id {{udp}}}}
face create {{tcp}}
face create {{tcp}} permanent
face create {{tcp}} congestion-marking off
face create {{tcp}} mtu 1000
face show {{id {{tcp}}}}
face create tcp4://127.0.0.1:1
face create tcp4://127.0.0.1:1 mtu 1000
face create {{udp2}} permanent reliability on congestion-marking on congestion-marking-interval 50 mtu 1200
face create {{udp3}} mtu 63
face create {{udp3}} reliability on
face create udp://localhost:19993
face create udp4://127.0.0.1:19996 local udp4://127.0.0.1:1
face create udp4://224.0.23.170:56363
face create ether://[08:00:27:01:01:01] local dev://none
face create ether://[08:00:27:01:01:01]
face create unix:///nowhere
face create tcp4://127.0.0.1:19997 on-demand
face create
face create nonsense
face list
face list scheme udp4
face list scheme tcp4
face list scheme unix
face list scheme internal
face list scheme ether
face list remote {{udp}}
face list remote udp4://127.0.0.1:19998
face list local {{own}}
face list local udp4://127.0.0.1:19998
face list remote {{udp}} local {{own}} scheme udp4
face list remote {{udp}} scheme tcp4
face show 99999
face show 1
route add /a nexthop {{udp}}
route add /a nexthop {{id {{udp}}}} cost 5 origin app
route add /a nexthop {{udp}} cost 7
route add /a nexthop {{tcp}} origin 17
route add /a/b nexthop {{udp2}} cost 3 capture
route add /a/b/c nexthop {{udp}} no-inherit expires 100000
route add /a/b/c nexthop {{udp2}} origin nlsr cost 9
route add prefix /a/b/d nexthop {{udp2}} origin prefixann cost 4 no-inherit capture
route add / nexthop {{udp}}
route add /new nexthop {{new}}
route add /x nexthop 99999
route add {DEEP} nexthop {{udp}}
route add /x nexthop {{udp}} cost -1
route add /x
route show /a
route show /a/b/c
route show /none
route list
route list nexthop {{udp}}
route list {{id {{tcp}}}}
route list origin nlsr
route list origin autoconf
route list nexthop {{tcp}} origin static
route list nexthop 99999
fib list
route remove /a nexthop {{udp}} origin app
route remove /a nexthop {{udp}} origin app
route remove /none nexthop {{udp}}
route remove /a nexthop 99999
route remove /a/b nexthop {{id {{udp2}}}}
route remove / nexthop {{udp}}
route show /a
fib
strategy list
strategy show /
strategy show /a/b
strategy show /localhost/nfd/faces
strategy set /m {STRATEGY}/multicast
strategy set /m {STRATEGY}/multicast/v=5
strategy show /m/x
strategy set /m {STRATEGY}/best-route
strategy set / {STRATEGY}/multicast
strategy set / {STRATEGY}/best-route
strategy set /m {STRATEGY}/best-route/v=1
strategy set /m {STRATEGY}/best-route/v=99
strategy set /m {STRATEGY}/none
strategy set /m /not/a/strategy
strategy set {DEEP} {STRATEGY}/multicast
strategy set /m {STRATEGY}/asf
strategy set /m {STRATEGY}/random
strategy set /m {STRATEGY}/access
strategy set /m {STRATEGY}/self-learning
strategy set /m {STRATEGY}/best-route/v=5/retx-suppression-initial~20
strategy set /m {STRATEGY}/best-route/v=5/nonsense~20
strategy set /m {STRATEGY}/multicast
strategy list
strategy unset /m
strategy unset /m
strategy unset /none
strategy unset /
strategy unset /ndn/broadcast
strategy list
cs config
cs config capacity 100
cs config admit off
cs config serve on
cs config admit on serve off capacity 65536
cs config capacity -3
cs config admit perhaps
cs erase /none
cs erase /none count 3
cs erase
cs info
face destroy {{udp}}
face destroy {{udp}}
face destroy {{id {{tcp}}}}
face destroy 99999
face destroy udp4://127.0.0.1:19998
route show /a/b/c
nonsense
status nonsense
face nonsense
""".strip().splitlines()

DIFFERENCES: Final[dict[str, str]] = {
    "fib": "after the last, capturing route of /a/b is gone, /a/b/c inherits from /a again with us; NFD forgets it",
    f"strategy set /m {STRATEGY}/random": "we have best-route, multicast and asf",
    f"strategy set /m {STRATEGY}/access": "we have best-route, multicast and asf",
    f"strategy set /m {STRATEGY}/self-learning": "we have best-route, multicast and asf",
    f"strategy set /m {STRATEGY}/best-route/v=5/retx-suppression-initial~20": "our strategies take no parameters",
    f"strategy set /m {STRATEGY}/best-route/v=5/nonsense~20": "our strategies take no parameters; NFD ignores this one",
}

# And two more, masked below: a UDP face to this machine has local scope with us (python-ndn expects it), not with NFD;
# and we tell MTU and congestion marking of a face only to a command that names one of them (python-ndn cannot decode
# them in ndn-cxx's order).
MARKING_NAMED: Final = re.compile("mtu|interval|threshold")
MARKING_TOLD: Final = re.compile(
    r"^(face-.*) congestion-marking-interval=\S+ default-congestion-threshold=\S+ mtu=\S+$", re.MULTILINE
)

ONLY_NFD: Final = {
    r"remote=contentstore://": "its Content Store and null device are faces",
    r"remote=null://": "its Content Store and null device are faces",
    r"^\s*/localhost/nfd(/rib)? nexthops": "its RIB is an application of its own",
    r"^prefix=/localhost/nfd nexthop=": "its RIB is an application of its own",
    r"remote=fd://.*flags=\{local on-demand point-to-point local-fields": "its RIB is an application of its own",
}
"""Lines that are not compared, since NFD alone writes them, or writes more there."""


CHANGES: Final = {
    "face create": "face", "face destroy": "face route", "route add": "route", "route remove": "route",
    "strategy set": "strategy", "strategy unset": "strategy",
}  # fmt: skip
READS: Final = {
    "face list": "face", "face show": "face", "face destroy": "face", "route add": "face", "route remove": "face",
    "route list": "face route", "route show": "route", "fib list": "route", "strategy list": "strategy",
    "strategy show": "strategy", "fib": "route",
}  # fmt: skip
"""Which tables a command changes and reads."""


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    out: tuple[str, ...]
    error: tuple[str, ...]

    def told_otherwise(self, other: Answer) -> str:
        """Lines that only one of both has."""
        mine, theirs = ({str(answer.code), *answer.out, *answer.error} for answer in (self, other))
        return f"we say {sorted(mine - theirs)}, NFD {sorted(theirs - mine)}"


class Transcript:
    """All commands at one forwarder, in order."""

    def __init__(self, peer: Peer, places: dict[str, str]) -> None:
        self._peer = peer
        self._places = {**places, "own": peer.uri("udp")}
        self._changed: dict[str, float] = {}
        self.answers = [self._ask(command) for command in COMMANDS]

    def _ask(self, command: str) -> Answer:
        verb = " ".join(command.split()[:2])
        if self._peer.title == "NFD":
            self._wait_for_new_lists(READS.get(verb, "").split())
        answer = self._answer(command)
        self._changed.update(dict.fromkeys(CHANGES.get(verb, "").split(), time.monotonic()))
        return answer

    def _wait_for_new_lists(self, tables: list[str]) -> None:
        last = max((self._changed.get(table, 0.0) for table in tables), default=0.0)
        time.sleep(max(0.0, last + OLD_LIST_S - time.monotonic()))

    def _answer(self, command: str) -> Answer:
        text = re.sub(r"\{(\w+)\}", lambda match: self._places[match[1]], command)
        text = re.sub(r"\{id (\S+)\}", lambda match: str(self._peer.face(match[1])), text)
        done = self._peer.run("nfdc", *shlex.split(text))
        out = done.text if MARKING_NAMED.search(command) else MARKING_TOLD.sub(r"\1", done.text)
        return Answer(done.code, self._lines(out), self._lines(done.error))

    def _lines(self, text: str) -> tuple[str, ...]:
        peer = self._peer
        for pattern, mask in (
            (re.escape(str(peer.socket)), "SOCKET"),
            (rf"(0\.0\.0\.0|127\.0\.0\.1):{peer.tcp_port}\b", "OWN-TCP"),
            (rf"(0\.0\.0\.0|127\.0\.0\.1):{peer.udp_port}\b", "OWN-UDP"),
            (r"local=tcp4://127\.0\.0\.1:\d+", "local=tcp4://HERE"),
            (r"fd://\d+", "fd://N"),
            (r"\b(faceid|id|nexthop)=\d+", r"\1=N"),
            (r"expires=\d+s", "expires=Ns"),
            (r"counters=\{.*\}\}", "counters={}"),
            (r"(udp4.*flags=\{)(non-)?local", r"\1SCOPE"),
            (r"(^ +flags=\{)(non-)?local", r"\1SCOPE"),
            (r"=\d{8}T[\d.]+|=\d+ seconds", "=TIME"),
            (r"^( *(?:n[A-Z]\w+|version))=.*$", r"\1=N"),
        ):
            text = re.sub(pattern, mask, text, flags=re.MULTILINE)
        lines = [line for line in text.splitlines() if not any(re.search(only, line) for only in ONLY_NFD)]
        return tuple(sorted(lines))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with our_forwarder(tmp_path_factory.mktemp("ours")) as peer:
        yield peer


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with nfd(tmp_path_factory.mktemp("nfd"), udp_mtu_bytes=1400) as peer:
        yield peer


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Transcript, Transcript]]:
    """What our forwarder and what NFD said, both fresh."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        places = {
            "udp": "udp4://127.0.0.1:19991", "udp2": "udp4://127.0.0.1:19992", "udp3": "udp4://127.0.0.1:19994",
            "new": "udp4://127.0.0.1:19995", "tcp": f"tcp4://127.0.0.1:{listener.getsockname()[1]}",
        }  # fmt: skip
        with our_forwarder(tmp_path_factory.mktemp("ours")) as one:
            first = Transcript(one, places)
        with nfd(tmp_path_factory.mktemp("nfd"), udp_mtu_bytes=1400) as other:
            yield first, Transcript(other, places)


def _readable(command: str) -> str:
    return command.replace(DEEP, "/34-components").replace(STRATEGY, "STRATEGY").replace(" ", "-").replace("/", "|")


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=[_readable(command) for command in COMMANDS])
def test_nfdc_hears_the_same_as_from_nfd(transcripts: tuple[Transcript, Transcript], number: int) -> None:
    command = COMMANDS[number]
    mine, theirs = (transcript.answers[number] for transcript in transcripts)
    if command in DIFFERENCES:
        assert mine != theirs, "no difference any more: take it out of DIFFERENCES"
        return
    assert mine == theirs, f"{command}: {mine.told_otherwise(theirs)}"


# ---------------------------------------------------------------- reports


def _headings(report: str) -> list[str]:
    return [line for line in report.splitlines() if line and not line.startswith(" ") and line.endswith(":")]


def test_status_report_as_text(ours: Peer, theirs: Peer) -> None:
    """The same sections in the same order, with what they must tell."""
    report = ours.nfdc("status", "report")
    assert _headings(report) == _headings(theirs.nfdc("status", "report"))
    assert _headings(report) == _headings(ours.nfdc("status", "report", "text"))
    assert "remote=fd://" in report and "/localhost/nfd nexthops=" in report and "capacity=65536" in report


def _paths(element: ElementTree.Element, above: str = "") -> set[str]:
    here = f"{above}/{element.tag.rpartition('}')[2]}"
    return {here}.union(*(_paths(child, here) for child in element))


def test_status_report_as_xml(ours: Peer, theirs: Peer) -> None:
    """The same elements at the same places, when the same faces and routes are there."""
    for peer in (ours, theirs):
        peer.nfdc("face", "create", "udp4://127.0.0.1:19991")
        peer.nfdc("route", "add", "/xml", "nexthop", "udp4://127.0.0.1:19991", "expires", "1000000")
    time.sleep(OLD_LIST_S)
    mine, other = (ElementTree.fromstring(peer.nfdc("status", "report", "xml")) for peer in (ours, theirs))
    assert mine.tag == other.tag and _paths(mine) == _paths(other)


def test_bad_report_format(ours: Peer, theirs: Peer) -> None:
    mine, other = (peer.run("nfdc", "status", "report", "pdf") for peer in (ours, theirs))
    assert (mine.code, mine.error) == (other.code, other.error) and mine.code != 0


# ---------------------------------------------------------------- batches

BATCH: Final = """# faces first
face create udp4://127.0.0.1:19981 persistency permanent

route add "/batch/one" nexthop udp4://127.0.0.1:19981 cost 2
route add prefix /batch/two \\
  nexthop udp4://127.0.0.1:19981
strategy set /batch /localhost/nfd/strategy/multicast
cs config capacity 4000
"""


def _batch(peer: Peer, commands: str, directory: Path) -> Done:
    path = directory / "batch.txt"
    path.write_text(commands)
    done = peer.run("nfdc", "-f", str(path))
    text = MARKING_TOLD.sub(r"\1", re.sub(r"(id|nexthop)=\d+", r"\1=N", done.text))
    return Done(done.code, text.encode(), done.error)


def test_batch_file(ours: Peer, theirs: Peer, tmp_path: Path) -> None:
    mine, other = (_batch(peer, BATCH, tmp_path) for peer in (ours, theirs))
    masked = mine.text.replace(str(ours.udp_port), "PORT"), other.text.replace(str(theirs.udp_port), "PORT")
    assert masked[0] == masked[1] and (mine.code, mine.error) == (other.code, other.error) == (0, "")
    routes = ours.nfdc("route", "list")
    assert "prefix=/batch/one" in routes and "prefix=/batch/two" in routes
    assert "strategy=/localhost/nfd/strategy/multicast" in ours.nfdc("strategy", "show", "/batch/x")
    assert "capacity=4000" in ours.nfdc("cs", "info")


def test_batch_from_standard_input(ours: Peer) -> None:
    commands = "".join(f"route add /stdin/{number} nexthop udp4://127.0.0.1:19982\n" for number in range(200))
    ours.good("nfdc", "-f", "-", text=commands.encode())
    assert ours.nfdc("route", "list").count("prefix=/stdin/") == 200  # more than fits one segment


def test_batch_stops_at_the_first_error(ours: Peer, theirs: Peer, tmp_path: Path) -> None:
    text = "cs config capacity 3000\nstrategy set /s /localhost/nfd/strategy/none\ncs config capacity 2000\n"
    mine, other = (_batch(peer, text, tmp_path) for peer in (ours, theirs))
    assert mine == other and mine.code != 0 and "line 2" in mine.error
    assert "capacity=3000" in ours.nfdc("cs", "info")


# ---------------------------------------------------------------- what commands do


def test_erase_takes_what_it_says(ours: Peer) -> None:
    for name in ("/erase/a", "/erase/b", "/erase/c"):
        with ours.serving("ndnpoke", name, prefix=name, text=b"x"):
            ours.good("ndnpeek", name)
    assert "count=1" in ours.nfdc("cs", "erase", "/erase", "count", "1")
    assert "count=2" in ours.nfdc("cs", "erase", "/erase")
    assert "count=0" in ours.nfdc("cs", "erase", "/erase")


def test_a_route_expires(ours: Peer) -> None:
    ours.nfdc("route", "add", "/short", "nexthop", "1", "expires", "300")
    assert ours.routed("/short")
    until(lambda: not ours.routed("/short"), "the route is gone")
    assert ours.run("nfdc", "route", "show", "/short").code == 6


def test_routes_go_with_their_face(ours: Peer) -> None:
    ours.nfdc("face", "create", "udp4://127.0.0.1:19983")
    ours.nfdc("route", "add", "/gone", "nexthop", "udp4://127.0.0.1:19983")
    assert ours.routed("/gone")
    ours.nfdc("face", "destroy", "udp4://127.0.0.1:19983")
    assert not ours.routed("/gone")
