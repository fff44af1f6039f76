"""The tree of a prompt log: RFC 9162's known roots and proofs, and every other one against a tree without tiles."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.errors import BadRecord
from ndn_infer.prompt_log import merkle
from ndn_infer.prompt_log.tiles import WIDTH, Place, TileTree, hashes_in

# The test vectors of Certificate Transparency (RFC 9162's trees are those of RFC 6962): eight entries, their roots for
# sizes 1 to 8, and proofs that were published with them.
ENTRIES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {  # (index, size)
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {  # (old, new)
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def plain_root(leaves: Sequence[bytes]) -> bytes:
    """2.1.1, as it is written."""
    if len(leaves) < 2:
        return leaves[0] if leaves else merkle.EMPTY_ROOT
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return merkle.node_hash(plain_root(leaves[:middle]), plain_root(leaves[middle:]))


def plain_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """2.1.3.1."""
    if len(leaves) == 1:
        return []
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    if index < middle:
        return [*plain_path(index, leaves[:middle]), plain_root(leaves[middle:])]
    return [*plain_path(index - middle, leaves[middle:]), plain_root(leaves[:middle])]


def plain_proof(old: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """2.1.4.1."""
    if old == len(leaves):
        return [] if whole else [plain_root(leaves)]
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    if old <= middle:
        return [*plain_proof(old, leaves[:middle], whole), plain_root(leaves[middle:])]
    return [*plain_proof(old - middle, leaves[middle:], False), plain_root(leaves[:middle])]


def places_of(size: int) -> list[Place]:
    """The tiles of a tree of `size` leaves."""
    found, count, level = [], size, 0
    while count:
        found += [(level, index) for index in range(-(-count // WIDTH))]
        count, level = count // WIDTH, level + 1
    return found


class Kept:
    """A tree whose tiles are kept, as a store would."""

    def __init__(self) -> None:
        self.tiles: dict[Place, bytes] = {}
        self.leaves: list[bytes] = []
        self.tree = TileTree(0, self.read)

    def read(self, level: int, index: int) -> bytes:
        return self.tiles.get((level, index), b"")

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.leaves.append(merkle.leaf_hash(len(self.leaves).to_bytes(4, "big")))
            self.tree.append(self.leaves[-1])
        self.tiles.update(self.tree.changed())


@pytest.fixture(scope="module")
def thousands() -> Kept:
    kept = Kept()
    for count in (1, 254, 1, 1, 500, WIDTH * 9 + 3):
        kept.grow(count)
    return kept


def test_the_known_trees_have_their_known_roots_and_proofs() -> None:
    tree = TileTree(0, lambda level, index: b"")
    for number, entry in enumerate(ENTRIES, 1):
        tree.append(merkle.leaf_hash(entry))
        assert tree.root().hex() == ROOTS[number - 1]
    assert merkle.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for (index, size), proof in INCLUSION.items():
        assert [one.hex() for one in tree.inclusion(index, size)] == proof
        leaf, root = merkle.leaf_hash(ENTRIES[index]), bytes.fromhex(ROOTS[size - 1])
        assert merkle.verify_inclusion(leaf, index, size, list(map(bytes.fromhex, proof)), root)
    for (old, new), proof in CONSISTENCY.items():
        assert [one.hex() for one in tree.consistency(old, new)] == proof
        roots = bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[new - 1])
        assert merkle.verify_consistency(old, new, *roots, list(map(bytes.fromhex, proof)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_proof_is_that_of_a_plain_tree(thousands: Kept, data: st.DataObject) -> None:
    new = data.draw(st.integers(1, thousands.tree.size))
    old, index = data.draw(st.integers(1, new)), data.draw(st.integers(0, new - 1))
    leaves = thousands.leaves[:new]
    opened = TileTree(thousands.tree.size, thousands.read)  # from the tiles alone
    root, before = plain_root(leaves), plain_root(leaves[:old])
    assert opened.root(new) == root
    path, proof = opened.inclusion(index, new), opened.consistency(old, new)
    assert path == plain_path(index, leaves) and proof == plain_proof(old, leaves)
    assert merkle.verify_inclusion(leaves[index], index, new, path, root)
    assert merkle.verify_consistency(old, new, before, root, proof)
    wrong = data.draw(st.binary(min_size=32, max_size=32))
    assert not merkle.verify_inclusion(wrong, index, new, path, root)
    assert not merkle.verify_inclusion(leaves[index], index, new, [*path, wrong], root)
    assert not merkle.verify_consistency(old, new, wrong, root, proof)
    assert not merkle.verify_consistency(old, new, before, root, [*proof, wrong])
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not merkle.verify_consistency(old, new, before, root, [*proof[:at], wrong, *proof[at + 1 :]])
        assert not merkle.verify_consistency(old, new, before, root, proof[:-1])


def test_a_tree_grows_on_from_its_tiles_whatever_its_size(thousands: Kept) -> None:
    for size in (1, 255, 256, 257, 511, 512, 2560):
        tree = TileTree(size, thousands.read)
        for leaf in thousands.leaves[size : size + 300]:
            tree.append(leaf)
        assert tree.root() == plain_root(thousands.leaves[: tree.size])
        assert all(len(tile) == 32 * hashes_in(tree.size, place) for place, tile in tree.changed().items())
    assert {*thousands.tiles} == {*places_of(thousands.tree.size)}


def test_what_is_no_proof_is_refused(thousands: Kept) -> None:
    tree = thousands.tree
    for index, size in ((-1, 5), (5, 5), (0, 0)):
        with pytest.raises(BadRecord):
            tree.inclusion(index, size)
        assert merkle.root_of_inclusion(bytes(32), index, size, []) is None
    for old, new in ((0, 5), (6, 5)):
        with pytest.raises(BadRecord):
            tree.consistency(old, new)
        assert not merkle.verify_consistency(old, new, bytes(32), bytes(32), [])
    with pytest.raises(BadRecord):
        TileTree(tree.size + 1, thousands.read)
    with pytest.raises(BadRecord):
        tree.node(0, tree.size)
