"""The documents say what the code does: every setting and field is in its table, every link leads somewhere."""

import re
import textwrap
import tomllib
from pathlib import Path

import pytest

from scripts.configuration_page import KINDS, tables
from trainer.config import parse_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_setting_is_in_the_readme_table() -> None:
    settings = (ROOT / "webapp" / "settings.py").read_text()
    read = set(re.findall(r'env_(?:str|bool|int)\("(\w+)"', settings))
    documented = set(
        re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    )
    assert documented == read


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    relative = [link for link in links if "://" not in link]
    assert [link for link in relative if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", list(KINDS))
def test_the_configuration_page_says_what_the_fields_do(name: str) -> None:
    """Written by `python -m scripts.configuration_page`."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert f"<!-- {name} tables -->\n{tables(KINDS[name])}<!-- /{name} tables -->" in page


def test_the_configuration_page_begins_with_one_that_can_run() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    (example,) = re.findall(r"^    recipe = .*?(?=\n\n\S)", page, re.DOTALL | re.MULTILINE)
    assert parse_config(tomllib.loads(textwrap.dedent(example))).num_steps == 20
