"""Small functions that write HTML: escaping, tables, figures, and the style sheet of the page.

Text is escaped by `text` and by whatever here takes plain strings; `tag` takes finished HTML.
"""

import base64
import html
import re
from collections.abc import Iterable, Sequence

CSS = """
:root{color-scheme:light dark;--paper:#fff;--ink:#222733;--faint:#5b6472;--rule:#dde1e7;
--card:#f6f7f9;--good:#00704f;--bad:#b34700;--open:#5b6472;--link:#0067a3}
@media (prefers-color-scheme:dark){:root{--paper:#171a21;--ink:#e4e7ec;--faint:#a3acba;
--rule:#343b47;--card:#1f242d;--good:#35c89b;--bad:#ff8547;--open:#a3acba;--link:#6db9ea}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:56rem;background:var(--paper);
color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
overflow-wrap:break-word}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .6rem}
h2{font-size:1.3rem;line-height:1.3;margin:2.8rem 0 .6rem;padding-top:.7rem;
border-top:1px solid var(--rule)}
h3{font-size:1.05rem;margin:1.8rem 0 .4rem}
p{margin:.5rem 0}
a{color:var(--link)}
.lead{font-size:1.1rem}
.faint,figcaption,.rows{color:var(--faint)}
nav ul{list-style:none;margin:1.2rem 0 0;padding:0;display:flex;flex-wrap:wrap;
gap:.2rem 1.1rem;font-size:.92rem}
.verdicts{display:grid;grid-template-columns:repeat(auto-fit,minmax(19rem,1fr));gap:.9rem;
margin:1.4rem 0}
.verdict{background:var(--card);border-left:.3rem solid var(--open);border-radius:.3rem;
padding:.8rem 1rem}
.verdict h3{margin:0;font-size:.92rem;font-weight:600;color:var(--faint)}
.verdict .answer{margin:.1rem 0 .4rem;font-size:1.25rem;font-weight:700;color:var(--open)}
.verdict.good{border-color:var(--good)}.verdict.good .answer{color:var(--good)}
.verdict.bad{border-color:var(--bad)}.verdict.bad .answer{color:var(--bad)}
.verdict p{font-size:.92rem}
.notice{border:1px solid var(--bad);border-radius:.3rem;padding:.6rem 1rem;margin:.9rem 0}
.notice ul{margin:.3rem 0;padding-left:1.2rem}
.left-out{background:var(--card);border-radius:.3rem;padding:.6rem 1rem;color:var(--faint)}
figure{margin:1rem 0 0}
.plot{overflow-x:auto}
.plot img{display:block;width:100%;min-width:30rem;height:auto}
figcaption{font-size:.92rem;margin-top:.3rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;margin:.6rem 0}
th,td{text-align:left;vertical-align:top;padding:.4rem .7rem .4rem 0;
border-bottom:1px solid var(--rule)}
thead th{font-weight:600;color:var(--faint)}
tbody th{font-weight:600;min-width:3.2rem}
.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
table.metrics{table-layout:fixed}
table.metrics th:first-child{width:27%}
table.metrics th:nth-child(2){width:12%}
table.metrics td.number{padding-right:1rem}
table.metrics thead th.number{padding-right:1rem}
.rows{display:block;font-size:.85em}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
td code,tbody th code{color:var(--faint);font-weight:400}
footer{margin-top:3rem;padding-top:.8rem;border-top:1px solid var(--rule);font-size:.88rem}
@media (max-width:40rem){
table.metrics thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table.metrics tr{display:grid;grid-template-columns:1fr auto;padding:.5rem 0;
border-bottom:1px solid var(--rule)}
table.metrics th,table.metrics td,table.metrics td.number{
border:0;padding:.1rem 0;width:auto!important}
table.metrics .meaning{grid-column:1/-1}
h1{font-size:1.5rem}
}
@media print{
:root{color-scheme:light}
body{max-width:none;padding:0;font-size:10pt}
nav{display:none}
.plot img{min-width:0}
.plot,.wide{overflow:visible}
figure,tr,.verdict{break-inside:avoid}
h2,h3{break-after:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""

NUMBER_PERCENT = re.compile(r"(\d) %")


def text(value: object) -> str:
    """Returns a value as text that is safe inside HTML, a number on one line with its percent."""
    return NUMBER_PERCENT.sub("\\1\u00a0%", html.escape(str(value), quote=True))


def tag(name: str, content: str, **attributes: str) -> str:
    """Wraps finished HTML in an element; a trailing `_` of an attribute's name is dropped."""
    pairs = "".join(f' {key.rstrip("_")}="{text(value)}"' for key, value in attributes.items())
    return f"<{name}{pairs}>{content}</{name}>"


def paragraphs(sentences: Iterable[str], **attributes: str) -> str:
    """Returns one paragraph per sentence."""
    return "".join(tag("p", text(sentence), **attributes) for sentence in sentences)


def bullets(items: Iterable[str]) -> str:
    """Returns a list of plain strings."""
    return tag("ul", "".join(tag("li", text(item)) for item in items))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """Returns a table of plain strings, the first cell of each row its heading.

    Args:
      head: column headings, or nothing for a table of names and values.
      rows: cells of each row.
      numbers: whether all columns but the first are numbers, to be set right.

    Returns:
      A `<table>` in a box that scrolls sideways where the screen is narrow.
    """
    look = {"class_": "number"} if numbers else {}
    headings = "".join(
        tag("th", text(one), scope="col", **(look if number else {}))
        for number, one in enumerate(head)
    )
    body = "".join(
        tag(
            "tr",
            tag("th", text(first), scope="row")
            + "".join(tag("td", text(cell), **look) for cell in cells),
        )
        for first, *cells in rows
    )
    top = tag("thead", tag("tr", headings)) if head else ""
    return tag("div", tag("table", top + tag("tbody", body)), class_="wide")


def figure(svg: str, caption: str, alternative: str) -> str:
    """Returns a figure that holds an SVG as a picture, with its caption.

    The picture is a data address, so that the ids inside it meet those of no other plot.

    Args:
      svg: one `<svg>` element.
      caption: how to read it, plain text.
      alternative: what it shows, for readers who cannot see it.

    Returns:
      A `<figure>` element.
    """
    data = base64.b64encode(svg.encode()).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{text(alternative)}">'
    return tag("figure", tag("div", image, class_="plot") + tag("figcaption", text(caption)))


def document(title: str, body: str) -> str:
    """Returns the whole page."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        'initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{CSS}</style>"
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'
