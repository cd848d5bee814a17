"""Converts LaTeX in ``math`` fences to MathML, which browsers draw without a script."""

from typing import Any

from latex2mathml.converter import convert


def fence(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **_: Any) -> str:
    """For ``pymdownx.superfences``."""
    return f'<div class="{css_class}">{convert(source, display="block")}</div>'
