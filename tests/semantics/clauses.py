"""The clauses that scenarios cite, in full.

Owns: which keys a rule may have in its brackets, and what they stand for. "PF": NDN Packet Format 0.3
(docs.named-data.net/NDN-packet-spec/0.3), by section names. "LP": NDNLPv2 (redmine.named-data.net, NFD wiki), by
features; where its wording matters, rules cite what NFD makes of it as well. "NFD": functions of NFD's source
(24.07-31, fe044ce), or of ndn-cxx (0.9.0-34, a362e65) where NFD leaves it to that. "OURS": no specification has a say;
our documented choice.
"""

from __future__ import annotations

import re
from typing import Final

_FORWARDER: Final = "daemon/fw/forwarder.cpp, Forwarder::"
_LINK: Final = "daemon/face/generic-link-service.cpp, GenericLinkService::"
_CXX: Final = "ndn-cxx, "

CLAUSES: Final[dict[str, str]] = {
    # ------------------------------------------------------------ NDN Packet Format 0.3
    "PF Variable-Size Encoding": "TLV Encoding, Variable-Size Encoding for Type and Length",
    "PF TLV": "TLV Encoding, NDN TLV Encoding",
    "PF Non-Negative Integer": "TLV Encoding, Non-Negative Integer Encoding",
    "PF Evolvability": "TLV Encoding, Considerations for Evolvability of TLV-Based Encoding",
    "PF Name": "Name, Name TLV Encoding",
    "PF Implicit Digest": "Name, Implicit Digest Component",
    "PF Parameters Digest": "Name, Parameters Digest Component",
    "PF Canonical Order": "Name, Canonical Order",
    "PF Interest": "Interest Packet",
    "PF Interest Name": "Interest Packet, Name",
    "PF CanBePrefix": "Interest Packet, CanBePrefix",
    "PF MustBeFresh": "Interest Packet, MustBeFresh",
    "PF ForwardingHint": "Interest Packet, ForwardingHint",
    "PF Nonce": "Interest Packet, Nonce",
    "PF InterestLifetime": "Interest Packet, InterestLifetime",
    "PF HopLimit": "Interest Packet, HopLimit",
    "PF ApplicationParameters": "Interest Packet, ApplicationParameters",
    "PF Data": "Data Packet",
    "PF FreshnessPeriod": "Data Packet, MetaInfo, FreshnessPeriod",
    # ------------------------------------------------------------ NDNLPv2
    "LP Packet": "General NDNLPv2 Packet Format: order, repetition, unknown fields",
    "LP Fragment": "General NDNLPv2 Packet Format: bare network packets, Fragment, IDLE packets",
    "LP Fragmentation": "Indexed Fragmentation: Sequence, FragIndex, FragCount",
    "LP PitToken": "PIT Token",
    "LP Nack": "Network Nack",
    "LP NextHopFaceId": "Consumer-Controlled Forwarding",
    "LP CachePolicy": "Local Cache Policy",
    "LP IncomingFaceId": "Incoming Face Indication",
    "LP CongestionMark": "Congestion Mark",
    # ------------------------------------------------------------ NFD
    "NFD onIncomingInterest": _FORWARDER + "onIncomingInterest",
    "NFD onInterestLoop": _FORWARDER + "onInterestLoop",
    "NFD onContentStoreMiss": _FORWARDER + "onContentStoreMiss",
    "NFD onContentStoreHit": _FORWARDER + "onContentStoreHit",
    "NFD onOutgoingInterest": _FORWARDER + "onOutgoingInterest",
    "NFD onInterestFinalize": _FORWARDER + "onInterestFinalize",
    "NFD onIncomingData": _FORWARDER + "onIncomingData",
    "NFD onDataUnsolicited": _FORWARDER + "onDataUnsolicited",
    "NFD onOutgoingData": _FORWARDER + "onOutgoingData",
    "NFD onIncomingNack": _FORWARDER + "onIncomingNack",
    "NFD onOutgoingNack": _FORWARDER + "onOutgoingNack",
    "NFD onNewNextHop": _FORWARDER + "onNewNextHop",
    "NFD setExpiryTimer": _FORWARDER + "setExpiryTimer",
    "NFD insertDeadNonceList": _FORWARDER + "insertDeadNonceList",
    "NFD DeadNonceList": "daemon/table/dead-nonce-list.hpp, DEFAULT_LIFETIME = 6 s",
    "NFD wouldViolateScope": "daemon/fw/algorithm.cpp, wouldViolateScope",
    "NFD findDuplicateNonce": "daemon/fw/algorithm.cpp, findDuplicateNonce",
    "NFD isNextHopEligible": "daemon/fw/algorithm.cpp, isNextHopEligible",
    "NFD findEligibleNextHopWithEarliestOutRecord":
        "daemon/fw/algorithm.cpp, findEligibleNextHopWithEarliestOutRecord",
    "NFD hasPendingOutRecords": "daemon/fw/algorithm.cpp, hasPendingOutRecords",
    "NFD lookupFib": "daemon/fw/strategy.cpp, Strategy::lookupFib",
    "NFD sendDataToAll": "daemon/fw/strategy.cpp, Strategy::sendDataToAll",
    "NFD BestRouteStrategy": "daemon/fw/best-route-strategy.cpp, BestRouteStrategy::afterReceiveInterest",
    "NFD MulticastStrategy": "daemon/fw/multicast-strategy.cpp, MulticastStrategy::afterReceiveInterest",
    "NFD MulticastStrategy::onInterestLoop": "daemon/fw/multicast-strategy.hpp, MulticastStrategy::onInterestLoop",
    "NFD afterNewNextHop": "daemon/fw/multicast-strategy.cpp, MulticastStrategy::afterNewNextHop",
    "NFD AsfStrategy": "daemon/fw/asf-strategy.cpp, AsfStrategy::afterReceiveInterest",
    "NFD ProcessNackTraits": "daemon/fw/process-nack-traits.cpp, ProcessNackTraitsBase::processNack",
    "NFD isLessSevere": _CXX + "lp/nack-header.cpp, isLessSevere",
    "NFD NackHeader": _CXX + "lp/nack-header.cpp, NackHeader::getReason",
    "NFD RetxSuppressionExponential":
        "daemon/fw/retx-suppression-exponential.cpp, RetxSuppressionExponential::decidePerPitEntry (10 ms to 250)",
    "NFD decidePerUpstream":
        "daemon/fw/retx-suppression-exponential.cpp, RetxSuppressionExponential::decidePerUpstream",
    "NFD Fib": "daemon/table/fib.cpp, Fib::findLongestPrefixMatch",
    "NFD NetworkRegionTable": "daemon/table/network-region-table.cpp, NetworkRegionTable::isInProducerRegion",
    "NFD Pit": "daemon/table/pit-entry.cpp, Entry::canMatch",
    "NFD findAllDataMatches": "daemon/table/pit.cpp, Pit::findAllDataMatches",
    "NFD insertOrUpdateInRecord": "daemon/table/pit-entry.cpp, Entry::insertOrUpdateInRecord",
    "NFD insertOrUpdateOutRecord": "daemon/table/pit-entry.cpp, Entry::insertOrUpdateOutRecord",
    "NFD cleanupOnFaceRemoval": "daemon/table/cleanup.cpp, cleanupOnFaceRemoval",
    "NFD StrategyChoice": "daemon/table/strategy-choice.cpp, StrategyChoice::findEffectiveStrategy",
    "NFD changeStrategy": "daemon/table/strategy-choice.cpp, StrategyChoice::changeStrategy",
    "NFD Cs::insert": "daemon/table/cs.cpp, Cs::insert",
    "NFD Cs::findImpl": "daemon/table/cs.cpp, Cs::findImpl",
    "NFD Cs::eraseImpl": "daemon/table/cs.cpp, Cs::eraseImpl",
    "NFD LruPolicy": "daemon/table/cs-policy-lru.cpp, LruPolicy",
    "NFD CsManager": "daemon/mgmt/cs-manager.cpp, CsManager::changeConfig",
    "NFD Rib::getAncestorRoutes": "daemon/rib/rib.cpp, Rib::getAncestorRoutes (child-inherit, capture)",
    "NFD Rib::onRouteExpiration": "daemon/rib/rib.cpp, Rib::onRouteExpiration",
    "NFD Rib::insert": "daemon/rib/rib.cpp, Rib::insert",
    "NFD Rib::erase": "daemon/rib/rib.cpp, Rib::erase",
    "NFD getRouteWithLowestCostByFaceId": "daemon/rib/rib-entry.cpp, RibEntry::getRouteWithLowestCostByFaceId",
    "NFD decodeInterest": _LINK + "decodeInterest",
    "NFD decodeData": _LINK + "decodeData",
    "NFD decodeNack": _LINK + "decodeNack",
    "NFD encodeLpFields": _LINK + "encodeLpFields",
    "NFD checkCongestionLevel": _LINK + "checkCongestionLevel",
    "NFD LpReassembler": "daemon/face/lp-reassembler.cpp, LpReassembler::receiveFragment (500 ms, 400 fragments)",
    "NFD LpFragmenter": "daemon/face/lp-fragmenter.cpp, LpFragmenter::fragmentPacket",
    "NFD lp::Packet": _CXX + "lp/packet.cpp, Packet::wireDecode",
    "NFD MAX_NDN_PACKET_SIZE": _CXX + "encoding/tlv.hpp, MAX_NDN_PACKET_SIZE = 8800",
    # ------------------------------------------------------------ neither
    "OURS content_store.py": "of two packets of one name the later one stays",
    "OURS link_service.py": "queues of more than OVERLOAD thresholds mark at once",
    "OURS parsing.py": "MAX_LIFETIME_MS",
    "OURS pipeline.py, no route": "no route for one who asks does not end it for others who wait (_refuse)",
    "OURS pipeline.py, face removal": "PIT entries go with the last face that waits (remove_face)",
}  # fmt: skip


def cited(rule: str) -> list[str]:
    """The keys in the brackets at the end of a rule."""
    match = re.search(r"\(([^()]*)\)$", rule)
    return re.split(", (?=PF|LP|NFD|OURS)", match[1]) if match else []
