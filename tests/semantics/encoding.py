"""What is a packet at all: TLV rules, order of elements, what may be ignored."""

from __future__ import annotations

from ndn_infer import ndn
from ndn_infer.ndn import tlv
from tests.forwarder_world import data, interest
from tests.semantics.scenario import DA, A, Scenario, Step, raw_interest

NAME = ndn.encode_name(ndn.from_uri("/a/b"))
NONCE = b"\x0a\x04\0\0\0\1"
META, CONTENT, INFO, VALUE = b"\x14\x00", b"\x15\x01x", b"\x16\x03\x1b\x01\x00", b"\x17\x20" + bytes(32)
IGNORABLE, CRITICAL = b"\xfd\x01\x00\x00", b"\xfd\x01\x01\x00"
PARAMETERS = interest("/a/b", 1, parameters=b"x")
SPOILT = PARAMETERS[:-1] + b"y"

ENDS_NFD = "NFD 24.07-31 takes it, and ends with SIGSEGV"


def name_of(*components: bytes) -> bytes:
    return tlv.encode_tlv(7, b"".join(components))


def bare_data(*elements: bytes) -> bytes:
    return tlv.encode_tlv(6, b"".join(elements))


DIGESTED = b"\x02\x20" + bytes(32)
DIGESTED_URI = ndn.to_uri(b"\x08\x01a" + DIGESTED)
OLD_HINT = tlv.encode_tlv(0x1E, tlv.encode_tlv(0x1F, b"\x1e\x01\x0a" + ndn.encode_name(ndn.from_uri("/a"))))
BAD_META = {
    "a ContentType of three bytes": b"\x18\x03\0\0\0",
    "a ContentType beyond 32 bits": b"\x18\x08\0\0\0\x01\0\0\0\0",
    "a FinalBlockId that is no component": b"\x1a\x02\x08\x05",
    "an empty FinalBlockId": b"\x1a\x00",
    "a FinalBlockId of two components": b"\x1a\x04\x08\x00\x08\x00",
    "a FinalBlockId that is a short digest": b"\x1a\x03\x01\x01x",
    "application MetaInfo cut short": b"\x19\x01\x00\xf0\x07x",
}
GOOD_META = {
    "MetaInfo in full": b"\x18\x01\x00\x19\x02\x27\x10\x1a\x03\x32\x01\x09",
    "MetaInfo of an application, critical types included": b"\x19\x01\x00\xfd\x01\x01\x00",
    "a second ContentType, which is the application's": b"\x18\x01\x00\x18\x03\0\0\0",
}
BAD_INFO = {
    "a SignatureInfo without a type": b"",
    "a KeyLocator alone": b"\x1c\x04\x07\x02\x08\x00",
    "a SignatureType of three bytes": b"\x1b\x03\0\0\0",
    "a SignatureType beyond 16 bits": b"\x1b\x04\0\x01\0\0",
    "a second SignatureType": b"\x1b\x01\x00\x1b\x01\x00",
    "a KeyLocator before the type": b"\x1c\x04\x07\x02\x08\x00\x1b\x01\x00",
    "an unknown critical element of SignatureInfo": b"\x1b\x01\x00\xfd\x01\x01\x00",
    "an element of SignatureInfo cut short": b"\x1b\x01\x00\x1c\x09\x07",
    "an empty SignatureNonce": b"\x1b\x01\x00\x26\x00",
}
GOOD_INFO = {
    "a KeyLocator": b"\x1b\x01\x00\x1c\x04\x07\x02\x08\x00",
    "a ValidityPeriod": b"\x1b\x01\x00\xfd\x00\xfd\x00",
    "an unknown other element of SignatureInfo": b"\x1b\x01\x00\xfd\x01\x00\x00",
    "a SignatureType of two bytes": b"\x1b\x02\x00\x05",
}


def parameters(elements: bytes) -> bytes:
    """An Interest that may have parameters."""
    return tlv.encode_tlv(5, name_of(b"\x08\x01a", DIGESTED) + elements)


def dropped(wire: bytes) -> list[Step]:
    """Nothing comes of it, and the face lives on."""
    return [(0, "c", wire, []), (0.1, "c", A, ["p<I/a/b#1"])]


def data_dropped(wire: bytes) -> list[Step]:
    return [(0, "c", A, ["p<I/a/b#1"]), (0.1, "p", wire, []), (0.2, "p", DA, ["c<D/a/b"])]


SCENARIOS = [
    # ------------------------------------------------------------ TLV
    Scenario("lengths take the shortest form (PF Variable-Size Encoding)", dropped(
        tlv.encode_tlv(5, name_of(b"\x08\xfd\x00\x01a") + NONCE)), ours=ENDS_NFD),
    Scenario("types take the shortest form (PF Variable-Size Encoding)", dropped(
        tlv.encode_tlv(5, name_of(b"\xfd\x00\x08\x01a") + NONCE)), ours=ENDS_NFD),
    Scenario("type 0 is no element (PF TLV)", dropped(raw_interest(b"\x00\x00"))),
    Scenario("an element ends within the one around it (PF TLV)", dropped(
        tlv.encode_tlv(5, b"\x07\x03\x08\x09a" + NONCE))),
    Scenario("a number has 1, 2, 4 or 8 bytes (PF Non-Negative Integer)", dropped(
        raw_interest(b"\x0c\x03\x00\x0f\xa0"))),
    Scenario("a number may be longer than it needs (PF Non-Negative Integer)", [
        (0, "c", raw_interest(b"\x0c\x08" + (1000).to_bytes(8, "big")), ["p<I/a/b#1"])]),
    # ------------------------------------------------------------ names
    Scenario("no component type is above 65535 (PF Name)", dropped(
        tlv.encode_tlv(5, name_of(b"\xfe\x00\x01\x00\x00\x01a") + NONCE))),
    Scenario("component type 65535 is one (PF Name)", [
        (0, "c", tlv.encode_tlv(5, name_of(b"\x08\x01a", b"\xfd\xff\xff\x01a") + NONCE), ["p<I/a/65535=a#1"])]),
    Scenario("a parameters digest has 32 bytes (PF Name)", dropped(
        tlv.encode_tlv(5, name_of(b"\x08\x01a", b"\x02\x01x") + NONCE))),
    Scenario("an empty component is one (PF Name)", [
        (0, "c", tlv.encode_tlv(5, name_of(b"\x08\x01a", b"\x08\x00") + NONCE), ["p<I/a/...#1"])]),
    # ------------------------------------------------------------ Interest
    Scenario("nothing stands before the Name (PF Interest)", dropped(tlv.encode_tlv(5, IGNORABLE + NAME + NONCE))),
    Scenario("CanBePrefix has no value (PF CanBePrefix)", dropped(tlv.encode_tlv(5, NAME + b"\x21\x01x" + NONCE))),
    Scenario("MustBeFresh has no value (PF MustBeFresh)", dropped(tlv.encode_tlv(5, NAME + b"\x12\x01x" + NONCE))),
    Scenario("HopLimit has one byte (PF HopLimit)", dropped(raw_interest(b"\x22\x02\x00\x05"))),
    Scenario("a ForwardingHint names somebody (PF ForwardingHint)", dropped(
        tlv.encode_tlv(5, NAME + b"\x1e\x00" + NONCE))),
    Scenario("a ForwardingHint holds good names (PF ForwardingHint, PF Name)", dropped(
        tlv.encode_tlv(5, NAME + b"\x1e\x04\x07\x02\x08\x09" + NONCE))),
    Scenario("InterestLifetime after HopLimit is out of order, and critical (PF Evolvability)", dropped(
        raw_interest(b"\x22\x01\x05\x0c\x02\x0f\xa0"))),
    Scenario("a second HopLimit is out of order, and not critical (PF Evolvability)", [
        (0, "c", raw_interest(b"\x22\x01\x05\x22\x01\x09"), ["p<I/a/b#1 h4"])]),
    Scenario("elements that nobody knows may stand anywhere behind the Name (PF Evolvability)", [
        (0, "c", tlv.encode_tlv(5, NAME + IGNORABLE + NONCE + IGNORABLE + b"\x22\x01\x05" + IGNORABLE),
         ["p<I/a/b#1 h4"])]),
    Scenario("type numbers below 32 are critical, even ones too (PF Evolvability)", dropped(raw_interest(b"\x1c\x00"))),
    Scenario("ApplicationParameters want a digest in the name (PF Parameters Digest)", dropped(
        raw_interest(b"\x24\x01x"))),
    Scenario("whether that digest is right is the producer's business (PF Parameters Digest)", [
        (0, "c", SPOILT, ["p<I" + ndn.to_uri(ndn.decode_name(PARAMETERS, 4, 4 + PARAMETERS[3])) + "#1"])]),
    Scenario("what follows ApplicationParameters may be unknown (PF Evolvability, PF Parameters Digest)", [
        (0, "c", interest("/a/c", 1), ["p<I/a/c#1"]), (0.1, "c", raw_interest(IGNORABLE), ["p<I/a/b#1"])]),
    Scenario("a name has one parameters digest at most (PF Parameters Digest)", dropped(
        tlv.encode_tlv(5, name_of(b"\x08\x01a", DIGESTED, DIGESTED) + NONCE + b"\x24\x01x"))),
    Scenario("so has one of an Interest without parameters (PF Parameters Digest)", dropped(
        tlv.encode_tlv(5, name_of(b"\x08\x01a", DIGESTED, DIGESTED) + NONCE))),
    Scenario("what is critical and unknown after ApplicationParameters spoils the Interest (PF Evolvability)", dropped(
        parameters(NONCE + b"\x24\x01x" + CRITICAL))),
    Scenario("what is critical and known does too (PF Evolvability)", dropped(
        parameters(NONCE + b"\x24\x01x" + b"\x21\x00"))),
    Scenario("ApplicationParameters before the Nonce put it out of order (PF Evolvability)", dropped(
        parameters(b"\x24\x01x" + NONCE))),
    Scenario("second ApplicationParameters are ignored, and so is a HopLimit after them (PF Evolvability)", [
        (0, "c", parameters(NONCE + b"\x24\x01x" + b"\x24\x01y" + b"\x22\x01\x05"), [f"p<I{DIGESTED_URI}#1 h5"])]),
    Scenario("an element cut short after ApplicationParameters spoils the Interest (PF TLV)", dropped(
        parameters(NONCE + b"\x24\x01x" + b"\xf0\x09a"))),
    Scenario("a ForwardingHint of Delegations names what they name (PF ForwardingHint)", [
        (0, "c", tlv.encode_tlv(5, ndn.encode_name(ndn.from_uri("/z")) + OLD_HINT + NONCE), ["p<I/z#1 via=/a"])]),
    Scenario("a Delegation without a name spoils the Interest (PF ForwardingHint)", dropped(
        tlv.encode_tlv(5, NAME + b"\x1e\x05\x1f\x03\x1e\x01\x01" + NONCE))),
    # ------------------------------------------------------------ Data
    *(Scenario(f"{what} spoils Data (PF Data)", data_dropped(bare_data(NAME, tlv.encode_tlv(0x14, meta), INFO, VALUE)))
      for what, meta in BAD_META.items()),
    *(Scenario(f"{what} spoils Data (PF Data)", data_dropped(bare_data(NAME, tlv.encode_tlv(0x16, info), VALUE)))
      for what, info in BAD_INFO.items()),
    *(Scenario(f"{what} does not spoil Data (PF Data)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", bare_data(NAME, tlv.encode_tlv(0x14, meta), INFO, VALUE), ["c<D/a/b"])])
      for what, meta in GOOD_META.items()),
    *(Scenario(f"{what} does not spoil Data (PF Data)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", bare_data(NAME, tlv.encode_tlv(0x16, info), VALUE), ["c<D/a/b"])])
      for what, info in GOOD_INFO.items()),
    Scenario("a FreshnessPeriod behind something else is the application's (PF FreshnessPeriod)", [
        (0, "c", A, ["p<I/a/b#1"]),
        (0.1, "p", bare_data(NAME, tlv.encode_tlv(0x14, b"\x1a\x02\x08\x00" + b"\x19\x02\x27\x10"), INFO, VALUE),
         ["c<D/a/b"]),
        (0.2, "c", interest("/a/b", 2, must_be_fresh=True), ["p<I/a/b#2"])]),
    Scenario("Data without SignatureValue is refused (PF Data)", data_dropped(bare_data(NAME, META, CONTENT, INFO))),
    Scenario("Data without SignatureInfo is refused (PF Data)", data_dropped(bare_data(NAME, META, CONTENT, VALUE))),
    Scenario("Data needs neither MetaInfo nor Content (PF Data)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", bare_data(NAME, INFO, VALUE), ["c<D/a/b"])]),
    Scenario("Content before MetaInfo is out of order (PF Data, PF Evolvability)", data_dropped(
        bare_data(NAME, CONTENT, META, INFO, VALUE))),
    Scenario("unknown critical elements spoil Data (PF Evolvability)", data_dropped(
        bare_data(NAME, META, CONTENT, CRITICAL, INFO, VALUE))),
    Scenario("unknown others do not (PF Evolvability)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", bare_data(NAME, IGNORABLE, META, CONTENT, INFO, VALUE), ["c<D/a/b"])]),
    Scenario("nothing stands before the Name of Data (PF Data)", data_dropped(
        bare_data(IGNORABLE, NAME, META, CONTENT, INFO, VALUE))),
    Scenario("a FreshnessPeriod is a number (PF Non-Negative Integer, PF FreshnessPeriod)", data_dropped(
        bare_data(NAME, b"\x14\x05\x19\x03\x00\x0f\xa0", CONTENT, INFO, VALUE))),
    Scenario("ContentTypes that nobody knows go on (PF Data)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", bare_data(NAME, b"\x14\x04\x18\x02\x04\x00", CONTENT, INFO, VALUE),
                                     ["c<D/a/b"])]),
    Scenario("signature types that nobody knows go on (PF Data)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", bare_data(NAME, META, CONTENT, b"\x16\x03\x1b\x01\xc8", VALUE),
                                     ["c<D/a/b"])]),
    # ------------------------------------------------------------ sizes
    Scenario("Data of 8,800 bytes goes on (NFD MAX_NDN_PACKET_SIZE)", [
        (0, "c", A, ["p<I/a/b#1"]), (0.1, "p", data("/a/b", content=bytes(8800 - len(DA) - 5)), ["c<D/a/b"])]),
]  # fmt: skip
