"""Documentation that is generated is up to date, and what pages point at exists."""

from __future__ import annotations

import re
from pathlib import Path

from ndn_infer import config
from tests.generate_docs import files_page, metrics_page, namespace_page, options_page, records_page, tracked

ROOT = Path(__file__).resolve().parent.parent


def test_namespace_page_is_generated_from_the_code() -> None:
    assert (ROOT / "docs" / "namespace.md").read_text("utf-8") == namespace_page(), "run 'make docs'"


def test_records_page_is_generated_from_the_code() -> None:
    assert (ROOT / "docs" / "records.md").read_text("utf-8") == records_page(), "run 'make docs'"


def test_options_page_is_generated_from_the_code() -> None:
    assert (ROOT / "docs" / "options.md").read_text("utf-8") == options_page(), "run 'make docs'"


def test_metric_names_are_generated() -> None:
    assert (ROOT / "docs" / "metric_names.md").read_text("utf-8") == metrics_page(), "run 'make docs'"


def test_options_that_pages_name_exist() -> None:
    known = {f"{section}.{key}" for section, key, _, _ in config.options()}
    sections = "|".join(config.SECTIONS)
    found = 0
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for path in re.findall(rf"(?:--set |`)((?:{sections})\.[a-z_]+)[=`]", page.read_text("utf-8")):
            assert path in known or path.endswith(".py"), f"{page.name} names option {path}"
            found += 1
    assert found > 20


def test_files_page_is_generated_from_the_code() -> None:
    assert (ROOT / "docs" / "files.md").read_text("utf-8") == files_page(), "run 'make docs'"


def test_links_and_file_names_exist() -> None:
    files = set(tracked())
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text("utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for path in re.findall(r"`((?:ndn_infer|apps|tests|testbed|schemas)/[\w./-]+\.\w+)`", text):
            assert path in files, f"{page.name} names {path}"


def test_tests_that_pages_name_exist() -> None:
    """docs/security.md promises nothing that no test holds."""
    found = 0
    for page in sorted((ROOT / "docs").glob("*.md")):
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8")):
            assert re.search(rf"def {name}\b", (ROOT / path).read_text("utf-8")), f"{page.name}: {path}::{name}"
            found += 1
    assert found > 60


def test_readme_prints_exactly_two_commands_to_begin_with() -> None:
    block = re.search(r"## Two commands.*?```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert block and block[1].split("\n")[:-1] == ["make ask", "make test"]
