"""HTML pages built of elements; all text is escaped.

Knows markup and the style sheet; does not know what a run is.
"""

import html
from collections.abc import Iterable, Sequence
from importlib import resources
from string import Template

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


class Markup(str):
    """HTML that is safe as it is; any other value is escaped when it is put into a page."""

    __slots__ = ()


def markup(value: object) -> Markup:
    """Return markup as it is, anything else as escaped text.

    >>> markup("<b> & 'c'")
    '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def element(name: str, *parts: object, css: str = "") -> Markup:
    """Return one element around its parts.

    >>> element("b", "1 < 2", css="big")
    '<b class="big">1 &lt; 2</b>'
    """
    attribute = f' class="{html.escape(css)}"' if css else ""
    return Markup(f"<{name}{attribute}>{join(parts)}</{name}>")


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """Return the parts one after the other."""
    return Markup(markup(separator).join(markup(part) for part in parts))


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, css: str = "") -> Markup:
    """Return a table that scrolls on a narrow page; its first column names the rows."""
    header = join(Markup(f'<th scope="col">{markup(cell)}</th>') for cell in head)
    body = join(_row(cells) for cells in rows)
    inner = Markup(f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>")
    return Markup(f'<div class="scroll {html.escape(css)}" tabindex="0">{inner}</div>')


def _row(cells: Sequence[object]) -> Markup:
    name = Markup(f'<th scope="row">{markup(cells[0])}</th>')
    return element("tr", name, *(element("td", cell) for cell in cells[1:]))


def section(title: str, *parts: object) -> Markup:
    """Return a section under its heading."""
    return element("section", element("h2", title), *parts)


def chart(svg: str, *, css: str = "") -> Markup:
    """Return a chart in its frame; `svg` is trusted."""
    return element("div", Markup(svg), css=f"chart {css}".strip())


def page(title: str, parts: Iterable[object]) -> str:
    """Return the whole file."""
    style = resources.files("metarec_ray.report").joinpath("report.css").read_text("utf-8")
    return _PAGE.substitute(
        policy=_POLICY, title=markup(title), style=style, body=join(parts, "\n")
    )
