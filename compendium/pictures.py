"""A Sphinx extension: pictures in two sizes. Pages load the small one where that is enough; a click opens the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image
from sphinx.application import Sphinx

SMALL = 960
"""Width in pixels of the small copy."""

COLUMN, CARD = "(min-width: 60rem) 56rem, 100vw", "(min-width: 60rem) 20rem, 100vw"
"""How wide a picture is shown in the text, and in a card of the gallery: at most, and in a narrow window."""

IMG = re.compile(
    r'<img alt="([^"]*)"( class="[^"]*")?(?: height="\d+")? src="([^"]*_images/)([^"/]+\.png)"(?: width="\d+")? />'
)
"""A picture as Sphinx writes it; those of notebooks have the size at which a notebook shows them."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("html-page-context", _resize)
    return {"parallel_read_safe": True}


def _resize(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    """Give each PNG of a page its sizes and, outside the gallery, a link to the full size."""
    sources = {name: Path(app.srcdir, source) for source, (_, name) in app.env.images.items()}

    def sized(found: re.Match[str]) -> str:
        alt, card, folder, name = found.groups()
        small = f"small/{Path(name).stem}.webp"
        width, height, shrunk = _copies(sources[name], Path(app.outdir, "_images", small))
        srcset = f' srcset="{folder}{small} {SMALL}w, {folder}{name} {width}w" sizes="{CARD if card else COLUMN}"'
        picture = (
            f'<img alt="{alt}"{card or ""} src="{folder}{name}"{srcset if shrunk else ""}'
            f' width="{width}" height="{height}" loading="lazy">'
        )
        return picture if card else f'<a class="picture" href="{folder}{name}" title="full size">{picture}</a>'

    context["body"] = IMG.sub(sized, context.get("body", ""))


def _copies(source: Path, target: Path) -> tuple[int, int, bool]:
    """Width and height of a picture, and whether it has a small copy, which is written."""
    with Image.open(source) as picture:
        width, height = picture.size
        if width > SMALL and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            small = picture.convert("RGB").resize((SMALL, round(height * SMALL / width)), Image.Resampling.LANCZOS)
            small.save(target, quality=90)
    return width, height, width > SMALL
