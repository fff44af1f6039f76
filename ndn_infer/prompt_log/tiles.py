"""A Merkle tree in tiles: 256 hashes side by side, so that a tree of a million leaves is some thousand objects.

Owns: which tile has which hash, growing a tree, reading its nodes. Must not know: where tiles are kept, names,
signatures.

Tile (level, index) has the hashes of the nodes (8 * level, 256 * index) and on, as many as are complete: those of level
0 are of leaves, each of those above is over one full tile below. A tile only grows, to the right, so a tree of any size
that ever was can be read out of the tiles of a larger one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from ndn_infer.errors import BadRecord
from ndn_infer.prompt_log import merkle
from ndn_infer.prompt_log.merkle import HASH_BYTES

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
TILE_BYTES: Final = WIDTH * HASH_BYTES
CACHED: Final = 256

Place = tuple[int, int]
"""(level, index) of a tile."""
ReadTile = Callable[[int, int], bytes]
"""The hashes of a tile, as many as there are; b"" for none."""


def hashes_in(size: int, place: Place) -> int:
    """How many hashes this tile of a tree of `size` leaves has."""
    level, index = place
    return max(0, min(WIDTH, (size >> HEIGHT * level) - index * WIDTH))


def node_in(tile: bytes, level: int, index: int) -> bytes:
    """The node (level, index) out of the tile that has it. Raises BadRecord for a tile that ends before."""
    height = level % HEIGHT
    try:
        return _joined(tile, (index << height) % WIDTH, 1 << height)
    except IndexError:
        raise BadRecord(f"a tile of a log ends before node {level}/{index}") from None


def _joined(tile: bytes, begin: int, count: int) -> bytes:
    """The hash over `count` hashes of a tile, a power of two. Raises IndexError."""
    if len(tile) < (begin + count) * HASH_BYTES:
        raise IndexError
    row = [tile[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in range(begin, begin + count)]
    while len(row) > 1:
        row = [merkle.node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def place_of(level: int, index: int) -> Place:
    """The tile in which the node (level, index) lies."""
    return level // HEIGHT, (index << level % HEIGHT) // WIDTH


class TileTree:
    """A growing tree. Its right edge is in memory; full tiles are read with `read_tile` when a proof needs them, and
    the last few are remembered."""

    def __init__(self, size: int, read_tile: ReadTile) -> None:
        """Raises BadRecord where a tile of this size is not there whole."""
        self.size = size
        self._read_tile = read_tile
        self._edge: list[bytearray] = []
        self._full: OrderedDict[Place, bytes] = OrderedDict()
        self._filled: dict[Place, bytes] = {}
        self._grown: set[int] = set()
        level = 0
        while size >> HEIGHT * level:
            place = (level, (size >> HEIGHT * level) // WIDTH)
            held = hashes_in(size, place)
            tile = read_tile(*place) if held else b""
            if len(tile) < held * HASH_BYTES:
                raise BadRecord(
                    f"tile {place[0]}/{place[1]} of the log has {len(tile) // HASH_BYTES} hashes, not {held}"
                )
            self._edge.append(bytearray(tile[: held * HASH_BYTES]))
            level += 1

    def append(self, leaf: bytes) -> int:
        """Add the hash of a leaf; its index."""
        index = self.size
        self.size += 1
        self._put(0, index, leaf)
        return index

    def _put(self, level: int, index: int, value: bytes) -> None:
        if level == len(self._edge):
            self._edge.append(bytearray())
        edge = self._edge[level]
        edge += value
        self._grown.add(level)
        if len(edge) == TILE_BYTES:
            place, tile = (level, index // WIDTH), bytes(edge)
            self._filled[place] = tile
            edge.clear()
            self._put(level + 1, index // WIDTH, _joined(tile, 0, WIDTH))

    def changed(self) -> Mapping[Place, bytes]:
        """The tiles that grew since this was last asked. What is full among them is forgotten here: keep them."""
        found = self._filled
        for level in self._grown:
            if edge := self._edge[level]:
                found[level, (self.size >> HEIGHT * level) // WIDTH] = bytes(edge)
        self._filled, self._grown = {}, set()
        return found

    def node(self, level: int, index: int) -> bytes:
        """As merkle.ReadNode. Raises BadRecord."""
        return node_in(self._tile(place_of(level, index)), level, index)

    def _tile(self, place: Place) -> bytes:
        level, index = place
        if level < len(self._edge) and index == (self.size >> HEIGHT * level) // WIDTH:
            return bytes(self._edge[level])
        found = self._filled.get(place) or self._full.get(place)
        if found is None:
            found = self._full[place] = self._read_tile(level, index)
            while len(self._full) > CACHED:
                self._full.popitem(last=False)
        return found

    def root(self, size: int | None = None) -> bytes:
        """Over the first `size` leaves, all unless it is given."""
        return merkle.root(self.size if size is None else size, self.node)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        return merkle.inclusion(index, size, self.node)

    def consistency(self, old: int, new: int) -> list[bytes]:
        return merkle.consistency(old, new, self.node)
