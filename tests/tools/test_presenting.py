"""tools/presenting.py without a browser: the copies, what JupyterLab is given, and what the kernel does by itself."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client import KernelManager

from tools import presenting, slides

ROOT = presenting.ROOT


def cell(kind, source, slide):
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    return make(source, metadata={"tags": ["kept"], "slideshow": {"slide_type": slide}})


@pytest.fixture
def lesson():
    cells = [
        cell("markdown", "# Title", "slide"),
        cell("code", "import ipywidgets\nfrom IPython.display import display\none, runs = 1, []", "skip"),
        cell("code", "runs.append('widget')\nprint('hidden text')\ndisplay(ipywidgets.IntSlider())", "fragment"),
        cell(
            "code",
            "out = ipywidgets.interactive_output(lambda one: print(one), {'one': ipywidgets.IntSlider()})",
            "fragment",
        ),
        cell("markdown", "**Presenting:** *Ask.*", "notes"),
        cell("code", "runs", "-"),
        cell("code", "one / 0", "-"),
        cell("code", "runs.append('after the failure')", "-"),
        cell("code", "print('shown', runs)", "fragment"),
    ]
    cells[2].update(outputs=[nbformat.v4.new_output("stream", text="old")], execution_count=3)
    return nbformat.v4.new_notebook(cells=cells)


def test_the_copy_shows_no_notes_and_has_not_run(lesson):
    copy = presenting.for_the_room(json.loads(nbformat.writes(lesson)))
    nbformat.validate(copy)
    assert [cell["metadata"]["slideshow"].get("slide_type") for cell in copy["cells"]] == [
        "slide", "skip", "fragment", "fragment", "skip", None, None, None, "fragment"]  # fmt: skip
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in copy["cells"] if "outputs" in cell)
    assert ["".join(cell["source"]) for cell in copy["cells"]] == [cell.source for cell in lesson.cells]
    assert all(cell["metadata"]["tags"] == ["kept"] for cell in copy["cells"])


def test_everything_lies_in_the_folder_and_is_made_anew(tmp_path):
    before = {path: path.read_bytes() for path in (ROOT / "notebooks").glob("*.ipynb")}
    folder = tmp_path / "05"
    environment, options = presenting.prepare("05", folder)
    assert [path.name for path in before] and before == {path: path.read_bytes() for path in before}
    assert f"--ServerApp.root_dir={folder}" in options and Path(options[-1]).name.startswith("05_")
    assert {path.name for path in (folder / "notebooks").iterdir()} == {path.name for path in before}
    assert environment.pop("COURSE_PRESENTING") == "1"
    assert environment.pop("PYTHONPATH").startswith(str(ROOT))
    assert all(Path(value).parent == folder for value in environment.values())
    Path(options[-1]).write_text("changed in the show")
    (folder / "workspaces").mkdir()
    (folder / "settings/jupyterlab-slideshow/plugin.jupyterlab-settings").write_text('{"active": false}')
    presenting.prepare("05", folder)
    assert not (folder / "workspaces").exists()
    assert json.loads(Path(options[-1]).read_text())["cells"]
    setting = folder / "settings/jupyterlab-slideshow/plugin.jupyterlab-settings"
    assert json.loads(setting.read_text()) == {"active": True}


def test_an_unknown_lesson_is_named(tmp_path):
    with pytest.raises(SystemExit, match="no lesson 77; there are 00, 01"):
        presenting.prepare("77", tmp_path)


def test_jupyterlab_starts_with_the_folder_and_the_further_options(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(presenting, "FOLDER", tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr("jupyterlab.labapp.main", lambda options: given.update(options=options))
    presenting.main(["03", "--no-browser"])
    assert given["options"][-1] == "--no-browser"
    assert os.environ["COURSE_PRESENTING"] == "1"
    environment, options = presenting.prepare("03", tmp_path / "03")
    assert given["options"] == [*options, "--no-browser"]
    assert all(os.environ[name] in value for name, value in environment.items())


def test_jupyterlab_knows_every_setting_and_shortcut():
    slideshow = pytest.importorskip("jupyterlab_slideshow", reason="run 'python course.py setup present'")
    share = Path(slideshow.__file__).parents[4] / "share/jupyter"
    for name in presenting.SETTINGS:
        package, plugin = name.rsplit("/", 1)
        places = [
            share / f"lab/schemas/{name}.json",
            share / f"labextensions/{package}/schemas/{package}/{plugin}.json",
        ]
        (schema,) = [json.loads(place.read_text(encoding="utf-8")) for place in places if place.exists()]
        assert presenting.SETTINGS[name].keys() <= schema["properties"].keys(), name
    from jupyterlab.labapp import LabApp

    assert LabApp.class_traits()["custom_css"]


def test_slides_and_hand_outs_show_as_many_lines_of_code():
    style = (ROOT / "tools/presenting.css").read_text(encoding="utf-8")
    assert re.findall(r"--code-lines: (\d+);", style) == [str(slides.CODE_LINES)]


@pytest.mark.all
def test_a_cell_finds_those_above_it_run_once_and_in_silence(lesson, tmp_path, monkeypatch):
    path = tmp_path / "lesson.ipynb"
    nbformat.write(lesson, path)
    (tmp_path / "profile_default").mkdir()
    (tmp_path / "profile_default/ipython_kernel_config.py").write_text(presenting.KERNEL)
    kernel = KernelManager(kernel_name="python3")
    kernel.start_kernel(env={**os.environ, "IPYTHONDIR": str(tmp_path), "JPY_SESSION_NAME": str(path)}, cwd=ROOT)
    client = kernel.client()
    client.start_channels()
    client.wait_for_ready(timeout=600)

    def run(index):
        """What a cell shows at the end, and all that it ever showed; errors by their names."""
        content = {"code": lesson.cells[index].source, "silent": False, "store_history": True, "stop_on_error": False}
        message = client.session.msg("execute_request", content, metadata={"cellId": lesson.cells[index].id})
        client.shell_channel.send(message)
        shown = ever = ""
        while True:
            answer = client.get_iopub_msg(timeout=600)
            if answer["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            kind, content = answer["msg_type"], answer["content"]
            if kind == "clear_output":
                shown = ""
            text = content.get("text") or content.get("data", {}).get("text/plain") or content.get("ename", "")
            shown, ever = shown + text, ever + text
            if kind == "status" and content["execution_state"] == "idle":
                return shown, ever

    try:
        progress = "".join(f"first the cells above that have not been run: {k} of 3\n" for k in (1, 2, 3))
        assert run(5) == ("['widget']", progress + "['widget']")
        shown, _ = run(2)
        assert shown.startswith("hidden text\n") and run(5) == ("['widget', 'widget']",) * 2
        progress = "first the cells above that have not been run: 1 of 2\n"
        failed = progress + "ZeroDivisionErrorThis cell above failed:\n\none / 0\n\n"
        assert run(8) == (failed + "shown ['widget', 'widget']\n",) * 2
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
