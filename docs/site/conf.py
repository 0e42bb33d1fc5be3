"""Settings of Sphinx for the documentation site; see build.sh."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

project = "mlops.mlflow"
copyright = "mlops.mlflow contributors"
title = html_title = html_short_title = "mlops.mlflow"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
# Links to a heading, as GitHub makes them.
myst_heading_anchors = 3
pygments_style = "ansible"
html_theme = "sphinx_ansible_theme"
html_show_sphinx = False
html_copy_source = False
html_use_index = False
default_role = "any"

# Pages of other collections: where docs.ansible.com has them. Nothing is fetched to know it.
_ELSEWHERE = re.compile(
    r"ansible_collections\.(?P<namespace>(?!mlops\.)\w+)\.(?P<name>\w+)\.(?P<plugin>\w+)_(?P<kind>[a-z]+)"
    r"(__\w+-.*)?$"
)
_ANSIBLE = "https://docs.ansible.com/ansible/latest"
_PAGES = {
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}


def _elsewhere(
    app: Sphinx, env: Any, node: nodes.Element, content: nodes.TextElement
) -> nodes.reference | None:
    target = node.get("reftarget", "")
    found = _ELSEWHERE.match(target)
    if found:
        page = "collections/{namespace}/{name}/{plugin}_{kind}.html".format(**found.groupdict())
    elif target in _PAGES:
        page = _PAGES[target]
    else:
        return None
    reference = nodes.reference("", "", internal=False, refuri=f"{_ANSIBLE}/{page}")
    reference += content
    return reference


def setup(app: Sphinx) -> None:
    """Take over references that lead out of the site."""
    app.connect("missing-reference", _elsewhere)
