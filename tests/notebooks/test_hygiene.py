"""What nbval does not check: notebooks are committed executed, are short, and have no logic."""

import ast
import json
import statistics

import pytest

from llmamdahl.tables import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def cells(notebook, kind):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def test_the_paper_s_notebooks_are_there():
    names = ["00-start-here", "01-dataflow-comparison", "02-cloud-sweep", "03-edge-sweep"]
    names += ["04-gpu-validation", "05-amdahl-plots"]
    assert set(names) <= {path.stem for path in NOTEBOOKS}


def test_executed_from_the_top(notebook):
    code = cells(notebook, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


def test_no_stderr_and_no_errors(notebook):
    outputs = [output for cell in cells(notebook, "code") for output in cell["outputs"]]
    assert not [output for output in outputs if output.get("name") == "stderr" or output["output_type"] == "error"]
    assert "0x" not in json.dumps([output for output in outputs if "image/png" not in output.get("data", {})])


def test_one_parameters_cell(notebook):
    tagged = [cell for cell in cells(notebook, "code") if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1


def test_kernel_and_no_run_metadata(notebook):
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "papermill" not in json.dumps(notebook["metadata"])
    assert not [cell for cell in notebook["cells"] if {"papermill", "execution"} & set(cell["metadata"])]


def test_no_functions_and_no_classes(notebook):
    for cell in cells(notebook, "code"):
        tree = ast.parse(source(cell))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert not source(cell).rstrip().endswith(";")


def test_short_cells_and_as_much_text(notebook):
    lines = [len(source(cell).splitlines()) for cell in cells(notebook, "code")]
    assert statistics.median(lines) <= 3
    parameters = [len(source(cell).splitlines()) for cell in cells(notebook, "code") if cell["metadata"].get("tags")]
    assert max({*lines} - {*parameters}) <= 16  # one line a parameter
    text, code = (sum(len(source(cell)) for cell in cells(notebook, kind)) for kind in ("markdown", "code"))
    assert text >= code


def test_the_first_cell_describes_the_notebook(notebook):
    first = source(notebook["cells"][0])
    assert first.startswith("# ")
    for word in ("You will learn", "**Reads**", "**Writes**", "**Takes**"):
        assert word in first


def test_ends_with_an_asserted_agreement(notebook):
    text = "\n".join(source(cell) for cell in notebook["cells"])
    assert "assert " in text.split("## Agreement")[1]
    assert "Known differences" in text.split("## Agreement")[1]
