"""Makes a hand-out of each lesson's slides: `python course.py slides [NN ...] [--notes]`.

    python -m tools.slides [NN ...] [--notes] [--folder slides]

A hand-out is one HTML file that any browser shows without a network: formulas are MathML, pictures lie inside, nothing
hangs on JavaScript, and it prints well, small slides several on a page. What begins a slide and what continues one says
the notebook's slideshow metadata. What a talk skips is there for the reader, with a line beside it (set-up and imports
are left out); hints and solutions are folded. Speaker notes are not in it: --notes writes them to a second file, with
the minutes added up.
"""

import functools
import html
import mimetypes
import re
import sys
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

import latex2mathml.converter
from bs4 import BeautifulSoup
from nbconvert.filters import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter
from tqdm import tqdm

from diffusion_lib.files import write_atomically
from tools import ROOT, options
from tools.rules import numbered, read, repository

NOTE = "**Presenting:** "
CODE_LINES = 12  # more of them scroll in a box; on paper all are there


class SlidesFailed(Exception):
    pass


# ---- what the notebook says


@dataclass
class Slide:
    """One slide: its place in the talk (None if a talk skips it), its cells (cell number, cell), its speaker notes."""

    number: int | None
    cells: list = field(default_factory=list)
    notes: list = field(default_factory=list)


def slide_type(cell):
    return cell["metadata"].get("slideshow", {}).get("slide_type", "-")


def is_section(cell):
    return cell["cell_type"] == "markdown" and cell["source"].startswith("## ")


def slides_of(notebook):
    """The slides in order. A skipped section, such as the further reading, is one too, without a number."""
    found, count, in_a_section = [], 0, False
    for k, cell in numbered(notebook):
        kind = slide_type(cell)
        in_a_section |= is_section(cell)
        if kind == "skip" and cell["cell_type"] == "code" and not in_a_section:
            continue  # the set-up and the imports
        if kind in ("slide", "subslide") or not found:
            count += 1
            found.append(Slide(count))
        elif kind == "skip" and is_section(cell):
            found.append(Slide(None))
        if kind == "notes":
            found[-1].notes.append((k, cell))
        else:
            found[-1].cells.append((k, cell))
    return found


def alternatives(cell, pictures):
    """A text for each picture of a code cell: from the cell's metadata, else from what the cell prints."""
    given = cell["metadata"].get("alt")
    if isinstance(given, list) and len(given) == pictures:
        return given
    if isinstance(given, str):
        return [given] * pictures
    printed = " ".join(" ".join(o["text"] for o in cell["outputs"] if o.get("name") == "stdout").split())
    return [
        f"Figure; its cell prints: {printed[:300]}" if printed else "Figure; the text beside it says more"
    ] * pictures


def minutes_of(note):
    """The last `N minutes` of a note: how long its part of the talk takes. None if it does not say."""
    said = re.findall(r"\b(\d+) minutes?\b", note)
    return int(said[-1]) if said else None


# ---- from cells to HTML


@functools.cache
def mathml(formula, display):
    """A formula as MathML. Raises ValueError where latex2mathml does not understand it."""
    try:
        made = latex2mathml.converter.convert(formula, display=display)
    except Exception as error:  # it has many kinds, and an IndexError here and there
        raise ValueError(type(error).__name__) from None
    if unknown := re.search(r"\\[a-zA-Z]+", made):
        raise ValueError(f"{unknown[0]} is not known")
    if len(re.findall(r"(?<!\\){", formula)) != len(re.findall(r"(?<!\\)}", formula)):
        raise ValueError("its braces do not match")
    return made


class Renderer(IPythonRenderer):
    """nbconvert's way from a cell's markdown to HTML, with formulas, pictures and links that need no network."""

    def __init__(self, path, hand_outs):
        super().__init__(escape=False)
        self.notebook, self.root, self.hand_outs = path, path.parents[1], hand_outs
        self.repository = repository(path)
        self.cell = None  # the number of the cell in work
        self.sections = []  # titles as HTML, in the order of the text
        self.ids = set()

    def failed(self, what):
        return SlidesFailed(f"lesson {self.notebook.name[:2]}, cell {self.cell}: {what}")

    def math(self, formula, display):
        try:
            return mathml(formula.strip(), display)
        except ValueError as error:
            raise self.failed(f"latex2mathml cannot convert ${formula}$ ({error}); write it differently") from None

    def inline_math(self, body):
        return self.math(body, "inline")

    def block_math(self, body):
        return self.math(body, "block")

    def latex_environment(self, name, body):
        return self.math(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def heading(self, text, level, **_):
        words = BeautifulSoup(text, "html.parser").get_text()
        name = anchor = words.strip().replace(" ", "-")  # as JupyterLab and nbconvert name it
        while anchor in self.ids:
            anchor = f"{name}-{len(self.ids)}"
        self.ids.add(anchor)
        if level == 2:
            self.sections.append(text)
        return f'<h{level} id="{html.escape(anchor)}">{text}</h{level}>\n'

    def link(self, text, url, title=None):
        if re.match(r"https://|mailto:|#", url):
            return super().link(text, url, title)
        file, hash_sign, anchor = url.partition("#")
        if Path(file).name in self.hand_outs:
            place = Path(file).stem + ".html"
        else:
            place = (self.notebook.parent / file).resolve()
            if not place.is_relative_to(self.root):
                raise self.failed(f"the link {url} leads out of the repository; correct it")
            place = f"{self.repository}/blob/main/{place.relative_to(self.root).as_posix()}"
        return super().link(text, place + hash_sign + anchor, title)

    def image(self, text, url, title=None):
        if url.startswith("https://"):
            return text  # a badge: its words stay, and its link around them
        if url.startswith("attachment:"):
            return super().image(text, url, title)
        try:
            content = (self.notebook.parent / url).read_bytes()
        except OSError:
            raise self.failed(f"there is no picture {url}; correct the path (it starts from notebooks/)") from None
        return picture(content, mimetypes.guess_type(url)[0], BeautifulSoup(text, "html.parser").get_text())

    def block_html(self, html):
        return self.checked(super().block_html(html))

    def inline_html(self, html):
        return self.checked(super().inline_html(html))

    def checked(self, tag):
        if re.search(r"<(img|script|link|iframe|video|audio|object|embed)\b", tag, re.IGNORECASE):
            raise self.failed(
                f"{tag.strip()[:60]!r} may need a network; for a picture write ![what it shows](../figures/x.png)"
            )
        return tag

    def block_code(self, code, info=None):
        boxed = super().block_code(code.rstrip(), info)
        return boxed.replace("<pre", '<pre tabindex="0"', 1)  # a box that scrolls must be reachable with the keyboard

    def code_cell(self, cell):
        parts = [self.block_code(cell["source"], "python")]
        pictures = sum("image/png" in output.get("data", {}) for output in cell["outputs"])
        texts = iter(alternatives(cell, pictures))
        for output in cell["outputs"]:
            data = output.get("data", {})
            if output["output_type"] == "stream":
                parts.append(printed(output["text"]))
            elif output["output_type"] == "error":
                parts.append(printed(f"{output['ename']}: {output['evalue']}"))
            elif "image/png" in data:
                parts.append(f"<p>{picture(data['image/png'], 'image/png', next(texts))}</p>")
            elif "text/html" in data:
                parts.append(f'<div class="output">{self.checked("".join(data["text/html"]))}</div>')
            else:
                parts.append(printed("".join(data.get("text/plain", ""))))
        return "\n".join(parts)

    def render(self, k, cell):
        """One cell as HTML."""
        self.cell, self.attachments = k, cell.get("attachments", {})
        if cell["cell_type"] == "code":
            return self.code_cell(cell)
        return MarkdownWithMath(self).render(cell["source"])


def picture(content, kind, alt):
    """An image tag that holds its picture; content is bytes, or base64 as notebooks store it."""
    inside = b64encode(content).decode() if isinstance(content, bytes) else "".join(content.split())
    return f'<img src="data:{kind};base64,{inside}" alt="{html.escape(alt)}">'


def printed(text):
    return f'<pre class="output" tabindex="0">{html.escape(strip_ansi(text.rstrip()))}</pre>'


def first_words(made, count):
    """The first words of the first paragraph or heading of a piece of HTML."""
    tags = BeautifulSoup(made, "html.parser").find_all(True, recursive=False)
    words = tags[0].get_text().split() if tags else []
    return " ".join(words[:count]) + " …" * (len(words) > count)


# ---- the two pages


CSS = """
:root { --ink: #1a1a1a; --soft: #5a5a5a; --line: #c9c9c9; --blue: #005a8c; --paper: #fff; --desk: #f1f1ee; }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; background: var(--desk); color: var(--ink); font: 17px/1.5 system-ui, "Segoe UI", Arial, sans-serif; }
a { color: var(--blue); }
h1 { font-size: 2rem; line-height: 1.2; margin: .2em 0 .5em; }
h2 { font-size: 1.6rem; line-height: 1.25; margin: .2em 0 .5em; }
h3 { font-size: 1.2rem; margin: .2em 0 .5em; }
p, li { max-width: 46em; }
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "Noto Sans Math", math; font-size: 1.12em; }
math[display="block"] { display: block math; margin: .9em 0; overflow-x: auto; overflow-y: hidden; }
img { max-width: 100%; height: auto; }
code, pre { font: .82em/1.45 ui-monospace, "SFMono-Regular", Consolas, "DejaVu Sans Mono", monospace; }
pre { margin: .7em 0; padding: .6em .8em; overflow: auto; border-radius: 4px; }
pre code { font-size: 1em; }
.highlight, .highlight pre, pre { background: #f6f6f4; }
.highlight pre { max-height: calc((LINES + .5) * 1.45em + .6em); }
pre.output { background: none; border-left: 3px solid var(--line); border-radius: 0; padding: .1em .8em; }
div.output { border-left: 3px solid var(--line); padding: .1em .8em; }
table { border-collapse: collapse; margin: .8em 0; display: block; overflow-x: auto; }
th, td { border: 1px solid var(--line); padding: .3em .7em; text-align: left; vertical-align: top; }
details { margin: .6em 0; padding: .3em .8em; border: 1px solid var(--line); border-radius: 4px; }
aside.more { margin: .8em 0; padding: .05em 0 .05em 1em; border-left: 3px solid #7db1d1; font-size: .94em; }
summary { cursor: pointer; color: var(--blue); }
blockquote { margin: .8em 0; padding-left: 1em; border-left: 3px solid var(--line); }
nav { padding: 1rem 1.2rem; font-size: .9rem; line-height: 1.35; }
nav ol { list-style: none; margin: .6em 0; padding: 0; }
nav li { display: flex; gap: .6em; margin: .45em 0; }
nav li span { flex: none; width: 1.8em; text-align: right; color: var(--soft); }
main { padding: 1rem; max-width: 66rem; }
.slide { background: var(--paper); border: 1px solid var(--line); border-radius: 6px; }
.slide { padding: 1.2rem 2rem; margin: 0 0 1.2rem; }
.slide > header { display: flex; justify-content: space-between; font-size: .8rem; color: var(--soft); }
.slide > header a { color: inherit; }
@media (min-width: 75rem) {
  body { display: grid; grid-template-columns: 17rem minmax(0, 1fr); }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; }
}
@media (max-width: 40rem) { .slide { padding: .8rem 1rem; } }
@media print {
  @page { size: A4; margin: 12mm; }
  body { display: block; background: none; font-size: 10.5pt; }
  nav { display: none; }
  main { padding: 0; max-width: none; }
  .slide { padding: 3mm 5mm; margin: 0 0 4mm; break-inside: avoid; }
  h1, h2, h3, summary, .slide > header { break-after: avoid; }
  p { orphans: 3; widows: 3; }
  img { max-height: 110mm; break-inside: avoid; }
  pre, .highlight pre { max-height: none; white-space: pre-wrap; font-size: .76em; }
  table { display: table; }
}
"""
KEYS = """
document.addEventListener("keydown", event => {  // the arrows left and right go from slide to slide
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest("pre")) return;
  const tops = [...document.querySelectorAll(".slide")].map(slide => slide.getBoundingClientRect().top - 16);
  const next = step > 0 ? tops.find(top => top > 8) : tops.findLast(top => top < -8);
  if (next !== undefined) { event.preventDefault(); scrollBy(0, next); }
});
"""


def page(title, body, css="", script=""):
    colours = HtmlFormatter().get_style_defs(".highlight")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{colours}{CSS.replace("LINES", str(CODE_LINES))}{css}</style>
</head>
<body>
{body}
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


def title_of(notebook):
    return html.escape(re.search(r"^# (.+)$", notebook["cells"][0]["source"], re.MULTILINE)[1])


def slide_body(slide, renderer):
    """A slide's cells as HTML. What a talk skips is marked, but for hints and solutions, which fold themselves."""
    parts = []
    for k, cell in slide.cells:
        made = renderer.render(k, cell)
        if slide_type(cell) == "skip" and slide.number and not cell["source"].startswith("<details"):
            made = f'<aside class="more" aria-label="not on the slide">\n{made}</aside>'
        parts.append(made)
    return "\n".join(parts)


def hand_out(notebook, path, hand_outs):
    """The hand-out of one lesson as HTML; hand_outs are the names of the notebooks that have one."""
    renderer = Renderer(path, hand_outs)
    address = f"{renderer.repository}/blob/main/notebooks/{path.name}"
    title, contents, cards = title_of(notebook), [], []
    slides = slides_of(notebook)
    for place, slide in enumerate(slides):
        name = f"slide-{slide.number}" if slide.number else f"after-{place}"
        before = len(renderer.sections)
        body = slide_body(slide, renderer)
        begun = renderer.sections[before:]
        contents += [f'<li><span>{slide.number or ""}</span><a href="#{name}">{section}</a></li>' for section in begun]
        section = renderer.sections[-1] if renderer.sections and not begun else ""
        label = f"slide {slide.number}" if slide.number else "for reading"
        cards.append(
            f'<section class="slide" id="{name}" aria-label="{label}">\n'
            f'<header><span>{section}</span><a href="#{name}">{label}</a></header>\n{body}\n</section>'
        )
    nav = (
        f'<nav aria-label="Contents"><strong>{title}</strong><ol>{"".join(contents)}</ol>'
        f'<p>Text beside a blue line is in <a href="{address}">the notebook</a> and not on the slides. '
        "There you can run all of this.</p></nav>"
    )
    return page(title, nav + "\n<main>\n" + "\n\n".join(cards) + "\n</main>", script=KEYS)


NOTES_CSS = """
body { display: block; }
main { margin: 0 auto; max-width: 64rem; }
h2 { display: flex; justify-content: space-between; margin: 1.4em 0 .4em; border-bottom: 2px solid var(--line); }
h2 small { font-weight: normal; font-size: 1rem; color: var(--soft); }
.row { display: grid; grid-template-columns: 3rem minmax(0, 1fr); margin: .5em 0; }
.row b { font-size: 1.2em; }
.row ul { margin: 0; padding: 0; list-style: none; color: var(--soft); }
.note { grid-column: 2; background: #fff; border-left: 4px solid #e69f00; padding: .1em 1em; font-size: 1.1em; }
.note > p > em:only-child { font-style: normal; }
@media print { .row { break-inside: avoid; } }
"""


def on_it(k, cell, renderer):
    """What a cell puts on a slide, in a few words."""
    pictures = sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    if cell["cell_type"] == "markdown":
        return html.escape(first_words(renderer.render(k, cell), 12))
    line = next((line for line in cell["source"].splitlines() if re.match(r"[^\s#@]", line)), "")
    return (
        f"code: <code>{html.escape(line)}</code>"
        + " and a picture" * (pictures == 1)
        + f" and {pictures} pictures" * (pictures > 1)
    )


def notes_page(notebook, path, hand_outs):
    """The presenter's page of one lesson: slides, what is on them, notes, and minutes per section and in all."""
    renderer = Renderer(path, hand_outs)
    parts = [{"title": "Opening", "minutes": 0, "rows": []}]
    for slide in slides_of(notebook):
        before = len(renderer.sections)
        lines = "".join(f"<li>{on_it(k, cell, renderer)}</li>" for k, cell in slide.cells if slide_type(cell) != "skip")
        parts += [{"title": title, "minutes": 0, "rows": []} for title in renderer.sections[before:]]
        notes = ""
        for k, cell in slide.notes:
            note = cell | {"source": cell["source"].removeprefix(NOTE)}
            parts[-1]["minutes"] += minutes_of(cell["source"]) or 0
            notes += f'<div class="note">{renderer.render(k, note)}</div>'
        if slide.number:
            row = f'<div class="row" id="slide-{slide.number}"><b>{slide.number}</b><ul>{lines}</ul>{notes}</div>'
            parts[-1]["rows"].append(row)
    total = sum(part["minutes"] for part in parts)
    title, body, passed = title_of(notebook), [], 0
    for part in filter(lambda part: part["rows"], parts):
        passed += part["minutes"]
        clock = (
            f"{part['minutes']} minutes, {passed} of {total} at its end" if part["minutes"] else f"{passed} of {total}"
        )
        body.append(f"<h2><span>{part['title']}</span> <small>{clock}</small></h2>\n" + "\n".join(part["rows"]))
    heading = f"<h1>{title}: speaker notes</h1>\n<p>The notes name {total} minutes in all.</p>"
    return page(f"{title}: speaker notes", f"<main>\n{heading}\n" + "\n".join(body) + "\n</main>", css=NOTES_CSS)


def main(arguments=None, root=ROOT):
    parser = options.slides()
    given = parser.parse_args(arguments)
    paths, chosen = options.lessons(parser, given.lessons, root)
    folder = root / given.folder
    folder.mkdir(parents=True, exist_ok=True)
    built = {path.name for number, path in paths.items() if number in chosen or (folder / f"{path.stem}.html").exists()}
    try:
        for number in (bar := tqdm(chosen, unit="lesson", disable=None)):
            path = paths[number]
            bar.set_description(path.stem)
            notebook = read(path)
            write_atomically(folder / f"{path.stem}.html", hand_out(notebook, path, built))
            if given.notes:
                write_atomically(folder / f"{number}_notes.html", notes_page(notebook, path, built))
    except SlidesFailed as failure:
        print(failure)
        return 1
    print(f"hand-outs written to {given.folder}: {len(chosen)}; open one in a browser, and print it there for a PDF")
    return 0


if __name__ == "__main__":
    sys.exit(main())
