"""The README says what is so: its lessons, minutes, pictures and measured numbers are those of the repository."""

import json
import re

import pytest

from diffusion_lib import pretrained
from tools import LESSONS, ROOT
from tools.rules import live_minutes, read

README = (ROOT / "README.md").read_text(encoding="utf8")
MEASURED = ROOT / "diffusion_lib" / "assets" / "measured"


def table_row(number):
    rows = re.findall(rf"^\| \[{number} · [^\n]*$", README, re.M)
    assert len(rows) == 1, f"the README's table has {len(rows)} rows for lesson {number}; expected one"
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_each_lesson_has_its_row_with_the_measured_minutes(path):
    number = path.stem[:2]
    link, _, _, live, minutes, _, badge = table_row(number)
    notebook = read(path)
    title = notebook["cells"][0]["source"].split("\n")[0].removeprefix("# ")
    assert int(live) == sum(live_minutes(notebook).values())
    assert link == f"[{title}](notebooks/{path.name})"
    assert badge.endswith(f"/blob/main/notebooks/{path.name})")
    seconds = json.loads((MEASURED / "lessons.json").read_text(encoding="utf8"))["seconds"][number]
    assert minutes == f"{seconds / 60:.1f}"


def test_the_headline_is_the_measured_one():
    measured = json.loads((MEASURED / "headline.json").read_text(encoding="utf8"))
    for budget, name in [("seconds", "60 seconds"), ("steps", "500 steps")]:
        row = next(line for line in README.splitlines() if line.startswith(f"| {name}"))
        for key in ("accuracy", "frechet"):
            summary = measured["summary"][budget]["guided"][key]
            assert f"{summary['mean']:.2f} (worst {summary['worst']:.2f})" in row
    assert f"{measured['floor']:.2f}" in README
    low, high = pretrained.INTERVAL
    sampler = measured["sampler"].replace("ddim", "DDIM")
    assert f"scale 2 between t = {low} and {high}; {sampler}" in README
    assert len({row["seed"] for row in measured["rows"]}) == 5 and "over five seeds" in README
    runs = {budget: [row for row in measured["rows"] if budget in row["budget"]] for budget in ("seconds", "steps")}
    assert [{row["batch_size"] for row in rows} for rows in runs.values()] == [{128}, {256}]
    steps = [row["steps"] for row in runs["seconds"]]
    assert f"60 seconds ({min(steps)} to {max(steps)} steps of 128 digits)" in README
    seconds = [row["seconds"] for row in runs["steps"]]
    assert f"500 steps of 256 digits ({min(seconds):.0f} to {max(seconds):.0f} seconds)" in README


def test_links_and_pictures_exist():
    links = re.findall(r"\]\(([^)#\s]+)", README)
    assert len(links) > 10
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing


def test_the_ten_line_example_runs():
    example = re.search(r"```python\n(.*?)```", README, re.S)[1]
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["digits"].shape == (8, 1, 28, 28)
    seen = pretrained.classifier()(names["digits"]).argmax(1)
    assert (seen == names["label"]).sum() >= 7
