"""The front door: the names that `import llmamdahl as la` has, their documentation, and the cost of an import."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import tokenize

import pytest

import llmamdahl as la
from llmamdahl.tables import ROOT

NAMES = """CLOUD_TPU EDGE_TPU Decoder Device InputError Part Precision Share SystolicArray amdahl ceiling
crossover_batch crossover_context_length curves decode_step devices from_hf_config gemm_cost generation_cost get_device
get_model model_names plots prefill required_partial_speedup share sweep total_speedup zoo_names""".split()

SURFACE = {
    "hardware": "SystolicArray CLOUD_TPU EDGE_TPU",
    "systolic": "gemm_cost",
    "models": "get_model from_hf_config",
    "workload": "decode_step prefill Part",
    "analysis": "share sweep",
    "amdahl": "total_speedup ceiling required_partial_speedup",
}
"""The modules from which other projects import these names."""

MODULES = [info.name for info in pkgutil.walk_packages(la.__path__, "llmamdahl.") if "__main__" not in info.name]


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_public_names_are_pinned():
    assert la.__all__ == NAMES
    assert dir(la) == sorted(NAMES)
    for name in NAMES:
        assert getattr(la, name) is not None
    with pytest.raises(AttributeError, match=r"module 'llmamdahl' has no attribute 'shares'; it has CLOUD_TPU, "):
        _ = la.shares


@pytest.mark.parametrize(("module", "name"), [(m, name) for m, names in SURFACE.items() for name in names.split()])
def test_the_public_surface_is_in_its_module_and_at_the_door(module, name):
    there = getattr(importlib.import_module(f"llmamdahl.{module}"), name)
    assert getattr(la, name) is there


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_documented_with_an_example(name):
    value = getattr(la, name)
    if name in ("CLOUD_TPU", "EDGE_TPU"):  # objects; the class has the example
        assert isinstance(value, la.SystolicArray)
    elif inspect.ismodule(value):
        assert value.__doc__
    else:
        assert ">>> " in inspect.getdoc(value)


def code_lines(path):
    """Lines with code on them: no blank lines, comments or docstrings."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}
    found, begins = set(), True
    with path.open("rb") as handle:
        for token in tokenize.tokenize(handle.readline):
            docstring = begins and token.type == tokenize.STRING  # a string that begins a statement
            if token.type not in skipped | {tokenize.ENDMARKER} and not docstring:
                found.update(range(token.start[0], token.end[0] + 1))
            if token.type not in (tokenize.COMMENT, tokenize.NL):
                begins = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    return len(found)


def test_the_core_is_thin():
    """The files at the top of the package and in `models/`; what feeds or surrounds them is one floor down."""
    home = ROOT / "llmamdahl"
    assert sum(map(code_lines, [*home.glob("*.py"), *home.glob("models/*.py")])) < 3000


def importable():
    for name in MODULES:
        try:
            yield name, importlib.import_module(name)
        except ImportError as error:  # the module needs an extra
            assert error.name in ("torch", "triton", "onnxruntime", "distributed"), error


def test_a_class_has_one_home_and_no_module_is_named_after_its_function():
    homes = {}
    for name, module in importable():
        for attribute, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == name and not attribute.startswith("_"):
                homes.setdefault(attribute, []).append(name)
        assert not callable(getattr(module, name.rpartition(".")[2], None)), name
    assert {attribute: where for attribute, where in homes.items() if len(where) > 1} == {}


@pytest.mark.parametrize("function", ["devices", "predictions", "find_model", "share", "sweep"])
def test_a_question_is_answered_in_one_place(function):
    found = [name for name, module in importable() if getattr(vars(module).get(function), "__module__", "") == name]
    assert len(found) == 1, found


def test_roofline_is_a_module_and_not_a_function():
    assert not [name for name, module in importable() if callable(vars(module).get("roofline"))]


def test_an_import_loads_only_what_it_needs():
    loaded = "import sys; print(sorted({'numpy', 'pandas', 'matplotlib', 'click', 'scalesim'} & set(sys.modules)))"
    assert run_python(f"import llmamdahl; {loaded}") == "[]\n"
    assert run_python(f"import llmamdahl.amdahl; {loaded}") == "['numpy']\n"
    assert run_python(f"import llmamdahl; llmamdahl.share; {loaded}") == "['numpy', 'pandas']\n"


@pytest.mark.parametrize(
    ("first", "then", "most"),
    [("numpy", "llmamdahl.amdahl", 0.5), ("pandas", "llmamdahl", 0.1), ("pandas", "llmamdahl.analysis", 0.5)],
)
def test_an_import_is_fast(first, then, most):
    """CPU time beside that of what it imports first, so that a slow or busy machine does not matter."""
    code = f"""
import time
start = time.process_time()
import {first}
middle = time.process_time()
import {then}
print((time.process_time() - middle) / (middle - start))"""
    assert min(float(run_python(code)) for _ in range(3)) <= most
