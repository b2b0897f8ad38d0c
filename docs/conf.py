"""Sphinx's configuration. `make docs` (compendium/docs.py) lays out the sources in build/docs/ and starts Sphinx."""

import inspect
import re
from importlib.metadata import version as installed
from pathlib import Path
from types import GenericAlias

from sphinx.util.nodes import make_refnode

import llmamdahl
from compendium.docs import commit

project = "llmamdahl"
author = "the llmamdahl authors"
release = installed("llmamdahl")
copyright = f"{author}, MIT license. " + ", ".join(filter(None, [f"Version {release}", commit()]))

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",  # MathJax 3.2.2 in the site, not from a CDN
    "numpydoc",
    "sphinx_click",
    "sphinx_design",
    "myst_nb",
    "compendium.pictures",
]
exclude_patterns = ["README.md", "data/README.md"]  # included in other pages
templates_path = [str(Path(__file__).parent / "_templates")]  # autosummary looks for it beside the sources

nb_execution_mode = "off"
smartquotes = False  # --on is an option, not a dash
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"  # `share` in a docstring is a link where it names something, and code elsewhere
add_module_names = False
autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_mock_imports = ["distributed", "onnx", "onnxruntime", "torch", "triton"]  # extras
numpydoc_show_class_members = False
door = [getattr(llmamdahl, name) for name in llmamdahl.__all__]
autosummary_context = {
    "door": {f"{one.__module__}.{one.__name__}" for one in door if inspect.isroutine(one) or inspect.isclass(one)}
}

html_theme = "pydata_sphinx_theme"
html_title = "llmamdahl"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sourcelink_suffix = ""
html_domain_indices = False
html_context = {"default_mode": "auto"}
html_sidebars = {page: [] for page in ("artifact", "cli", "data", "errata", "figures", "replication")}
html_theme_options = {
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc", "sourcelink"],
}


def mark_examples(app, what, name, it, options, lines):
    """Give numpydoc the heading `Examples` where a docstring's examples just follow its last section."""
    sections = any(set(line) == {"-"} for line in lines)
    first = next((number for number, line in enumerate(lines) if line.startswith(">>>")), None)
    if sections and first is not None and "Examples" not in lines:
        lines[first:first] = ["Examples", "--------"]


def show_as_commands(app, ctx, lines):
    """Make a block of code of a command's examples, which click has as lines that are not to be wrapped."""
    shown = [line.startswith("| llmamdahl ") for line in lines]
    if any(shown):
        first = shown.index(True)
        lines[:] = [f"   {line[2:]}" if example else line for line, example in zip(lines, shown, strict=True)]
        lines[first:first] = [".. code-block:: shell", ""]


def find_by_last_words(app, env, node, content):
    """Link `roofline.saving` or `saving` in any docstring, where only one function, class or module ends so."""
    domain = env.domains.python_domain
    found = domain.find_obj(env, None, None, node["reftarget"], "obj", 1) if node["refdomain"] == "py" else []
    kinds = ("function", "class", "module", "exception")
    found = [(name, entry) for name, entry in found if entry.objtype in kinds]
    if len(found) == 1:
        name, entry = found[0]
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, name)
    return None


def link_back(app, page, template, context, tree):
    """Lead from a name's source to its description; viewcode expects all names of a module in one place, which the
    front door splits.
    """
    if not page.startswith("_modules/"):
        return
    module = page.removeprefix("_modules/").replace("/", ".")

    def described(found):
        name = re.sub(rf"^({re.escape(module)}|llmamdahl)\.", "", found[2])
        return f'api/{found[1]}.html#{module if found[1] == module else "llmamdahl"}.{name}"'

    context["body"] = re.sub(r'api/([\w.]+)\.html#([\w.]+)"', described, context["body"])


def let_signatures_wrap(app, page, template, context, tree):
    """Take out the no-break spaces that autosummary puts between parameters."""
    if page == "api":
        context["body"] = re.sub("\u00a0|&#160;", " ", context["body"])


def setup(app):
    app.connect("autodoc-process-docstring", mark_examples, priority=400)  # before numpydoc
    app.connect("sphinx-click-process-description", show_as_commands)
    app.connect("missing-reference", find_by_last_words)
    app.connect("html-page-context", link_back)
    app.connect("html-page-context", let_signatures_wrap)
    # a type alias such as tuple[int, ...] is a class to autosummary, and autodoc fails on it
    app.connect("autodoc-skip-member", lambda *given: True if isinstance(given[3], GenericAlias) else None)
