"""Read anywhere: what GitHub and nbviewer show of a lesson without a kernel is whole, and everybody can see it.

The lessons are rendered with nbconvert, as those sites do it, and the page is looked at. What is known to go wrong
only on GitHub is looked for in the notebook. Colours are measured as a colour-blind reader sees them, and in grey.
Each rule is a function that returns complaints, and is tested on something broken.
"""

import ast
import copy
import functools
import itertools
import re
from urllib.parse import unquote, urlsplit

import matplotlib
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from diffusion_lib import plots
from tests.common import lesson_at
from tools import LESSONS
from tools.rules import complaint, numbered, output_texts, parse, sections, tags

TEMPLATES = ["lab", "classic"]  # nbviewer's pages are of the second kind
NO_ALT = "No description has been provided for this image"  # what nbconvert writes where it finds none


@functools.cache
def exporter(template):
    return HTMLExporter(template_name=template, exclude_input=True)


def rendered(notebook, template):
    """The page as a tree, without the code and without what is inside its pictures: both would take long to read."""
    light = copy.deepcopy(notebook)
    for output in (output for cell in light["cells"] for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            output["data"]["image/png"] = "aaaa"
    page, _ = exporter(template).from_notebook_node(light)
    return BeautifulSoup(page, "html.parser")


@pytest.fixture(scope="module", params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return request.param, lesson_at(request.param)


@pytest.fixture(scope="module", params=TEMPLATES)
def page(request, lesson):
    path, notebook = lesson
    return path, notebook, rendered(notebook, request.param), request.param


def stays_silent(path, complaints):
    said = [complaint(lesson_at(path), path, k, text) for k, text in complaints]
    assert not said, "\n" + "\n".join(said)


def one(*cells):
    return new_notebook(cells=list(cells))


def code(source="", *outputs, **metadata):
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def drawn():
    return new_output("display_data", data={"image/png": "aaaa", "text/plain": "<Figure>"})


# ---- holes


def holes(notebook, page):
    """Places where a page without a kernel is empty, or shows an error that is not meant."""
    for k, cell in numbered(notebook, "code"):
        for output in cell["outputs"]:
            kinds = set(output.get("data", {}))
            if any("widget" in kind for kind in kinds):
                yield k, "stores a widget, which a page without a kernel cannot show; run `python course.py outputs`"
            elif kinds and not kinds & {"text/plain", "text/html", "image/png"}:
                yield k, f"stores only {sorted(kinds)}; pages without a kernel show text, HTML and PNG"
            if "javascript" in " ".join(kinds) or re.search(r"<script|<iframe", "".join(output_texts(cell))):
                yield k, "an output brings a script, which GitHub removes; print or draw instead"
    meant = sum("raises-exception" in tags(cell) for _, cell in numbered(notebook, "code"))
    errors = page.select('.output_error, [data-mime-type="application/vnd.jupyter.stderr"], .output_stderr')
    if len(errors) > meant:
        yield (
            None,
            f"the page shows {len(errors)} errors or warnings, {meant} are meant: {errors[-1].get_text()[:80]!r}",
        )
    for area in page.select(".output_area, .jp-OutputArea-child"):
        shown = [part for part in area.find_all(True, recursive=False) if "rompt" not in " ".join(part["class"])]
        if not any(part.get_text().strip() or part.find("img") for part in shown):
            yield None, "the page has an empty place for an output"


def test_a_page_has_no_holes(page):
    path, notebook, soup, _ = page
    stays_silent(path, holes(notebook, soup))


VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.mark.filterwarnings("ignore:Your element with mimetype")
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    "output, complaint",
    [
        (new_output("display_data", data={VIEW: {"model_id": "a"}, "text/plain": "slider"}), "stores a widget"),
        (new_output("display_data", data={VIEW: {"model_id": "a"}}), "an empty place for an output"),
        (new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"]), "the page shows 1 error"),
        (new_output("stream", name="stderr", text="UserWarning"), "the page shows 1 error"),
        (new_output("display_data", data={"image/svg+xml": "<svg/>"}), "stores only"),
        (new_output("display_data", data={"text/html": "<script>draw()</script>"}), "brings a script"),
    ],
)
def test_a_hole_is_seen(template, output, complaint):
    broken = one(code("f()", output))
    assert any(complaint in text for _, text in holes(broken, rendered(broken, template)))
    meant = one(code("f()", new_output("error", ename="E", evalue="", traceback=["E"]), tags=["raises-exception"]))
    assert not list(holes(meant, rendered(meant, template)))


# ---- widgets and their static twins


def interactive(cell):
    """Whether a code cell shows a widget: it says so by its tag, or calls what makes one."""
    calls = [node.func for node in ast.walk(parse(cell) or ast.Module([], [])) if isinstance(node, ast.Call)]
    names = {ast.unparse(function) for function in calls}
    makers = {"widgets.explore", "widgets.player", "widgets.canvas", "interact", "interactive", "widgets.interact"}
    return "widget" in tags(cell) or bool(names & makers)


def pictures(cell):
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def without_twin(notebook):
    cells = dict(numbered(notebook))
    for _, numbers in sections(notebook):
        for k in numbers:
            if cells[k]["cell_type"] != "code" or not interactive(cells[k]):
                continue
            if "Interactive" not in " ".join(output_texts(cells[k])):
                yield (
                    k,
                    "a widget stores no text that says it is interactive; tag it widget, `python course.py outputs`",
                )
            if not any(pictures(cells[other]) for other in numbers if other != k):
                yield k, "a widget without a picture in its section; draw a static strip of the same thing"


def test_every_widget_has_a_static_twin(lesson):
    stays_silent(lesson[0], without_twin(lesson[1]))
    assert any(interactive(cell) for _, cell in numbered(lesson[1], "code")), "a lesson without a widget?"


def test_a_widget_without_a_twin_is_seen():
    note = new_output("display_data", data={"text/html": "<em>Interactive: run the notebook.</em>"})
    widget, strip = code("widgets.explore(draw, t=1)", note), code("plt.show()", drawn())
    here, there = new_markdown_cell("## Here"), new_markdown_cell("## There")
    assert not list(without_twin(one(here, strip, widget))) and not list(without_twin(one(here, widget, strip)))
    assert [k for k, _ in without_twin(one(here, strip, there, widget))] == [4]
    silent = code("plot()", tags=["widget"])
    assert [k for k, _ in without_twin(one(here, strip, silent))] == [3]


# ---- pictures have a text

ALT_LENGTH = range(15, 401)


def alternatives_missing(notebook):
    """The metadata `alt` of a cell with pictures: one text, or a list with a text for each."""
    for k, cell in numbered(notebook, "code"):
        alt, count = cell["metadata"].get("alt"), pictures(cell)
        if not count:
            if alt is not None:
                yield k, "has metadata alt and no picture; remove it"
            continue
        texts = [alt] if isinstance(alt, str) else alt
        if alt is None:
            yield k, f"{count} picture(s) without a text; write into the metadata alt what a reader would see"
        elif not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or len(texts) != count:
            yield k, f"{count} picture(s) and alt = {alt!r}; give one text, or a list with a text for each picture"
        else:
            for text in texts:
                if len(text.strip()) not in ALT_LENGTH:
                    yield (
                        k,
                        f"a text of {len(text.strip())} characters for a picture; 15 to 400 are right: {text[:40]!r}",
                    )
                if re.match(r"\W*(an? |the )?(image|picture) of\b", text, re.IGNORECASE):
                    yield k, f"begins with 'image of', which a screen reader says anyway; leave it out: {text[:40]!r}"


def test_every_picture_has_a_text(lesson):
    stays_silent(lesson[0], alternatives_missing(lesson[1]))


GOOD_ALT = "Loss over steps: it falls from 1 to 0.1 and stays there."


@pytest.mark.parametrize(
    "cell",
    [
        code("draw()", drawn()),
        code("draw()", drawn(), alt=""),
        code("draw()", drawn(), alt="too short"),
        code("draw()", drawn(), alt="long " * 100),
        code("draw()", drawn(), alt="Image of a loss that falls over time"),
        code("draw()", drawn(), alt="A picture of a loss that falls"),
        code("draw()", drawn(), drawn(), alt=[GOOD_ALT]),
        code("draw()", drawn(), drawn(), alt=GOOD_ALT),
        code("draw()", drawn(), alt={"0": GOOD_ALT}),
        code("print(1)", alt=GOOD_ALT),
    ],
    ids=[
        "none",
        "empty",
        "short",
        "long",
        "image of",
        "a picture of",
        "list too short",
        "one for two",
        "dict",
        "no picture",
    ],
)
def test_a_bad_text_is_seen(cell):
    assert [k for k, _ in alternatives_missing(one(cell))] == [1]
    good = one(code("draw()", drawn(), alt=GOOD_ALT), code("draw()", drawn(), drawn(), alt=[GOOD_ALT] * 2), code("1"))
    assert not list(alternatives_missing(good))


def images_without_text(notebook, page, template):
    """On the page: pictures in the text (both templates), and those of cells (classic takes alt from the cell)."""
    outputs = ".output_png img, .jp-OutputArea img"
    for image in page.select("img"):
        if not image.get("alt", "").strip():
            yield None, f"an image without alt: {str(image)[:80]}"
    texts = [image["alt"] for image in page.select("img:not(:is(.output_png, .jp-OutputArea) img)")]
    if NO_ALT in texts:
        yield None, "a picture in the text without words between ![ and ]; say what it shows"
    if template == "classic":
        expected = [
            text
            for _, cell in numbered(notebook, "code")
            for alt in [cell["metadata"].get("alt", NO_ALT)]
            for text in (alt if isinstance(alt, list) else [alt] * pictures(cell))
        ]
        shown = [image["alt"] for image in page.select(outputs)]
        if NO_ALT in shown or len(shown) != len(expected):
            yield None, f"{shown.count(NO_ALT)} of {len(shown)} pictures have no text on the page"
        for text, seen in zip(expected, shown):
            if text != NO_ALT and " ".join(text.split()) not in " ".join(seen.split()):
                yield None, f"the page says {seen[:60]!r} for a picture, its text is {text[:60]!r}"


def test_every_image_on_the_page_has_a_text(page):
    path, notebook, soup, template = page
    stays_silent(path, images_without_text(notebook, soup, template))


@pytest.mark.parametrize("text", ["![](../figures/map.png)", "<img src='../figures/map.png'>"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_an_image_without_a_text_is_seen(text, template):
    broken, good = one(new_markdown_cell(text)), one(new_markdown_cell("![A map](../figures/map.png)"))
    assert list(images_without_text(broken, rendered(broken, template), template))
    assert not list(images_without_text(good, rendered(good, template), template))


def test_a_picture_without_its_own_text_is_seen():
    silent, good = one(code("draw()", drawn())), one(code("draw()", drawn(), alt=GOOD_ALT))
    another = one(code("draw()", drawn(), alt="Something else, of the right length."))
    assert list(images_without_text(silent, rendered(silent, "classic"), "classic"))
    assert list(images_without_text(good, rendered(another, "classic"), "classic"))
    assert not list(images_without_text(good, rendered(good, "classic"), "classic"))


# ---- headings and links


def headings_out_of_order(page):
    before = 0
    for heading in page.select("h1, h2, h3, h4, h5, h6"):
        level = int(heading.name[1])
        text = heading.get_text().removesuffix("¶").strip()
        if level > before + 1:
            yield None, f"heading {text!r} has level {level} after level {before}; do not skip a level"
        if level == 1 and before:
            yield None, f"{text!r} is a second heading of level 1"
        if not text:
            yield None, "an empty heading"
        before = level
    if not before:
        yield None, "no heading on the page"


def test_headings_of_the_page_are_in_order(page):
    stays_silent(page[0], headings_out_of_order(page[2]))


@pytest.mark.parametrize(
    "text", ["# A\n\n### B", "## A", "# A\n\n# B", "no heading", "# A\n\n<h4>B</h4>", "# A\n\n## "]
)
def test_headings_out_of_order_are_seen(text):
    assert list(headings_out_of_order(rendered(one(new_markdown_cell(text)), "lab")))
    assert not list(headings_out_of_order(rendered(one(new_markdown_cell("# A\n\n## B\n\n### C\n\n## D")), "lab")))


@functools.cache
def places(file):
    """What a link can name on a lesson's page."""
    return {tag["id"] for tag in rendered(lesson_at(file), "lab").select("[id]")}


def dead_links(page, path):
    """Links and images that lead nowhere. Whether https links answer is not asked: tests need no network."""
    ids = {tag.get("id") or tag.get("name") for tag in page.select("[id], a[name]")}
    targets = [tag["href"] for tag in page.body.select("a[href]")] + [
        tag["src"] for tag in page.body.select("img[src]")
    ]
    for target in dict.fromkeys(targets):
        if target.startswith("data:image/"):
            continue
        if target.startswith("#"):
            if unquote(target[1:]) not in ids and target[1:] not in ids:
                yield None, f"there is no place {target} on the page"
            continue
        parts = urlsplit(target)
        if parts.scheme == "https":
            host = parts.hostname or ""
            if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", host) or re.search(r"[\s<>\"{}|\\^`]|[.,;]$", target):
                yield None, f"{target!r} is not a well-formed address"
        elif parts.scheme or target.startswith("/"):
            yield None, f"{target!r} is neither https nor a path from notebooks/"
        else:
            file = path.parent / unquote(parts.path)
            if not file.exists():
                yield None, f"{target} does not exist"
            elif parts.fragment and file.suffix == ".ipynb":
                if unquote(parts.fragment) not in places(file.resolve()):
                    yield None, f"{target}: there is no such heading in {file.name}"


def test_links_and_images_of_the_page_resolve(page):
    path, _, soup, _ = page
    stays_silent(path, dead_links(soup, path))


@pytest.mark.parametrize(
    "text",
    [
        "[a](99_nothing.ipynb)",
        "[a](#Nowhere)",
        "[a](01_forward_noising.ipynb#Nowhere)",
        "[a](http://example.org)",
        "[a](https://example)",
        "[a](https://example.org/x.)",
        "[a](/README.md)",
        "![a](../figures/nothing.png)",
        "<a href='file:///etc/hosts'>a</a>",
    ],
)
def test_a_dead_link_is_seen(text):
    good = "# Here it is\n\n[a](../README.md) [b](01_forward_noising.ipynb) [c](#Here-it-is) <https://example.org/a(b)>"
    assert list(dead_links(rendered(one(new_markdown_cell("# A\n\n" + text)), "lab"), LESSONS[0]))
    assert not list(dead_links(rendered(one(new_markdown_cell(good)), "lab"), LESSONS[0]))


# ---- formulas

# Not allowed on GitHub, or not known to the MathJax that it and nbviewer run.
MACROS = (
    r"\\(operatorname|(re)?newcommand|def|let|require|href|class|cssId|style|label|ref|eqref|tag"
    r"|bm|boldsymbol|mathbbm|coloneqq|nicefrac|unit|qty)\b"
)


def without_code(text):
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)[^\n]*?\1", "", text)


def formulas(text):
    """All formulas of a markdown cell with their dollars, in order."""
    return re.findall(r"(?<!\\)\$\$.+?\$\$|(?<![\\$])\$[^$]+\$", without_code(text), flags=re.DOTALL)


def fragile_formulas(notebook):
    """What GitHub is known to break: it looks for Markdown and HTML first, and for dollars afterwards.

    Sources: docs.github.com, "Writing mathematical expressions", and N. Schlömer's list of GitHub's math bugs,
    https://github.com/nschloe/github-math-bugs.
    """
    for k, cell in numbered(notebook, "markdown"):
        text = without_code(cell["source"])
        for match in re.finditer(r"(?<!\\)\$\$(.+?)\$\$", text, flags=re.DOTALL):
            before, after = text[: match.start()], text[match.end() :]
            if re.search(r"\n\s*\n", match[1]):
                yield k, f"a blank line inside $${match[1]}$$; a formula ends there for Markdown"
            if not re.search(r"(^|\n[ \t]*)$", before) or not re.match(r"[ \t]*(\n|$)", after):
                yield k, f"text on the line of $${match[1][:40]}...$$; give a displayed formula lines of its own"
            elif not re.search(r"(^|\n[ \t]*\n[ \t]*)$", before) or not re.match(r"[ \t]*(\n[ \t]*\n|\n?$)", after):
                yield k, f"no blank line before or after $${match[1][:40]}...$$; add it"
        inline = re.sub(r"(?<!\\)\$\$.+?\$\$", "\n\n", text, flags=re.DOTALL)
        for match in re.finditer(r"(?<!\\)\$([^$]+)\$", inline):
            before, after = inline[: match.start()][-1:], inline[match.end() :][:1]
            if "\n" in match[1]:
                yield k, f"${match[1]}$ is broken over lines; keep it on one, or escape a dollar that is money: \\$"
            if match[1] != match[1].strip():
                yield k, f"${match[1]}$ has a space inside its dollars; remove it"
            if re.match(r"\w", before) or re.match(r"\w", after):
                yield k, f"a letter or digit touches ${match[1]}$; put a space or a mark between"
        if "$" in re.sub(r"\\\$", "", re.sub(r"(?<!\\)\$[^$]+\$", "", inline)):
            yield k, "a dollar without its partner; escape it as \\$ if it is money"
        for formula in formulas(cell["source"]):
            if re.search(r"<[A-Za-z/!?]", formula):
                yield k, f"{formula}: < with a letter behind it begins an HTML tag; put a space behind it, or \\lt"
            if re.search(r"\[[^\]]*\]\([^)]*\)", formula):
                yield (
                    k,
                    f"{formula} contains [...](...), a link to Markdown; write \\lbrack, or a space between ] and (",
                )
            if found := re.search(MACROS, formula):
                yield (
                    k,
                    f"{formula} uses {found[0]}, which GitHub does not show; write it another way (\\mathrm{{Var}})",
                )
            if re.search(r"(?<!\\)%", formula):
                yield k, f"{formula} has a %, which begins a comment; write \\%"
            if len(re.findall(r"(?<!\\)\{", formula)) != len(re.findall(r"(?<!\\)\}", formula)):
                yield k, f"{formula}: its braces do not match"
        outside = re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL)
        if re.search(r"\\begin\{|\\\[|\\\(", outside):
            yield k, "a formula without dollars (\\begin, \\[ or \\( ); put it between $$"
        for row in re.findall(r"^[ \t]*\|.*$", outside, flags=re.MULTILINE):
            for formula in formulas(row):
                if re.search(r"(?<!\\)\|", formula):
                    yield k, f"{formula} has a | and stands in a table, which it cuts; write \\mid"
        for tag in re.findall(r"<summary>.*?</summary>|<h\d>.*?</h\d>", text, flags=re.DOTALL):
            if "$" in tag:
                yield k, f"a formula inside {tag[:60]}; Markdown leaves HTML alone, so write it in words"
        for words in re.findall(r"\[([^\]]*\$[^\]]*\$[^\]]*)\]\(", re.sub(r"!\[", "[", outside)):
            yield k, f"a formula in the words of a link, [{words}]; GitHub does not show it there"


def test_formulas_survive_github(lesson):
    stays_silent(lesson[0], fragile_formulas(lesson[1]))


@pytest.mark.parametrize(
    "text",
    [
        r"the price is $5",
        r"between $5 and $6 a month",
        r"costs 3$x$",
        r"the $n$th",
        r"the $ x $ of",
        "a $x +\ny$ b",
        r"$a<b$",
        r"$a </b$",
        r"$[a+b](c+d)$",
        r"$\operatorname{Var} x$",
        r"$\newcommand{\a}{b}$",
        r"$50 % x$",
        r"$\frac{a}{b$",
        "Here: $$x = 1$$ it is",
        "Here it is:\n$$x = 1$$\n\nand on",
        "Here it is:\n\n$$x = 1$$\nand on",
        "Here:\n\n$$x = 1\n\n+ 2$$",
        "\\begin{align} x \\end{align}",
        r"\\(x\\)".replace("\\\\", "\\"),
        "| a | b |\n|---|---|\n| $p(x|y)$ | c |",
        "<details><summary>Why $x$</summary>\n\nbecause\n</details>",
        "[the $x$ of it](01.ipynb)",
    ],
)
def test_a_formula_that_github_breaks_is_seen(text):
    assert [k for k, _ in fragile_formulas(one(new_markdown_cell(text)))][:1] == [1]


def test_formulas_that_github_shows_are_left_alone():
    text = "\n\n".join(
        [
            r"Let $a < b$, $x_{i} * y_{i}$ and $p(x\,|\,y)$ ($k$-th; $n$, too). It costs \$5, or `$6`, and `a $b$c`.",
            r"$$q(x_s\,|\,x_t) = \mathcal{N}(0, 1) \qquad 50\,\% .$$",
            "- one\n- $x$\n\n```python\nprint('$5', \"$x < y$\")\n```",
            "| a | b |\n|---|---|\n| $p(x \\mid y)$ | c |",
            "[a link](01.ipynb) with $[0, 1]$ and ($x$).",
        ]
    )
    assert list(fragile_formulas(one(new_markdown_cell(text)))) == []


def test_the_page_holds_every_formula_as_it_was_written(page):
    """Markdown has not eaten an underscore, a star or a backslash of any formula."""
    path, notebook, soup, _ = page
    written = [f for _, cell in numbered(notebook, "markdown") for f in formulas(cell["source"])]
    texts = [BeautifulSoup(str(cell), "html.parser") for cell in soup.select(".text_cell_render, .jp-RenderedMarkdown")]
    for code_tag in [tag for text in texts for tag in text.select("code, pre, .highlight")]:
        code_tag.extract()
    shown = [f for text in texts for f in formulas(text.get_text())]
    assert [" ".join(f.split()) for f in shown] == [" ".join(f.split()) for f in written] and written


# ---- colours

NAMES = ["BLUE", "ORANGE", "GREEN", "PINK", "SKY", "YELLOW", "GREY", "BLACK"]
# How far apart two colours must be. In CIE Lab a difference of 2 can be seen side by side, about 10 at a glance.
TOGETHER_APART = 15.0  # for every kind of colour vision, if a lesson uses the two in one cell
PALETTE_APART = 10.0  # and if it does not
GREY_APART = 5.0  # lightness, out of 100: on a projector without colour, in one cell
CONTRAST = 3.0  # of a line or a point against white (WCAG 2.2, 1.4.11)

# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0; for linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(color):
    value = np.asarray(matplotlib.colors.to_rgb(color))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(color, vision="normal"):
    """CIE Lab (white: D65) of a colour, as seen with a kind of vision."""
    seen = np.clip(np.asarray(VISION[vision]) @ linear(color), 0, 1)
    ratio = XYZ @ seen / (XYZ @ np.ones(3))
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(a, b):
    """{kind of vision: difference in CIE Lab}."""
    return {vision: float(np.linalg.norm(lab(a, vision) - lab(b, vision))) for vision in VISION}


def apart_in_grey(a, b):
    return float(abs(lab(a)[0] - lab(b)[0]))


def contrast(color):
    """Against white, from 1 to 21."""
    return 1.05 / (float(XYZ[1] @ linear(color)) + 0.05)


def palette_names(cell):
    """Names of the palette that a code cell uses."""
    nodes = list(ast.walk(parse(cell) or ast.Module([], [])))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names & set(NAMES) | {node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr in NAMES}


def used_together():
    """{(name, name): "lesson:cell, ..."} of colours that one cell uses."""
    pairs = {}
    for path in LESSONS:
        for k, cell in numbered(lesson_at(path), "code"):
            if re.search(r"^from diffusion_lib", cell["source"], re.MULTILINE):
                continue  # imports
            for pair in itertools.combinations(sorted(palette_names(cell)), 2):
                pairs.setdefault(pair, []).append(f"{path.name[:2]}:{k}")
    return {pair: ", ".join(cells) for pair, cells in pairs.items()}


def test_the_measures_of_colour_are_right():
    """Known values: the corners of CIE Lab, WCAG's contrast, and that the colour-blind confuse what they do."""
    assert lab("#ffffff") == pytest.approx([100, 0, 0], abs=0.1) and lab("#000000") == pytest.approx([0, 0, 0])
    assert lab("#ff0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert lab("#0000ff") == pytest.approx([32.30, 79.19, -107.86], abs=0.05)
    assert contrast("#000000") == pytest.approx(21) and contrast("#767676") == pytest.approx(4.54, abs=0.01)
    for matrix in VISION.values():
        assert np.sum(matrix, 1) == pytest.approx([1, 1, 1], abs=1e-5)  # grey stays grey
    confused = apart("#c0a000", "#60c000")  # a yellow and a green
    assert confused["normal"] > 50 and confused["deuteranopia"] < 0.5 * confused["normal"]
    confused = apart("#0080ff", "#00a080")  # a blue and a green
    assert confused["tritanopia"] < 0.5 * confused["normal"]


def test_colours_of_one_figure_differ_for_the_colour_blind():
    weak = []
    for (a, b), cells in used_together().items():
        vision, distance = min(apart(getattr(plots, a), getattr(plots, b)).items(), key=lambda item: item[1])
        if distance < TOGETHER_APART:
            weak.append(
                f"{a} and {b} are {distance:.0f} apart with {vision}, {TOGETHER_APART:.0f} are needed ({cells})"
            )
    assert not weak, "\n" + "\n".join(weak)


def test_colours_of_one_figure_differ_in_grey():
    weak = []
    for (a, b), cells in used_together().items():
        distance = apart_in_grey(getattr(plots, a), getattr(plots, b))
        if distance < GREY_APART:
            weak.append(f"{a} and {b} differ by {distance:.1f} in lightness, {GREY_APART} are needed ({cells})")
    assert not weak, "\n" + "\n".join(weak)


def test_the_whole_palette_differs_for_the_colour_blind():
    weak = [
        (a, b, vision, round(distance, 1))
        for a, b in itertools.combinations(NAMES, 2)
        for vision, distance in apart(getattr(plots, a), getattr(plots, b)).items()
        if distance < PALETTE_APART
    ]
    assert not weak, weak
    assert [getattr(plots, name) for name in NAMES] == plots.COLORS


def test_lines_stand_out_from_white():
    """SKY and YELLOW are pale; they are for surfaces, and a lesson that draws with them by name is told so."""
    low = {
        name: round(contrast(getattr(plots, name)), 2) for name in NAMES if contrast(getattr(plots, name)) < CONTRAST
    }
    used = [
        f"{path.name[:2]}:{k} uses {name}, contrast {low[name]}"
        for path in LESSONS
        for k, cell in numbered(lesson_at(path), "code")
        for name in palette_names(cell) & set(low)
        if not re.search(r"^from diffusion_lib", cell["source"], re.MULTILINE)
    ]
    assert set(low) <= {"SKY", "YELLOW"} and not used, "\n" + "\n".join(used)


def test_similar_colours_are_noticed():
    assert min(apart("#d62728", "#2ca02c").values()) < TOGETHER_APART + 5  # matplotlib's red and green
    assert apart_in_grey("#d62728", "#2ca02c") > GREY_APART > apart_in_grey("#e41a1c", "#377eb8")
    assert contrast("#ffff00") < CONTRAST


COLOR_WORDS = {"color", "c", "colors", "facecolor", "facecolors", "edgecolor", "edgecolors", "ecolor", "fc", "ec"}
COLOR_WORDS |= {"markerfacecolor", "markeredgecolor", "mfc", "mec", "hatchcolor", "gapcolor"}


def is_grey(text):
    """Black, white, and what lies between; 'none' draws nothing."""
    return text == "none" or (matplotlib.colors.is_color_like(text) and len(set(matplotlib.colors.to_rgb(text))) == 1)


def is_even(name):
    """Whether a colour map's lightness goes one way, or up to its middle and down again (a map with two ends)."""
    for vision in VISION:
        lightness = [lab(matplotlib.colormaps[name](x)[:3], vision)[0] for x in np.linspace(0, 1, 41)]
        up, down = np.diff(lightness) > -0.3, np.diff(lightness) < 0.3
        if not (up.all() or down.all() or (up[:20].all() and down[20:].all())):
            return False
    return True


def foreign_colours(notebook):
    """Colours that are neither of the palette nor grey, and colour maps whose lightness goes up and down."""
    for k, cell in numbered(notebook, "code"):
        tree = parse(cell) or ast.Module([], [])
        inside = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in COLOR_WORDS:
                inside |= {part for part in ast.walk(node.value) if isinstance(part, ast.Constant)}
                inside -= {
                    part for part in ast.walk(node.value) if isinstance(part, ast.Compare) for part in ast.walk(part)
                }
                inside -= {
                    part
                    for index in ast.walk(node.value)
                    if isinstance(index, ast.Subscript)
                    for part in ast.walk(index.slice)
                }
            if isinstance(node, ast.keyword) and node.arg == "cmap":
                for part in ast.walk(node.value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and not is_even(part.value):
                        yield (
                            k,
                            f"colour map {part.value!r}; take one whose lightness goes one way (viridis, gray, Blues)",
                        )
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "plot" in node.func.attr:
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and re.match(
                        r"[bgrcmyC]\d?[-.:o^sv*x+]", str(argument.value)
                    ):
                        yield k, f"{argument.value!r} sets a colour; give color=plots.BLUE and the style alone"
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            hexadecimal = re.fullmatch(r"#[0-9a-fA-F]{3,8}", node.value)
            named = node.value.startswith("tab:") or node in inside
            if (hexadecimal or named) and not is_grey(node.value):
                yield k, f"colour {node.value!r}; take one of diffusion_lib.plots ({', '.join(NAMES)})"


def test_lessons_draw_with_the_palette(lesson):
    stays_silent(lesson[0], foreign_colours(lesson[1]))


@pytest.mark.parametrize(
    "source",
    [
        "axis.plot(x, color='red')",
        "axis.plot(x, 'r--')",
        "axis.plot(x, y, 'C1o-')",
        "axis.scatter(x, y, c=['tab:blue', BLUE])",
        "colors = {'a': '#ff0000'}",
        "axis.bar(x, y, color=BLUE if x > 0 else 'orange')",
        "axis.imshow(x, cmap='jet')",
        "axis.scatter(x, y, c=label, cmap='tab10')",
        "axis.imshow(x, cmap='hsv')",
        "axis.add_patch(Rectangle((0, 0), 1, 1, facecolor='#123456'))",
    ],
)
def test_a_foreign_colour_is_seen(source):
    assert [k for k, _ in foreign_colours(one(code(source)))][:1] == [1]


def test_the_palette_greys_and_even_maps_are_left_alone():
    source = """
axis.plot(x, "o-", color=plots.BLUE, mfc="white")
axis.text(0, 0, "red", color="black" if name == "blue" else "0.3")
axis.bar(x, y, color=[GREY, colors["red"]], edgecolor="none")
shade = {"a": "#333333", "b": "#BBBBBB"}
for name in ["viridis", "gray", "Greys", "Blues", "Oranges", "RdBu", "inferno", "cividis", "RdBu_r"]:
    pass
axis.imshow(x, cmap="gray"), axis.imshow(x, cmap="RdBu"), axis.imshow(x, cmap="viridis"), axis.imshow(x, cmap="Blues")
"""
    assert list(foreign_colours(one(code(source)))) == []


def test_stored_pictures_carry_the_alt_text_of_their_cell(lesson):
    """nbviewer reads it from the output; `python course.py outputs` copies it there."""
    for k, cell in numbered(lesson[1], "code"):
        alt = cell["metadata"].get("alt", [])
        pictures = [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
        stored = [output["metadata"].get("image/png", {}).get("alt") for output in pictures]
        assert stored == ([alt] if isinstance(alt, str) else alt), f"cell {k}: run `python course.py outputs`"
