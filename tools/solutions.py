"""The Solution that folds open below an exercise is the source of its solution in diffusion_lib/exercises.

    python -m tools.solutions 01 05      writes the folds of these lessons (of all, without a number)

Only exercises in the declared form (declare, choose, together) have a fold that is written; rules.py complains where it
differs. A solution's docstring stays behind, since the stub above the fold has it. Everything is read, nothing is run.
"""

import argparse
import ast
import builtins
import difflib
import json
import re

from . import LESSONS, ROOT

SOLUTION = re.compile(r"(<summary>Solution</summary>.*?^```python\n)(.*?)(^```)", re.DOTALL | re.MULTILINE)


def module_of(path):
    """The module with the exercises of a lesson."""
    return path.parents[1] / "diffusion_lib" / "exercises" / f"lesson_{path.name[:2]}.py"


def declared(source):
    """dict: exercise -> code of its solution, for the declared exercises of a module's source."""
    body = ast.parse(source).body
    exercises = getattr(statement(body, "EXERCISES"), "value", None)
    if not isinstance(exercises, ast.Dict):
        return {}
    named = {ast.literal_eval(key): names(value, body) for key, value in zip(exercises.keys, exercises.values)}
    return {
        number: "\n\n\n".join(code(statement(body, name), source) for name in solution)
        for number, solution in named.items()
        if solution
    }


def statement(body, name):
    """The last statement at top level that binds a name, or None."""
    found = None
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if getattr(node, "name", None) == name or any(isinstance(t, ast.Name) and t.id == name for t in targets):
            found = node
    return found


def names(node, body):
    """The names of the solutions of an exercise, as it is declared; none if it is written in another form."""
    if isinstance(node, ast.Name):
        node = getattr(statement(body, node.id), "value", None)
    if not isinstance(node, ast.Call):
        return []
    form = getattr(node.func, "id", "")
    if form == "together":
        return [name for part in node.args for name in names(part, body)]
    return [node.args[0].id] if form in ("declare", "choose") else []


def code(node, source):
    """The lines of a statement, comments and all, without a function's docstring."""
    lines = source.splitlines()
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    taken = set(range(first, node.end_lineno + 1))
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
        taken -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return "\n".join(lines[k - 1] for k in sorted(taken))


def folds(cells):
    """(exercise, number of the cell with its Solution, the code there) of a notebook's cells, counted from 1."""
    for k, cell in enumerate(cells, 1):
        for tag in cell["metadata"].get("tags", []):
            if tag.startswith("exercise:") and k < len(cells):
                if found := SOLUTION.search("".join(cells[k]["source"])):
                    yield tag.removeprefix("exercise:"), k + 1, found[2].rstrip("\n")


def complaints(cells, path):
    """(cell number, what is wrong) of the folds of a lesson."""
    module = module_of(path)
    expected = declared(module.read_text(encoding="utf-8")) if module.exists() else {}
    for number, k, shown in folds(cells):
        if number not in expected:
            continue
        if shown != expected[number]:
            changes = difflib.unified_diff(
                expected[number].split("\n"), shown.split("\n"), module.name, "fold", lineterm=""
            )
            yield (
                k,
                (
                    f"the Solution of {number} is not that of diffusion_lib/exercises/{module.name}; run "
                    f"`python -m tools.solutions {path.name[:2]}`:\n" + "\n".join(changes)
                ),
            )
        if missing := sorted(used(expected[number]) - bound(cells)):
            yield (
                k,
                f"the Solution of {number} uses {', '.join(missing)}, which the lesson does not have; import it there",
            )


def used(source):
    """The names that code takes from outside."""
    nodes = list(ast.walk(ast.parse(source)))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    stored |= {node.arg for node in nodes if isinstance(node, ast.arg)} | set(dir(builtins))
    stored |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {node.id for node in nodes if isinstance(node, ast.Name)} - stored


def bound(cells):
    """The names that a notebook's code binds."""
    found = set()
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        source = re.sub(r"^([ \t]*)[%!].*$", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def write_folds(path):
    """Writes the folds of a lesson; all other bytes stay. Returns the exercises whose fold has changed."""
    text = path.read_text(encoding="utf-8")
    notebook, expected = json.loads(text), declared(module_of(path).read_text(encoding="utf-8"))
    changed = [(number, k) for number, k, shown in folds(notebook["cells"]) if expected.get(number, shown) != shown]
    for number, k in changed:
        cell = notebook["cells"][k - 1]
        before = "".join(cell["source"])
        after = SOLUTION.sub(lambda m: m[1] + expected[number] + "\n" + m[3], before, count=1)  # noqa: B023
        cell["source"] = after.splitlines(keepends=True) if isinstance(cell["source"], list) else after
    if changed:
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [number for number, _ in changed]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="tools.solutions", description="Write the folded Solutions of lessons.")
    parser.add_argument("lessons", nargs="*", metavar="NN", help="numbers of lessons; all of them without one")
    asked = parser.parse_args(arguments).lessons
    if unknown := set(asked) - {path.name[:2] for path in LESSONS}:
        parser.error(f"there is no lesson {', '.join(sorted(unknown))}")
    for path in LESSONS:
        if (not asked or path.name[:2] in asked) and module_of(path).exists():
            print(f"{path.relative_to(ROOT)}: {', '.join(write_folds(path)) or 'nothing to write'}")


if __name__ == "__main__":
    main()
