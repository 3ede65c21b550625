"""tools/passed.py: a lesson's key changes with everything that its run depends on, and with nothing else."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools import ROOT, passed

FILES = {
    "diffusion_lib/__init__.py": "",
    "diffusion_lib/asked.py": "def late():\n    from . import inner\n    return inner.x\n",
    "diffusion_lib/inner.py": "from .deep import x\n",
    "diffusion_lib/deep.py": "x = 1\n",
    "diffusion_lib/other.py": "y = 2\n",
    "diffusion_lib/rooms/__init__.py": "from ..deep import x\n",
    "diffusion_lib/exercises/__init__.py": "from .engine import check\n",
    "diffusion_lib/exercises/engine.py": "check = print\n",
    "diffusion_lib/exercises/lesson_01.py": "",
    "diffusion_lib/exercises/lesson_02.py": "",
    "diffusion_lib/assets/measured/a.json": "{}",
    "diffusion_lib/weights/a.safetensors": "weights",
    "constraints.txt": "torch==2.13.0\n",
    "tools/nbval_strict.py": "",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    cells = ["%matplotlib inline\nimport torch", "from diffusion_lib.asked import late\nlate()"]
    notebook = new_notebook(cells=[new_code_cell(source, id=f"c{k}") for k, source in enumerate(cells)])
    nbformat.write(notebook, tmp_path / "01_lesson.ipynb")
    monkeypatch.setattr(passed, "ROOT", tmp_path)
    monkeypatch.setattr(passed, "LIBRARY", tmp_path / "diffusion_lib")
    return tmp_path


def key(root):
    passed.contents.cache_clear()
    passed.surroundings.cache_clear()
    return passed.key(root / "01_lesson.ipynb")


IN = ["asked.py", "inner.py", "deep.py", "exercises/engine.py", "exercises/lesson_01.py", "weights/a.safetensors"]
IN += ["assets/measured/a.json", "__init__.py"]
OUT = ["other.py", "rooms/__init__.py", "exercises/lesson_02.py"]


def test_a_key_follows_what_is_imported_however_deep_and_late(root):
    before = key(root)
    assert key(root) == before
    for name in IN:
        (root / "diffusion_lib" / name).write_text("changed = True\n")
        assert key(root) != before, name
        (root / "diffusion_lib" / name).write_text(FILES[f"diffusion_lib/{name}"])
        assert key(root) == before
    for name in OUT:
        (root / "diffusion_lib" / name).write_text("changed = True\n")
        assert key(root) == before, name


def test_a_key_follows_lesson_versions_and_environment(root, monkeypatch):
    keys = [key(root)]
    monkeypatch.setenv("COURSE_PRESENTING", "1")
    keys.append(key(root))
    (root / "constraints.txt").write_text("torch==2.13.1\n")
    keys.append(key(root))
    lesson = root / "01_lesson.ipynb"
    lesson.write_text(lesson.read_text().replace("late()", "late() + 1"))
    keys.append(key(root))
    monkeypatch.setattr(passed.platform, "platform", lambda: "another system")
    keys.append(key(root))
    assert len(set(keys)) == len(keys)


def test_the_real_lessons_reach_the_library():
    names = {file.stem for file in passed.closure({"diffusion_lib.samplers"})}
    assert {"samplers", "schedules", "forward"} <= names and "tokens" not in names
    path = next((ROOT / "notebooks").glob("05_*.ipynb"))
    assert len(passed.key(path)) == 64
