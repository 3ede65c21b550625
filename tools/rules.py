"""The rules that every lesson keeps, each a function `rule(notebook, path) -> list of complaints`.

`RULES` holds them all; test_rules.py applies them to notebooks/ and tests each rule on a broken notebook.
A rule is written as a generator of (cell number or None, "what is wrong; what to do"). Cells are counted from 1, text
included, as in nbval_strict.py. Everything is read, nothing is imported or run; the repository is path.parents[1].
"""

import ast
import difflib
import functools
import json
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import nbformat

from . import solutions

CODE_LINES, LONG_CODE_LINES, LINE_LENGTH = 25, 45, 120
SLIDE_WORDS = 90
MEGABYTES = 1.5
GPU_LESSONS = {"04"}
SLIDE_TYPES = {"slide", "subslide", "fragment", "skip", "notes", "-"}
HIDDEN = {"skip", "notes"}
NOTE_ENDS = re.compile(r"\d+ minutes?\b[^.\d]*\.\*?\s*$")
PLAIN_TAGS = {"nbval-ignore-output", "nbval-check-output", "raises-exception", "setup", "check", "widget"}
NAMED_TAGS = {
    "build:": r"[a-z_]\w*(\.\w+)+",
    "figure:": r"[\w-]+",
    "exercise:": r"\d\d\.\d+",
}
BANNED_WORDS = ["simply", "obviously", "trivially", "it is easy to see", "of course"]
ABSOLUTE_PATH = re.compile(
    r"(?<![\w+.~])/(?:home|root|tmp|mnt|opt|srv|var|Users)\b[^\s'\"<>)]*|\b[A-Za-z]:\\(?=\w)[^\s'\"<>)]*"
)
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+|0x7f[0-9a-fA-F]{6,}")

RULES = []


def rule(check):
    @functools.wraps(check)
    def complaints(notebook, path):
        return [complaint(notebook, Path(path), k, text) for k, text in check(notebook, Path(path))]

    RULES.append(complaints)
    return complaints


def complaint(notebook, path, k, text):
    if k is None:
        return f"lesson {path.name[:2]}: {text}"
    words = " ".join(notebook["cells"][k - 1]["source"].split()[:6])
    return f"lesson {path.name[:2]}, cell {k} ({words[:50]}): {text}"


# Reading a notebook


def read(path):
    return nbformat.read(path, as_version=4)


def numbered(notebook, kind=None):
    """(cell number, cell) of all cells, or of those of one kind."""
    return [(k, c) for k, c in enumerate(notebook["cells"], 1) if kind is None or c["cell_type"] == kind]


def tags(cell):
    return cell["metadata"].get("tags", [])


def tagged(cell, *beginnings):
    return any(tag.startswith(beginnings) for tag in tags(cell))


def prose(cell):
    """A markdown cell's text without code."""
    text = re.sub(r"^(```|~~~).*?^\1", "", cell["source"], flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def headings(notebook):
    """(cell number, level, title) of all markdown headings."""
    for k, cell in numbered(notebook, "markdown"):
        for marks, title in re.findall(r"^(#{1,6})\s+(.*?)\s*$", prose(cell), flags=re.MULTILINE):
            yield k, len(marks), title


def sections(notebook):
    """(title, numbers of its cells) of all `## ` sections."""
    starts = [(k, title) for k, level, title in headings(notebook) if level == 2]
    ends = [k for k, _ in starts[1:]] + [len(notebook["cells"]) + 1]
    return [(title, range(k, max(end, k + 1))) for (k, title), end in zip(starts, ends)]


def parse(cell):
    """The syntax tree of a code cell, without IPython's magic lines if it has any; None if it does not parse."""
    for source in (cell["source"], re.sub(r"^([ \t]*)[%!].*$", r"\1pass", cell["source"], flags=re.MULTILINE)):
        try:
            return ast.parse(source)
        except SyntaxError:
            pass
    return None


def statements(cell):
    tree = parse(cell)
    return tree.body if tree else []


def output_texts(cell):
    """All text that a cell's outputs hold."""
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        yield output.get("evalue", "")
        yield "\n".join(output.get("traceback", []))
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/") or kind == "image/svg+xml":
                yield data if isinstance(data, str) else json.dumps(data)


def repository(path):
    """https://github.com/OWNER/REPO, as pyproject.toml has it."""
    project = tomllib.loads((path.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["urls"]["Repository"].removesuffix("/")


def definition(body, name):
    """What a list of statements last binds to `name` (`Class.method` looks inside): a def, a class or a value."""
    first, _, rest = name.partition(".")
    found = None
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == first:
            found = node
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == first for t in node.targets):
            found = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == first:
            found = node.value
    if rest:
        return definition(found.body, rest) if isinstance(found, ast.ClassDef) else None
    return found


def bare(node):
    """A definition without docstrings, type annotations, and calls of require_... at the beginning of a function."""
    return ast.fix_missing_locations(Bare().visit(ast.parse(ast.unparse(node))))


class Bare(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        drop_docstring(node)
        while node.body and is_refusal(node.body[0]):
            del node.body[0]
        node.body = node.body or [ast.Pass()]
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node):
        self.generic_visit(node)
        drop_docstring(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        if node.value is not None:
            return ast.Assign(targets=[node.target], value=node.value)
        node.annotation = ast.Constant(...)  # a dataclass field: that it exists matters, its type does not
        return node


def drop_docstring(node):
    if ast.get_docstring(node) is not None:
        del node.body[0]


def is_refusal(node):
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    function = node.value.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name.startswith(("require_", "_require"))


# How a lesson begins and ends


@rule
def opening(notebook, path):
    """Title, promise and badges, then objectives, prerequisites and minutes."""
    first = notebook["cells"][0] if notebook["cells"] else None
    if not first or first["cell_type"] != "markdown":
        yield None, "the first cell is not markdown; begin with `# NN · Title`, the promise and the badges"
        return
    text = first["source"]
    titles = re.findall(r"^# (.*)$", text, flags=re.MULTILINE)
    if len(titles) != 1 or not re.fullmatch(rf"{path.name[:2]} · \S.*", titles[0]):
        yield 1, f"the title is {titles}; write exactly one, `# {path.name[:2]} · Title`"
    without_title_and_badges = re.sub(r"^(#|\[!|<).*$", "", text, flags=re.MULTILINE)
    promises = re.findall(r"^[\w*_\"“].*(?:\n.+)*", without_title_and_badges, flags=re.MULTILINE)
    if not promises or not promises[0].rstrip("*_ \n").endswith((".", "!", "?")):
        yield 1, "no promise of one sentence after the title; say what the student will be able to do or see"
    elif re.search(r"[.!?]\s+[A-Z]", promises[0]):
        yield 1, "the promise under the title has more than one sentence; leave the best"
    slug = repository(path).removeprefix("https://github.com/")
    file = f"{slug}/blob/main/notebooks/{path.name}"
    for place, link in {
        "Colab": f"https://colab.research.google.com/github/{file}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src=https://github.com/{file}",
    }.items():
        if not re.search(rf"\[!\[Open in {place}\]\([^()\s]+\)\]\({re.escape(link)}\)", text):
            yield 1, f"no badge 'Open in {place}' that links to {link}; `python course.py set-repo` rewrites links"
    intro = text
    if len(notebook["cells"]) > 1 and notebook["cells"][1]["cell_type"] == "markdown":
        intro += "\n\n" + notebook["cells"][1]["source"]
    for words in ["You will be able to", "Before this lesson"]:
        if words not in intro:
            yield 1, f"{words!r} is missing in the first two cells; add that part"
    blocks = re.split(r"\n\s*\n", intro)
    minutes = next(("\n".join(blocks[k : k + 2]) for k, block in enumerate(blocks) if "Minutes" in block), "")
    if not all(word in minutes.lower() for word in ["read", "cpu", "gpu"]) or len(re.findall(r"\d+|–", minutes)) < 3:
        yield 1, "no Minutes for reading, running on CPU and on GPU; give all three as numbers, – where unmeasured"


@rule
def set_up(notebook, path):
    """The first code cell is the set-up cell, the same in all lessons."""
    code = numbered(notebook, "code")
    if not code:
        yield None, "there is no code cell; begin with the set-up cell of tools/setup_cell.py"
        return
    k, cell = code[0]
    expected = (path.parents[1] / "tools" / "setup_cell.py").read_text(encoding="utf-8").removesuffix("\n")
    if cell["source"] != expected:
        changes = difflib.unified_diff(expected.split("\n"), cell["source"].split("\n"), lineterm="")
        yield k, "differs from the set-up cell of all lessons; copy tools/setup_cell.py:\n" + "\n".join(changes)
    if repository(path) not in cell["source"]:
        yield k, f"the set-up cell does not name {repository(path)}; run `python course.py set-repo`"
    if cell["metadata"].get("cellView") != "form" or not cell["metadata"].get("jupyter", {}).get("source_hidden"):
        yield k, 'not folded; set "cellView": "form" and "jupyter": {"source_hidden": true} in its metadata'


@rule
def ending(notebook, path):
    """Recap, the way to the next lesson, further reading."""
    parts = sections(notebook)
    titles = [title for title, _ in parts]
    recaps = [k for k, title in enumerate(titles) if title.startswith("Recap")]
    if not recaps or recaps[-1] < len(titles) - 3:
        yield None, "no `## Recap` near the end; close with Recap, what comes next, Further reading"
    else:
        text = "\n".join(notebook["cells"][k - 1]["source"] for k in parts[recaps[-1]][1])
        if "You should now be able to answer" not in text:
            yield parts[recaps[-1]][1][0], "'You should now be able to answer' is missing; add it with the questions"
    if not titles or not titles[-1].startswith("Further reading"):
        yield None, "the last section is not `## Further reading`; end with it"
    for following in sorted(path.parent.glob(f"{int(path.name[:2]) + 1:02d}_*.ipynb")):
        end = "\n".join(notebook["cells"][k - 1]["source"] for _, cells in parts[-3:] for k in cells)
        if following.name not in end:
            yield None, f"no link to the next lesson near the end; add ({following.name})"


# Text


@rule
def headings_in_order(notebook, path):
    level_before = 0
    for k, level, title in headings(notebook):
        if level > level_before + 1:
            yield k, f"heading {title!r} jumps from level {level_before} to {level}; do not skip a level"
        if level == 1 and level_before:
            yield k, f"a second `# ` heading {title!r}; use `## `"
        level_before = level


@rule
def words(notebook, path):
    """Words that belittle the reader's effort."""
    for k, cell in numbered(notebook, "markdown"):
        text = " ".join(prose(cell).split())
        for word in BANNED_WORDS:
            if re.search(rf"\b{word}\b", text, flags=re.IGNORECASE):
                yield k, f"says {word!r}; what is easy for you may not be for the reader, leave it out"


@rule
def links(notebook, path):
    """Links and pictures lead somewhere, and safely."""
    for k, cell in numbered(notebook, "markdown"):
        text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "", prose(cell), flags=re.DOTALL)  # no formulas
        targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r"\b(?:src|href)\s*=\s*[\"']([^\"']+)", text)
        targets += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE) + re.findall(r"\bhttp:[^\s)>\"']+", text)
        for target in dict.fromkeys(targets):
            if target.startswith("attachment:"):
                if target.removeprefix("attachment:") not in cell.get("attachments", {}):
                    yield k, f"{target} is not attached to this cell; put the picture into figures/"
            elif target.startswith("http:"):
                yield k, f"{target} is not https; use https"
            elif not re.match(r"https://|mailto:|#|data:image/", target):
                if not (path.parent / unquote(target.partition("#")[0])).exists():
                    yield k, f"link to {target}, which does not exist; correct the path (it starts from notebooks/)"


# Cells


@rule
def rhythm(notebook, path):
    """Text between code cells; only the imports may follow the set-up cell directly."""
    count, kind_before = 0, None
    for k, cell in numbered(notebook):
        if not cell["source"].strip():
            yield k, "the cell is empty; delete it"
        count += cell["cell_type"] == "code"
        if cell["cell_type"] == kind_before == "code" and count != 2:
            yield k, "a code cell follows a code cell; say in between what was seen and what comes"
        kind_before = cell["cell_type"]


@rule
def code_size(notebook, path):
    for count, (k, cell) in enumerate(numbered(notebook, "code")):
        lines = cell["source"].splitlines()
        # A class that the library holds is built in one cell, and a stub stays with its check.
        limit = LONG_CODE_LINES if count == 0 or tagged(cell, "exercise:", "build:") else CODE_LINES
        if len(lines) > limit:
            yield k, f"{len(lines)} lines of code, at most {limit} fit here; split the cell or move code to the library"
        for line in lines:
            if len(line) > LINE_LENGTH:
                yield k, f"a line has {len(line)} characters, at most {LINE_LENGTH}: {line[:40]!r} ...; break it"
        if parse(cell) is None:
            yield k, "the code does not parse; correct it"


@rule
def slides(notebook, path):
    """Every cell says what it is in a slide show, and every section has a note for the instructor."""
    for k, cell in numbered(notebook):
        kind = cell["metadata"].get("slideshow", {}).get("slide_type")
        if kind not in SLIDE_TYPES:
            yield k, f"slide_type is {kind!r}; set metadata.slideshow.slide_type to one of {sorted(SLIDE_TYPES)}"
        if kind == "notes" and not cell["source"].startswith("**Presenting:** "):
            yield k, "a note does not begin with '**Presenting:** ', so a student cannot tell that it is for presenters"
        if kind == "notes" and not NOTE_ENDS.search(cell["source"]):
            yield k, "a note does not end with its minutes; write '10 minutes.' or '10 minutes with the exercise.'"
    for title, cells in sections(notebook):
        if title.startswith(("Recap", "Further reading")):
            continue
        kinds = [notebook["cells"][k - 1]["metadata"].get("slideshow", {}).get("slide_type") for k in cells]
        if "notes" not in kinds:
            yield cells[0], f"section {title!r} has no notes cell; add questions, wrong answers to expect, minutes"


@rule
def slide_size(notebook, path):
    """One idea a slide: at most one code cell and so many words. What only a reader needs is skipped, code is not."""
    cells = notebook["cells"]
    if cells and slide_type(cells[0]) != "slide":
        yield 1, "the first cell is not a slide; a show can only start on one"
    for count, (k, cell) in enumerate(numbered(notebook, "code"), 1):
        if slide_type(cell) in HIDDEN and count > 2:
            yield k, "code that is not shown does not run in a show; only set-up and imports may be skipped"
    for k, cell in numbered(notebook, "markdown"):
        first = re.match(r"#+ ", cell["source"])
        allowed = {"## ": {"slide"}, "### ": {"slide", "subslide"}}.get(first and first[0], SLIDE_TYPES)
        if slide_type(cell) not in allowed | {"skip"}:
            yield k, f"slide_type is {slide_type(cell)!r}; a heading begins a {' or '.join(sorted(allowed))}"
        if "<details" in cell["source"] and slide_type(cell) not in HIDDEN:
            yield k, "an answer that folds open is shown in the show; skip it"
    for shown in shown_slides(notebook):
        code = [k for k in shown if cells[k - 1]["cell_type"] == "code"]
        if len(code) > 1:
            yield code[1], "a second code cell on one slide; begin a subslide before it or before its text"
        count = sum(slide_words(cells[k - 1]) for k in shown)
        if count > SLIDE_WORDS:
            yield (
                shown[0],
                f"{count} words on the slide that begins here, at most {SLIDE_WORDS}; split it, or skip text",
            )


def slide_type(cell):
    return cell["metadata"].get("slideshow", {}).get("slide_type")


def live_minutes(notebook):
    """{section: minutes} by the speaker notes of each `## ` section: the first number in a note's last sentence."""
    found = {}
    for title, cells in sections(notebook):
        notes = [notebook["cells"][k - 1] for k in cells if slide_type(notebook["cells"][k - 1]) == "notes"]
        ends = [NOTE_ENDS.search(note["source"]) for note in notes]
        found[title] = sum(int(re.match(r"\d+", end[0])[0]) for end in ends if end)
    return found


def shown_slides(notebook):
    """The cell numbers of each slide: what is stacked from a slide or subslide to the next, without what is hidden."""
    found = [[]]
    for k, cell in numbered(notebook):
        if slide_type(cell) in ("slide", "subslide"):
            found.append([])
        if slide_type(cell) not in HIDDEN:
            found[-1].append(k)
    return [shown for shown in found if shown]


def slide_words(cell):
    """How many words a markdown cell puts on a slide; a formula, a piece of code and a link's text count as theirs."""
    if cell["cell_type"] != "markdown":
        return 0
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", " formula ", prose(cell), flags=re.DOTALL)
    text = re.sub(r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)|!\[[^\]]*\]\([^)]*\)|<[^>]+>", " ", text)  # badges, pictures
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return len(re.findall(r"[^\W_]+(?:['.,’-][^\W_]+)*", text))


@rule
def known_tags(notebook, path):
    for k, cell in numbered(notebook):
        for tag in tags(cell):
            beginning, colon, name = tag.partition(":")
            pattern = NAMED_TAGS.get(beginning + colon)
            if tag not in PLAIN_TAGS and not (pattern and re.fullmatch(pattern, name)):
                known = sorted(PLAIN_TAGS) + ["build:MODULE.NAME", "figure:NAME", "exercise:NN.k"]
                yield k, f"unknown tag {tag!r}; known are {', '.join(known)}"
        if len(set(tags(cell))) < len(tags(cell)):
            yield k, f"a tag occurs twice in {tags(cell)}; leave one"


# What was stored


@rule
def run_in_order(notebook, path):
    for count, (k, cell) in enumerate(numbered(notebook, "code"), 1):
        if cell.get("execution_count") != count:
            yield k, f"run as [{cell.get('execution_count')}], expected [{count}]; run `python course.py outputs`"
        for output in cell["outputs"]:
            if output["output_type"] == "error" and not tagged(cell, "raises-exception"):
                yield k, f"stores a {output['ename']}; correct the cell, or tag it raises-exception if it is meant"
            if output.get("name") == "stderr":
                yield k, f"stores a warning ({output['text'].strip()[:60]!r}); remove its cause"


@rule
def clean_file(notebook, path):
    """Small enough to view, nothing in it of the machine that ran it, no widget state (GitHub refuses to show it)."""
    size = len(nbformat.writes(nbformat.from_dict(notebook)).encode()) / 1e6
    if size >= MEGABYTES:
        yield None, f"the file has {size:.1f} MB, at most {MEGABYTES}; lower the dpi or the number of figures"
    if "widgets" in notebook["metadata"]:
        yield None, "metadata.widgets is stored; run `python course.py outputs`, which removes it"
    for k, cell in numbered(notebook, "code"):
        for text in output_texts(cell):
            for found in ABSOLUTE_PATH.findall(text):
                yield k, f"an output shows the path {found!r}; print a name or a relative path"
            for found in ADDRESS.findall(text):
                yield k, f"an output shows the memory address {found!r}; print something that stays the same"


@rule
def accelerator(notebook, path):
    """Colab hands out a GPU only for the lessons that need one."""
    metadata = notebook["metadata"]
    colab = metadata.get("colab", {})
    if path.name[:2] in GPU_LESSONS:
        if metadata.get("accelerator") != "GPU" or colab.get("gpuType") != "T4":
            yield None, 'asks Colab for no GPU; set metadata "accelerator": "GPU" and "colab": {"gpuType": "T4"}'
    elif "accelerator" in metadata or "gpuType" in colab:
        yield None, "asks Colab for a GPU, which this lesson does not need; remove accelerator and colab.gpuType"


@rule
def figures_have_numbers(notebook, path):
    """Pictures are not compared by nbval, so each has a printed statistic beside it."""
    code = numbered(notebook, "code")
    for (k, cell), (_, following) in zip(code, code[1:] + [(None, {})]):
        if not any(kind.startswith("image/") for output in cell["outputs"] for kind in output.get("data", {})):
            continue
        outputs = cell["outputs"] + following.get("outputs", [])
        if not any(output.get("name") == "stdout" and re.search(r"\d", output["text"]) for output in outputs):
            yield k, "a picture without printed text in this or the next code cell; print a number that it shows"


# Code and the library


@rule
def build_then_import(notebook, path):
    """What a cell tagged build:MODULE.NAME builds is what diffusion_lib holds."""
    for k, cell in numbered(notebook, "code"):
        for tag in tags(cell):
            if not tag.startswith("build:"):
                continue
            module, _, name = tag.removeprefix("build:").partition(".")
            file = path.parents[1] / "diffusion_lib" / f"{module}.py"
            if not file.exists():
                yield k, f"{tag}: diffusion_lib has no module {module}; correct the tag"
                continue
            shown = f"diffusion_lib/{module}.py"
            theirs = definition(ast.parse(file.read_text(encoding="utf-8")).body, name)
            ours = definition(statements(cell), name) or definition(statements(cell), name.rpartition(".")[2])
            if theirs is None:
                yield k, f"{tag}: {shown} does not define {name}; correct the tag or add it to the library"
            elif ours is None:
                yield k, f"{tag}: the cell does not define {name} at top level; define it or remove the tag"
            elif ast.dump(bare(theirs)) != ast.dump(bare(ours)):
                texts = [ast.unparse(bare(node)).splitlines() for node in (theirs, ours)]
                changes = "\n".join(difflib.unified_diff(*texts, shown, "lesson", lineterm=""))
                yield k, f"{tag}: differs from the library's definition; make them equal:\n{changes}"


@rule
def redefinitions(notebook, path):
    """A name means one thing: neither a library name nor a function is defined again (exercises and builds may)."""
    imported, defined = {}, {}
    for k, cell in numbered(notebook, "code"):
        if tagged(cell, "exercise:"):
            continue
        for node in statements(cell):
            names = []
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names = [node.name]
                if node.name in defined and defined[node.name] != k:
                    yield k, f"{node.name} was defined in cell {defined[node.name]} already; give it another name"
                defined.setdefault(node.name, k)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [name.id for target in targets for name in ast.walk(target) if is_new_name(name)]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "diffusion_lib":
                imported.update({alias.asname or alias.name: k for alias in node.names})
            for name in names:
                if name in imported and not tagged(cell, "build:"):
                    yield k, f"{name} was imported from diffusion_lib in cell {imported[name]}; give yours another name"


def is_new_name(node):
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


@rule
def formulas_checked(notebook, path):
    """Every displayed formula has a cell below it, in its section, that would fail if it were wrong."""
    for k, cell in numbered(notebook, "markdown"):
        text = prose(cell)
        if "<details" in text or not re.search(r"\$\$|\\begin\{(equation|align|gather)", text):
            continue
        for _, following in numbered(notebook)[k:]:
            if following["cell_type"] == "code" and tagged(following, "check", "build:", "exercise:"):
                break
            if following["cell_type"] == "markdown" and re.search(r"^## ", prose(following), flags=re.MULTILINE):
                yield k, "no check of this formula in its section; add a cell tagged check, build: or exercise:"
                break
        else:
            yield k, "no check of this formula below it; add a cell tagged check, build: or exercise:"


# Exercises


@rule
def exercises(notebook, path):
    """Header, one cell with stub and check, hint and solution; numbered from 1; those of diffusion_lib.exercises."""
    lesson, cells, found = path.name[:2], notebook["cells"], []
    for k, level, title in headings(notebook):
        if not title.startswith("Exercise"):
            continue
        match = re.fullmatch(r"Exercise (\d\d\.\d+) · \S.*", title)
        if level != 3 or not match:
            yield k, f"exercise heading {title!r}; write `### Exercise {lesson}.k · name  ●●○○○ · 8 minutes`"
            continue
        name = match[1]
        found.append(name)
        if name != f"{lesson}.{len(found)}":
            yield k, f"exercise {name} where {lesson}.{len(found)} is expected; number them from 1 without a gap"
        text = cells[k - 1]["source"]
        dots = re.search(r"[●○]+", text)
        if not dots or not re.fullmatch(r"(?=.{5}$)●+○*", dots[0]):
            yield k, "no difficulty; write five dots, the first of them filled, such as ●●○○○"
        if not re.search(r"\d+ minutes?\b", text):
            yield k, "no minutes; say how long it takes, such as `8 minutes`"
        stub, answer = cells[k] if k < len(cells) else None, cells[k + 1] if k + 1 < len(cells) else None
        yield from stub_complaints(k, name, stub)
        if not answer or answer["cell_type"] != "markdown" or answer["source"].count("<details") != 2:
            yield k, "the cell after the stub is not markdown with two <details>, one Hint and one Solution; add it"
        elif [word for word in re.findall(r"<summary>\W*(?:<\w+>)?(\w+)", answer["source"])] != ["Hint", "Solution"]:
            yield k + 2, "the two <details> are not called Hint and Solution; name them so, in this order"
    for k, cell in numbered(notebook, "code"):
        for tag in tags(cell):
            if tag.startswith("exercise:") and tag.removeprefix("exercise:") not in found:
                yield k, f"tagged {tag} without a heading `### Exercise {tag.removeprefix('exercise:')} · name`; add it"
    library = library_exercises(path.parents[1] / "diffusion_lib" / "exercises" / f"lesson_{lesson}.py")
    if sorted(library) != sorted(found):
        yield None, f"exercises {sorted(found)} here, {sorted(library)} in diffusion_lib.exercises; make them equal"


def stub_complaints(k, name, stub):
    if not stub or stub["cell_type"] != "code" or f"exercise:{name}" not in tags(stub):
        yield k, f"the next cell is not a code cell tagged exercise:{name}; put the stub there"
        return
    nodes = [node for statement in statements(stub) for node in ast.walk(statement)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check"]
    if not any(isinstance(c.args[0], ast.Constant) and c.args[0].value == name for c in calls if c.args):
        yield k + 1, f'no call check("{name}", ...); end the cell with it'
    if not any(isinstance(node, ast.Constant) and node.value is ... for node in nodes):
        yield k + 1, "no stub; write `...` where the student's answer belongs"


@rule
def solutions_once(notebook, path):
    """The folded Solution of a declared exercise is its solution in diffusion_lib.exercises."""
    yield from solutions.complaints(notebook["cells"], path)


def library_exercises(file):
    """The keys of EXERCISES in diffusion_lib/exercises/lesson_NN.py."""
    if not file.exists():
        return []
    value = definition(ast.parse(file.read_text(encoding="utf-8")).body, "EXERCISES")
    return [ast.literal_eval(key) for key in value.keys] if isinstance(value, ast.Dict) else []
