"""notebooks/INSTRUCTORS.md keeps to the lessons: their sections and minutes, the commands, the measured seconds."""

import json
import re

import pytest

from tests.common import lesson_at
from tools import ROOT
from tools.rules import headings, live_minutes

PAGE = (ROOT / "notebooks" / "INSTRUCTORS.md").read_text(encoding="utf-8")
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
PRESENTED = json.loads((ROOT / "diffusion_lib/assets/measured/presenting.json").read_text(encoding="utf-8"))


def tables(text):
    """Every markdown table as a list of rows, each a list of cells; without its heading and the line below that."""
    found = re.findall(r"^\|.*\n\|[-| :]+\|\n((?:\|.*\n?)+)", text, flags=re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()] for table in found]


def part(title):
    """The text below a `## ` or `### ` heading up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found, f"INSTRUCTORS.md has no part {title!r}"
    return found[1]


def exercise_minutes(notebook):
    """{"Exercise 01.2": minutes} that their headings say."""
    found = {}
    for k, _, title in headings(notebook):
        if title.startswith("Exercise"):
            minutes = re.search(r"(\d+) minutes?\b", notebook["cells"][k - 1]["source"])[1]
            found[title.partition(" ·")[0]] = int(minutes)
    return found


@pytest.mark.parametrize("number", LESSONS)
def test_the_table_of_lessons_has_their_minutes_and_seconds(number):
    (table,) = tables(part("Every lesson in minutes"))
    (row,) = [row for row in table if row[0].startswith(f"[{number}]")]
    notebook = lesson_at(LESSONS[number])
    link, live, exercises, longest, left_out = row
    assert link == f"[{number}]({LESSONS[number].name})"
    assert int(live) == sum(live_minutes(notebook).values()), f"lesson {number}: minutes of its notes"
    assert int(exercises) == sum(exercise_minutes(notebook).values()), f"lesson {number}: minutes of its exercises"
    assert float(longest) == PRESENTED["longest_cell"][number], f"lesson {number}: seconds of its longest cell"
    assert {*left_out.split("; ")} <= {*live_minutes(notebook)}, f"lesson {number} has no section {left_out}"


@pytest.mark.parametrize("title, most", [("Ninety minutes", 90), ("A day", 360)])
def test_a_plan_names_sections_with_their_minutes_and_fits(title, most):
    (table,) = tables(part(title))
    total = 0
    for lesson, section, minutes in table:
        total += int(minutes)
        if number := re.match(r"\[(\d\d)\]\(([^)]+)\)", lesson):
            assert LESSONS[number[1]].name == number[2]
            notebook = lesson_at(LESSONS[number[1]])
            sections = live_minutes(notebook)
            known = sections | exercise_minutes(notebook) | {"all of it": sum(sections.values())}
            assert section in known, f"{lesson} has no part {section!r}; it has {', '.join(known)}"
            assert int(minutes) == known[section], f"{lesson}, {section}: {known[section]} minutes"
    assert 0.85 * most <= total <= most, f"{title}: {total} minutes"
    assert f"{total} minutes" in part(title)


def test_a_term_holds_every_lesson_once():
    (table,) = tables(part("A term"))
    named = [number for row in table for number in re.findall(r"\[(\d\d)\]\(", row[1])]
    assert named == list(LESSONS)


def test_the_commands_exist():
    course = (ROOT / "course.py").read_text(encoding="utf-8")
    commands = set(re.findall(r"course\.py ([a-z-]+)", PAGE))
    assert {"present", "slides", "grade"} <= commands
    for command in commands:
        assert f"python course.py {command} " in course, f"course.py does not document {command}"


def test_the_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)", PAGE)
    assert targets
    for target in targets:
        if not target.startswith("https://"):
            assert (ROOT / "notebooks" / target).exists(), target
