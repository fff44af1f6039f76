"""A tenant domain of fixed keys, and names in it."""

from __future__ import annotations

from ndn_infer import ndn
from ndn_infer.namespace import KvBlock
from ndn_infer.ndn.name import Name
from ndn_infer.security.domains import DomainEpoch

NET = ndn.from_uri("/ndn-infer/local")
OWNER = NET + ndn.from_uri("/home/n1/domain")
USER = NET + ndn.from_uri("/home/n1/user")
OTHER = NET + ndn.from_uri("/home/n2/user")
MODEL = "0123456789abcdef" * 4
ID = "00112233445566778899aabbccddeeff"
SECRET = bytes(range(32))
EPOCH = DomainEpoch(ID, 3, SECRET)
SALT = bytes(16)


def block_name(label: str, value: bytes) -> Name:
    return KvBlock(MODEL, label, "bf16", value.hex(), "0-29").to_name(NET)


BASE = block_name(EPOCH.label, bytes(32))
