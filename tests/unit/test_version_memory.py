from __future__ import annotations

import stat
from pathlib import Path

from ndn_infer import ndn
from ndn_infer.security.version_memory import MAX_NAMES, VersionMemory

ALIAS = ndn.from_uri("/net/catalog/model/a b")


def test_the_newest_version_outlives_the_process_and_never_sinks(tmp_path: Path) -> None:
    file = tmp_path / "versions"
    memory = VersionMemory(file)
    assert memory.newest("CatalogRecord", ALIAS) == -1
    memory.accept("CatalogRecord", ALIAS, 7)
    memory.accept("CatalogRecord", ALIAS, 5)
    assert VersionMemory(file).newest("CatalogRecord", ALIAS) == 7
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    file, other = tmp_path / "versions", ndn.from_uri("/net/catalog/model/b")
    first, second = VersionMemory(file), VersionMemory(file)
    first.accept("CatalogRecord", ALIAS, 9)
    second.accept("CatalogRecord", other, 3)
    both = VersionMemory(file)
    assert (both.newest("CatalogRecord", ALIAS), both.newest("CatalogRecord", other)) == (9, 3)


def test_many_names_of_one_kind_take_no_room_of_another() -> None:
    memory = VersionMemory()
    memory.accept("CatalogRecord", ALIAS, 1)
    for number in range(MAX_NAMES + 10):
        memory.accept("DomainKey", ndn.generic(str(number)), 1)
    assert memory.newest("CatalogRecord", ALIAS) == 1
    assert memory.newest("DomainKey", ndn.generic("0")) == -1


def test_a_damaged_line_costs_that_line_and_an_unwritable_place_costs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "versions"
    VersionMemory(file).accept("CatalogRecord", ALIAS, 4)
    file.write_text(file.read_text() + "nonsense\nCatalogRecord !! 3\n")
    assert VersionMemory(file).newest("CatalogRecord", ALIAS) == 4
    nowhere = VersionMemory(tmp_path / "no such folder" / "versions")
    nowhere.accept("CatalogRecord", ALIAS, 4)
    assert nowhere.newest("CatalogRecord", ALIAS) == 4
