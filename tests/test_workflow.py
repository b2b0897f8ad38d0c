"""The workflow for GitHub is valid, runs `.ci/run` on the oldest and the newest Python, and names no machine."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from llmamdahl.tables import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*"))
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
JOBS = yaml.safe_load(WORKFLOW)["jobs"]


@pytest.mark.parametrize("text", [WORKFLOW, WORKFLOW.replace("runs-on", "runs_on", 1)], ids=["as it is", "broken"])
def test_it_follows_the_schema(tmp_path, text):
    if not os.environ.get("REQUIRE_EXTRAS"):
        pytest.importorskip("check_jsonschema", reason="the extra `ci` is not installed: make extras")
    (tmp_path / "ci.yml").write_text(text, encoding="utf-8")
    command = ["check_jsonschema", "--builtin-schema", "vendor.github-workflows", tmp_path / "ci.yml"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert (done.returncode == 0) == (text == WORKFLOW), done.stdout


def test_it_runs_the_script_on_both_pythons_and_publishes_what_make_docs_builds():
    assert JOBS["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    assert {"run": ".ci/run"} in JOBS["test"]["steps"] and os.access(ROOT / ".ci" / "run", os.X_OK)
    (upload,) = [step for step in JOBS["site"]["steps"] if "upload-pages-artifact" in step.get("uses", "")]
    assert {"run": "make docs"} in JOBS["site"]["steps"] and upload["with"]["path"] == "build/site"
    assert JOBS["publish"]["needs"] == ["test", "site"] and JOBS["publish"]["if"] == "github.event_name == 'push'"
    used = [step["uses"] for job in JOBS.values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used)


def test_it_names_no_host_and_no_path():
    assert [path.name for path in FILES] == ["ci.yml"]
    assert not re.search(r"://|(^|[\s'\"=])/\w|\w\.(com|org|io|net|dev)\b|\d+\.\d+\.\d+\.\d+|localhost", WORKFLOW)
