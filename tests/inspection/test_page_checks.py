"""The checker of pages is handed wrong pages, one fault each, and must name the fault."""

import pytest
from page_checks import problems
from reports import full

from regard.inspection.report import render_report

FAULTS = {
    "a script from a CDN": ("</body>", '<script src="https://cdn.example/x.js"></script></body>', "leaves the page"),
    "a style sheet": ("</head>", '<link rel="stylesheet" href="style.css"></head>', "leaves the page"),
    "a web font": ("<style>", "<style>@font-face{src:url(x.woff)}", "the style loads"),
    "an imported style": ("<style>", "<style>@import 'x.css';", "the style loads"),
    "an image in a style": ("<style>", "<style>b{background:url( 'x.png')}", "the style loads"),
    "a protocol-relative link": ("</body>", '<a href="//example.com">x</a></body>', "leaves the page"),
    "a request": ('"use strict";', '"use strict";fetch("x");', "can load something"),
    "an address in the script": ('"use strict";', '"use strict";let u="https://x";', "can load something"),
    "a changed script": ('"use strict";', '"use strict"; ', "does not allow script"),
    "an unescaped end of a script": ('class="example">', 'class="example">"</script>', "</script> closes"),
    "a handler in an attribute": ("<h1>", '<h1 onclick="x()">', "runs code from an attribute"),
    "an unclosed tag": ("<h1>", "<div><h1>", "closes div"),
    "two first headings": ("</h1>", "</h1><h1>b</h1>", "2 first-level headings"),
    "a skipped level": ("</h1>", "</h1><h4>b</h4>", "skips a level"),
    "an id twice": ("<h1>", '<h1 id="main">', "id main occurs twice"),
    "a link to nowhere": ('href="#main"', 'href="#nowhere"', "#nowhere leads nowhere"),
    "a picture without words": ("</h1>", '</h1><img src="data:,">', "without alt"),
    "a drawing without words": ("</h1>", "</h1><svg></svg>", "without a text alternative"),
    "a header without scope": ('<th scope="row">Seed', "<th>Seed", "without scope"),
    "a table without headers": ("</h1>", "</h1><table><tr><td>x</td></tr></table>", "a table without headers"),
    "a control without a label": ("</h1>", "</h1><select></select>", "without a label"),
    "no language": ('<html lang="en">', "<html>", "no language"),
    "no viewport": ('name="viewport"', 'name="v"', "no charset or viewport"),
    "no policy": ("default-src 'none'", "default-src *", "no policy"),
    "a frame": ("</h1>", '</h1><iframe title="x"></iframe>', "has no place here"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_checker_names_the_fault(fault):
    old, new, message = FAULTS[fault]
    html = render_report(full())
    assert problems(html) == []
    assert old in html
    found = problems(html.replace(old, new, 1))
    assert any(message in problem for problem in found), found
