"""CITATION.cff, codemeta.json, .zenodo.json, CHANGELOG.md and pyproject.toml say the same."""

import json
import re
import tomllib
from importlib.metadata import version

import pytest
import yaml
from packaging.requirements import Requirement

from llmamdahl.tables import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CODEMETA = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
ZENODO = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
RELEASES = re.findall(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE)


def test_the_version_is_pyproject_s():
    assert {CITATION["version"], CODEMETA["version"], ZENODO["version"], version("llmamdahl"), RELEASES[0]} == {
        PROJECT["version"]
    }


def test_title_authors_keywords_and_licence_are_the_same():
    assert CITATION["title"] == CODEMETA["name"] == ZENODO["title"]
    assert CITATION["abstract"] == CODEMETA["description"] == ZENODO["description"]
    assert CITATION["keywords"] == CODEMETA["keywords"] == ZENODO["keywords"]
    authors = [[author["name"] for author in found] for found in (CITATION["authors"], CODEMETA["author"])]
    assert authors == [[creator["name"] for creator in ZENODO["creators"]]] * 2
    assert authors[0][0] in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert CITATION["license"] == ZENODO["license"] == PROJECT["license"] == "MIT"
    assert CODEMETA["license"] == "https://spdx.org/licenses/MIT"


def test_requirements_are_pyproject_s():
    named = [package["name"] for package in CODEMETA["softwareRequirements"]]
    assert named == [Requirement(line).name for line in PROJECT["dependencies"]]
    assert PROJECT["requires-python"] == ">=3.11" and CODEMETA["runtimePlatform"] == "Python 3.11 or newer"


def test_the_papers_are_the_same():
    papers = [*CODEMETA["referencePublication"], *CODEMETA["citation"]]
    for reference, paper, text in zip(CITATION["references"], papers, ZENODO["references"], strict=True):
        people = [(author["family-names"], author["given-names"]) for author in reference["authors"]]
        assert [(author["familyName"], author["givenName"]) for author in paper["author"]] == people
        assert reference["title"] == paper["name"] and f": {paper['name']}. " in text
        assert str(reference["year"]) == paper["datePublished"] and text.endswith(f", {reference['year']}.")
        assert re.findall(r"([A-Z]\w+), (?:[A-Z]\. ?)+,?", text.split(":")[0]) == [family for family, _ in people]


@pytest.mark.parametrize("name", ["CITATION.cff", "codemeta.json", ".zenodo.json", "CHANGELOG.md"])
def test_no_address_is_invented(name):
    """Vocabularies only: there is no repository host and no DOI yet."""
    text = (ROOT / name).read_text(encoding="utf-8")
    hosts = set(re.findall(r"https?://([^/\s\"#)]+)", text))
    assert hosts <= {"keepachangelog.com", "semver.org", "spdx.org", "w3id.org", "www.repostatus.org"}
    assert not re.search(r"\bdoi\b|10\.\d{4,}/", text, re.IGNORECASE)


def test_the_changelog_keeps_the_form():
    headings = re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)
    assert set(headings) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    dates = re.findall(r"^## \[.+?\] - (.+)$", CHANGELOG, re.MULTILINE)
    assert len(dates) == len(RELEASES) and all(
        date == "unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", date) for date in dates
    )
    assert max(map(len, CHANGELOG.splitlines())) <= 120
