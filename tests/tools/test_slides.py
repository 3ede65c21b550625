"""A hand-out holds what the slides show and needs nothing from outside; speaker notes have a page of their own."""

import re
import shutil
import subprocess
from base64 import b64encode

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools import LESSONS, slides
from tools.outputs import WIDGET_NOTE
from tools.rules import numbered, prose, read

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None)
PNG = b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()

# What a page can hold that makes a browser fetch something
LOADS = {"src", "srcset", "data", "poster", "background"}
LOADING_TAGS = ["link", "use", "image", "base"]


def tree(page):
    """The page without what is inside its pictures, which would take long to read."""
    return BeautifulSoup(re.sub(r"(?<=;base64,)[A-Za-z0-9+/=]+", "", page), "html.parser")


def fetched(soup):
    """Everything in a page that a browser would get from elsewhere."""
    found = [tag[name] for tag in soup.find_all(True) for name in LOADS & set(tag.attrs)]
    found += [tag.get("href") or tag.get("xlink:href") or "" for tag in soup.find_all(LOADING_TAGS)]
    styles = [tag.get_text() for tag in soup.find_all("style")] + [tag["style"] for tag in soup.find_all(style=True)]
    found += re.findall(r"url\([^)]*\)|@import[^;]*", "\n".join(styles))
    found += re.findall(r"\bfetch\(|XMLHttpRequest|import\(|\.src\b", "\n".join(t.get_text() for t in soup("script")))
    return [what for what in found if not what.startswith(("data:", "url(data:"))]


def formulas(cell):
    """How many formulas a markdown cell has, counted without its renderer."""
    text = prose(cell)
    blocks = re.findall(r"\$\$.+?\$\$", text, flags=re.DOTALL)
    return len(blocks) + len(re.findall(r"(?<![\\$])\$[^$]+\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL)))


def letters(text):
    """A text without spaces and marks, since HTML may change both."""
    return "".join(re.findall(r"\w", text))


def shown(path):
    """(cell number, cell) of all that the hand-out must hold: all but notes, set-up and imports."""
    notebook = read(path)
    hidden = [k for k, cell in numbered(notebook, "code") if slides.slide_type(cell) == "skip"][:2]
    return [(k, c) for k, c in numbered(notebook) if slides.slide_type(c) != "notes" and k not in hidden]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All hand-outs and all notes, made from a copy."""
    root = tmp_path_factory.mktemp("course")
    shutil.copy(slides.ROOT / "pyproject.toml", root)
    for part in ("notebooks", "figures"):
        shutil.copytree(slides.ROOT / part, root / part)
    assert slides.main(["--notes"], root=root) == 0
    assert not list(root.rglob("*.part"))
    return root / "slides"


@pytest.fixture(scope="module", params=LESSONS, ids=lambda path: path.stem)
def lesson(request, folder):
    """(the notebook's path, its hand-out as text, the same as a tree)."""
    page = (folder / f"{request.param.stem}.html").read_text(encoding="utf-8")
    return folder.parent / "notebooks" / request.param.name, page, tree(page)


def test_a_hand_out_needs_nothing_from_outside_and_no_javascript(lesson):
    _, page, soup = lesson
    assert fetched(soup) == []
    assert [script.get_text() for script in soup("script")] == [slides.KEYS]
    assert not re.search(r"<[^>]+ on\w+=", page)


def test_every_formula_became_mathml(lesson):
    path, page, soup = lesson
    expected = sum(formulas(cell) for _, cell in shown(path) if cell["cell_type"] == "markdown")
    assert len(soup.main.find_all("math")) == expected > 0
    code = r"<(code|pre|script|style|math)\b.*?</\1>|<img [^>]*>"
    assert "$" not in re.sub(code, "", page, flags=re.DOTALL)


def test_every_figure_is_there_with_a_text(lesson):
    path, page, _ = lesson
    stored = [
        o["data"]["image/png"] for _, c in shown(path) for o in c.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    found = re.findall(r'<img src="data:image/png;base64,([^"]*)" alt="([^"]+)">', page)
    assert [picture for picture, _ in found] == ["".join(png.split()) for png in stored]
    assert page.count("<img") == len(found) and all(len(alt) > 10 for _, alt in found)


def test_slides_are_numbered_as_in_the_notebook(lesson):
    path, _, soup = lesson
    beginnings = sum(slides.slide_type(cell) in ("slide", "subslide") for cell in read(path)["cells"])
    numbers = [card["id"] for card in soup.find_all("section") if card["id"].startswith("slide-")]
    assert numbers == [f"slide-{k}" for k in range(1, beginnings + 1)]


def test_a_hand_out_holds_all_that_the_lesson_says(lesson):
    path, _, soup = lesson
    said = letters(soup.main.get_text())
    for k, cell in shown(path):
        if cell["cell_type"] == "code":
            pieces = [cell["source"]] + [output["text"] for output in cell["outputs"] if "text" in output]
        else:
            markup = r"(?m)^ *\d+\. |```.*?```|`[^`]*`|\$\$[^$]*\$\$|\$[^$]*\$|\]\([^)]*\)|<[^>]*>"
            pieces = re.split(r"[*_\[\]|\n]", re.sub(markup, "|", cell["source"], flags=re.DOTALL))
        assert all(letters(piece) in said for piece in pieces), (k, [p for p in pieces if letters(p) not in said])


def test_no_speaker_note_leaks(lesson):
    path, _, soup = lesson
    said = letters(soup.get_text(" "))
    notes = [cell["source"] for cell in read(path)["cells"] if slides.slide_type(cell) == "notes"]
    assert notes and "Presenting: " not in soup.get_text()
    for note in notes:
        sentences = [letters(s) for s in re.split(r"[.?!:]", prose({"source": note})) if len(s.split()) > 7]
        assert sentences and not all(sentence in said for sentence in sentences), note


def test_anchors_lead_somewhere_and_ids_are_unique(lesson, folder):
    _, _, soup = lesson
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(set(ids)) == len(ids)
    for link in soup.find_all("a", href=True):
        assert link.get_text().strip() or link.find("math"), link
        if link["href"].startswith("#"):
            assert link["href"][1:] in ids, link
        elif not link["href"].startswith("https://"):
            assert (folder / link["href"].partition("#")[0]).exists(), link


def test_notes_name_every_slide_and_add_up_the_minutes(lesson, folder):
    path, _, soup = lesson
    page = (folder / f"{path.name[:2]}_notes.html").read_text(encoding="utf-8")
    notes = BeautifulSoup(page, "html.parser")
    said = [cell["source"] for cell in read(path)["cells"] if slides.slide_type(cell) == "notes"]
    minutes = [int(re.findall(r"(\d+) minute", note)[-1]) for note in said if re.search(r"\d+ minute", note)]
    assert f"The notes name {sum(minutes)} minutes in all." in notes.get_text()
    passed = [int(n) for n in re.findall(r"(\d+) of \d+", " ".join(tag.get_text() for tag in notes.find_all("small")))]
    assert passed == sorted(passed) and passed[-1] == sum(minutes)
    numbers = [row["id"] for row in notes.find_all(class_="row")]
    assert numbers == [card["id"] for card in soup.find_all("section") if card["id"].startswith("slide-")]
    assert all(row.find("li") for row in notes.find_all(class_="row"))
    assert len(notes.find_all(class_="note")) == len(said) and fetched(notes) == []


@pytest.mark.parametrize(
    "harm",
    [
        '<script src="https://example.org/a.js"></script>',
        '<link rel="stylesheet" href="a.css">',
        "<style>@font-face { src: url(a.woff) }</style>",
        '<style>@import "a.css";</style>',
        '<p style="background: url(https://example.org/a.png)">',
        '<img src="figures/a.png">',
        '<img srcset="a.png 2x">',
        "<script>fetch('x')</script>",
    ],
)
def test_what_would_be_fetched_is_seen(harm):
    assert fetched(tree(f"<html><head></head><body>{harm}</body></html>"))
    assert not fetched(tree('<img src="data:image/png;base64,aa"><a href="https://example.org">link</a>'))


# A tiny course

OPENING = """# 01 · First

You will see it.

[![Open in Colab](https://example.org/badge.svg)](https://example.org/open)"""
MATH = r"""## A section of *maths*

Inline $a_{i} * b_{i} * c_{i}$, norms $\lVert x \rVert$ and $\|y\|$, order $s < t$ and `cost = "$5"`, then

$$q(x_s\,|\,x_t) = \mathcal{N}\Big(\alpha_s x_0,\ \mathrm{std}^2\Big) \\ z_{1} * z_{2}$$

| symbol | meaning |
|---|---|
| $\sigma_t$ | noise |

See [the next](02_second.ipynb#More), [the third](03_third.ipynb) and [the library](../diffusion_lib/samplers.py).

![a small map](../figures/map.png)"""
ANSWER = """<details><summary>Hint</summary>

Think of $x$.
</details>"""


def cell(kind, text, **options):
    make = new_code_cell if "outputs" in options else new_markdown_cell
    return make(text, metadata={"slideshow": {"slide_type": kind}} | options.pop("metadata", {}), **options)


def a_picture():
    return new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"})


def tiny_cells():
    long_code = "\n".join(f"x_{k} = {k}" for k in range(20))
    printed = [new_output("stream", name="stdout", text="it <b> is 5\n"), a_picture(), a_picture()]
    note = new_output("display_data", data={"text/html": WIDGET_NOTE})
    raised = new_output("error", ename="ValueError", evalue="\x1b[31mno\x1b[0m", traceback=[])
    return [
        cell("slide", OPENING),
        cell("skip", "**You will be able to**\n\nsee."),
        cell("skip", "#@title Set-up\nsecret_set_up", outputs=[]),
        cell("skip", "import secret_module", outputs=[]),
        cell("slide", MATH),
        cell("-", long_code, outputs=printed, metadata={"alt": ["the first <picture>", "the second picture"]}),
        cell("notes", "**Presenting:** *Give them 2 minutes. Whisper. 7 minutes.*"),
        cell("subslide", "More of it: $y$"),
        cell("fragment", "@torch.no_grad()\ndef show():\n    pass", outputs=[note, raised]),
        cell("skip", ANSWER),
        cell("notes", "**Presenting:** *Nothing said of time.*"),
        cell("slide", "## Another\n\nWords."),
        cell("notes", "**Presenting:** *12 minutes with the exercise.*"),
        cell("skip", "## Further reading\n\n- Nothing."),
    ]


@pytest.fixture
def course(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "map.png").write_bytes(b"map")
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/owner/repo"\n')
    save(tmp_path, "01_first", tiny_cells())
    save(tmp_path, "02_second", [cell("slide", "# 02 · Second\n\nIt goes on.\n\n### More")])
    save(tmp_path, "03_third", [cell("slide", "# 03 · Third\n\nThe end.")])
    return tmp_path


def save(root, name, cells):
    nbformat.write(new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")


def built(course, *arguments):
    assert slides.main(list(arguments), root=course) == 0
    return (course / "slides" / "01_first.html").read_text(encoding="utf-8")


def test_formulas_survive_markdown_and_dollars_in_code_are_none(course):
    page = built(course)
    made = re.findall(r"<math.*?</math>", page, flags=re.DOTALL)
    assert len(made) == 8 and sum('display="block"' in one for one in made) == 1
    assert [made[0].count(f"<msub><mi>{letter}</mi>") for letter in "abc"] == [1, 1, 1]
    assert made[0].count("<mo>&#x0002A;</mo>") == 2 and "<em>" not in "".join(made)
    assert all("&#x02016;" in one for one in made[1:3]) and "&#x0003C;" in made[3]
    assert "cost = &quot;$5&quot;" in page or 'cost = "$5"' in page
    assert page.count("<td>") == 2 and "<td><math" in page


def test_what_is_a_slide_and_what_is_left_out(course):
    soup = BeautifulSoup(built(course, "1"), "html.parser")
    assert [card["id"] for card in soup.find_all("section")] == ["slide-1", "slide-2", "slide-3", "slide-4", "after-4"]
    assert "secret" not in soup.get_text() and "Whisper" not in soup.get_text()
    assert [(fold.summary.get_text(), fold.find_parent("section")["id"]) for fold in soup("details")] == [
        ("Hint", "slide-3")
    ]
    beside = [(" ".join(part.get_text().split()), part.find_parent("section")["id"]) for part in soup("aside")]
    assert beside == [("You will be able to see.", "slide-1")]
    assert [item.get_text() for item in soup.nav("li")] == ["2A section of maths", "4Another", "Further reading"]
    assert soup.find(id="slide-3").header.get_text() == "A section of mathsslide 3"
    assert soup.find(id="slide-1").find("a", href="https://example.org/open").get_text() == "Open in Colab"


def test_outputs_and_figures_are_shown_as_they_were_stored(course):
    soup = BeautifulSoup(built(course), "html.parser")
    pictures = [(tag["src"], tag["alt"]) for tag in soup("img")]
    drawn = f"data:image/png;base64,{PNG}"
    map_png = f"data:image/png;base64,{b64encode(b'map').decode()}"
    assert pictures == [(map_png, "a small map"), (drawn, "the first <picture>"), (drawn, "the second picture")]
    texts = [tag.get_text() for tag in soup.find_all(class_="output")]
    assert texts == ["it <b> is 5", "Interactive: run the notebook to use it.", "ValueError: no"]


def test_a_figure_without_a_text_gets_what_its_cell_prints():
    one = cell("-", "draw()", outputs=[new_output("stream", name="stdout", text="mean 0.5\nstd 1"), a_picture()])
    assert slides.alternatives(one, 1) == ["Figure; its cell prints: mean 0.5 std 1"]
    one["metadata"]["alt"] = "a curve that falls"
    assert slides.alternatives(one, 2) == ["a curve that falls"] * 2
    silent = cell("-", "draw()", outputs=[a_picture()])
    assert len(slides.alternatives(silent, 1)[0]) > 10


def test_links_lead_to_the_hand_outs_that_there_are(course):
    links = [tag["href"] for tag in BeautifulSoup(built(course, "01"), "html.parser").main("a")]
    code = "https://github.com/owner/repo/blob/main/"
    assert f"{code}notebooks/02_second.ipynb#More" in links and f"{code}diffusion_lib/samplers.py" in links
    slides.main(["02"], root=course)
    links = [tag["href"] for tag in BeautifulSoup(built(course, "01"), "html.parser").main("a")]
    assert "02_second.html#More" in links and f"{code}notebooks/03_third.ipynb" in links
    assert 'id="More"' in (course / "slides" / "02_second.html").read_text(encoding="utf-8")


def test_equal_headings_have_anchors_of_their_own(course):
    save(course, "01_first", [cell("slide", "# 01 · First"), *[cell("slide", "### The same $x$") for _ in range(3)]])
    ids = [tag["id"] for tag in BeautifulSoup(built(course, "01"), "html.parser").find_all("h3")]
    assert ids[0] == "The-same-x" and len(set(ids)) == 3


def test_notes_of_a_tiny_lesson(course):
    assert not list(course.glob("slides/*_notes.html"))
    assert "Whisper" not in built(course, "01", "--notes")
    notes = BeautifulSoup((course / "slides" / "01_notes.html").read_text(encoding="utf-8"), "html.parser")
    assert [" ".join(tag.get_text(" ").split()) for tag in notes("h2")] == [
        "Opening 0 of 19",
        "A section of maths 7 minutes, 7 of 19 at its end",
        "Another 12 minutes, 19 of 19 at its end",
    ]
    rows = [" ".join(row.get_text(" ").split()) for row in notes.find_all(class_="row")]
    assert rows[0] == "1 01 · First"
    assert rows[1] == ("2 A section of maths code: x_0 = 0 and 2 pictures Give them 2 minutes. Whisper. 7 minutes.")
    assert rows[2].startswith("3 More of it: y code: def show(): Nothing said")


@pytest.mark.parametrize("formula", [r"\wrongcommand{x}", r"\sqrt{a}{", r"\frac{a", r"x^"])
def test_a_formula_that_cannot_be_converted_is_named_and_the_old_file_stays(course, formula, capsys):
    before = built(course, "01")
    save(course, "01_first", [cell("slide", "# 01 · First"), cell("slide", f"Look: ${formula}$.")])
    assert slides.main(["01"], root=course) == 1
    said = capsys.readouterr().out
    assert "lesson 01, cell 2" in said and formula in said
    assert (course / "slides" / "01_first.html").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    "harm, complaint",
    [
        ("![map](../figures/mop.png)", "no picture ../figures/mop.png"),
        ('<img src="../figures/map.png">', "write ![what it shows]"),
        ("<script>alert(1)</script>", "may need a network"),
        ("[up](../../secret.txt)", "out of the repository"),
    ],
)
def test_what_would_need_the_network_is_refused(course, harm, complaint, capsys):
    save(course, "01_first", [cell("slide", f"# 01 · First\n\n{harm}")])
    assert slides.main(["01"], root=course) == 1
    assert complaint in capsys.readouterr().out


def test_a_lesson_that_there_is_not(course, capsys):
    with pytest.raises(SystemExit):
        slides.main(["7"], root=course)
    assert "no lesson 07; there are 01, 02, 03" in capsys.readouterr().err


# In a browser


def screenshot(page, target, *options):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    command += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1280,720"]
    profile = f"--user-data-dir={target.with_suffix('.profile')}"
    subprocess.run(
        [*command, profile, *options, f"--screenshot={target}", page.as_uri()],
        check=True,
        timeout=900,
        capture_output=True,
    )
    return np.asarray(Image.open(target).convert("L"), dtype=float)


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium or Chrome on the PATH")
def test_a_browser_without_network_shows_it(folder, tmp_path):
    page = folder / f"{LESSONS[0].stem}.html"
    seen = screenshot(page, tmp_path / "with.png")
    assert seen.shape == (720, 1280)
    dark = (seen < 100).mean()
    assert 0.005 < dark < 0.5, f"{dark:.1%} of the window is dark; text covers some per cent"
    assert (seen[:, 320:] < 100).any(1).mean() > 0.2, "the slides' part of the window is nearly empty"
    (tmp_path / "empty.html").write_text(slides.page("empty", "<main></main>"), encoding="utf-8")
    assert (screenshot(tmp_path / "empty.html", tmp_path / "empty.png") < 100).mean() < 0.005


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium or Chrome on the PATH")
def test_a_browser_draws_the_formulas(tmp_path):
    """A fraction is taller than a line: MathML is drawn, not shown as a row of letters."""
    heights = []
    for formula in (r"a + b", r"\frac{a}{b}"):
        page, target = tmp_path / "page.html", tmp_path / "page.png"
        page.write_text(slides.page("one", f"<main>{slides.mathml(formula, 'block')}</main>"), encoding="utf-8")
        rows = np.flatnonzero((screenshot(page, target) < 128).any(1))
        heights.append(rows.max() - rows.min())
    assert heights[1] > 1.5 * heights[0]
