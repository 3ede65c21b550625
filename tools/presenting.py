"""Presents a lesson live, as slides in JupyterLab: `python course.py present NN`.

    python -m tools.presenting NN [jupyter options]

At every start the folder .venv/presenting/NN is made anew, with copies of the lessons and with settings and a style
sheet (presenting.css) for a room. The lessons and your own JupyterLab stay as they are. The slides are what
jupyterlab-slideshow makes of the notebook's slideshow metadata; what it does not do for a presenter is done here.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from IPython.display import clear_output
from IPython.utils.capture import capture_output

from tools import ROOT

FOLDER = ROOT / ".venv" / "presenting"
COMMAND_MODE = ".jp-Deck .jp-Notebook.jp-mod-commandMode:not(.jp-mod-readWrite) "
SETTINGS = {
    "jupyterlab-slideshow/plugin": {"active": True},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # as the deck wants it; so it need not change
    "@jupyterlab/shortcuts-extension/shortcuts": {
        "shortcuts": [
            # By itself Shift+Enter also goes on, and a figure would appear on the slide that has just been left.
            {"command": "notebook:run-cell", "keys": ["Shift Enter"], "selector": COMMAND_MODE + ".jp-CodeCell:focus"},
            # By itself Escape ends the show, also when it is pressed once too often to leave an editor.
            {"command": "notebook:enter-command-mode", "keys": ["Escape"], "selector": COMMAND_MODE + ".jp-Cell:focus"},
            {"command": "deck:toggle", "keys": ["Shift P"], "selector": ".jp-Notebook.jp-mod-commandMode :focus"},
        ]
    },
}
KERNEL = """\
c.InlineBackend.figure_formats = ["retina"]  # figures are shown large
c.InteractiveShellApp.extensions = ["tools.presenting"]
"""


def for_the_room(notebook):
    """Changes a lesson into what is presented: nothing has run yet, and the deck stops nowhere but at what it shows."""
    for cell in notebook["cells"]:
        show = cell["metadata"].setdefault("slideshow", {})
        if show.get("slide_type") == "notes":
            show["slide_type"] = "skip"  # after a note the deck would show an empty screen
        elif show.get("slide_type") == "-":
            del show["slide_type"]  # the deck knows "continues the slide" only by no type at all
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    return notebook


def prepare(number, folder):
    """Makes the folder for lesson `number`. Returns the environment's new variables and JupyterLab's options."""
    lessons = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    if number not in lessons:
        raise SystemExit(f"there is no lesson {number}; there are {', '.join(lessons)}.")
    texts = {f"settings/{name}.jupyterlab-settings": json.dumps(value) for name, value in SETTINGS.items()}
    texts["config/custom/custom.css"] = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    texts["ipython/profile_default/ipython_kernel_config.py"] = KERNEL
    for path in lessons.values():
        texts[f"notebooks/{path.name}"] = json.dumps(for_the_room(json.loads(path.read_text(encoding="utf-8"))))
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    environment = {
        "COURSE_PRESENTING": "1",
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),  # for tools.presenting
    }
    lesson = folder / "notebooks" / lessons[number].name
    return environment, [f"--ServerApp.root_dir={folder}", "--LabApp.custom_css=True", str(lesson)]


def nothing(message):
    """Keeps a message from the browser."""


def load_ipython_extension(shell):
    """In the kernels: before a cell runs, those above it that have not been run are run, without their outputs.

    So the set-up, which is on no slide, needs no thought, and a lesson can be entered anywhere.
    """
    lesson, ran = Path(os.environ.get("JPY_SESSION_NAME", "")), set()

    def run_those_above(info):
        if not lesson.is_file():  # a console
            return
        cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
        code = {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}
        if info.cell_id not in code:  # a cell that was added since the lesson was saved
            return
        above = list(code)[: list(code).index(info.cell_id)]
        missing = [name for name in above if name not in ran]
        for k, name in enumerate(missing, start=1):
            print(f"first the cells above that have not been run: {k} of {len(missing)}", flush=True)
            shell.display_pub.register_hook(nothing)
            with capture_output(display=False):  # its own way with display would stop widgets
                worked = shell.run_cell(code[name], silent=True).success
            shell.display_pub.unregister_hook(nothing)
            if not worked:
                print(f"This cell above failed:\n\n{code[name]}\n", flush=True)
                break
            clear_output()
            ran.add(name)
        ran.add(info.cell_id)

    shell.events.register("pre_run_cell", run_those_above)


def main(arguments):
    environment, options = prepare(arguments[0], FOLDER / arguments[0])
    os.environ.update(environment)  # before JupyterLab is imported: it reads some of them at once
    from jupyterlab.labapp import main as jupyterlab

    jupyterlab([*options, *arguments[1:]])


if __name__ == "__main__":
    main(sys.argv[1:])
