"""course.py: what it says, what it installs and when, and what it rewrites; and tools/outputs.py.

The set-up runs in a copy of the repository's top level with a real environment whose pip, pytest and JupyterLab are
stand-ins that write down how they were called, so no test here installs anything.
"""

import ast
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import venv
from base64 import b64decode, b64encode
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from PIL import Image

from tools import ROOT, check, options, outputs, pictures

TOOLS = ("slides", "grade", "check", "outputs", "presenting")
RECORDER = """
import json, os, pathlib, sys
with open({log!r}, "a") as log:
    log.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
with open({log!r} + ".threads", "w") as file:
    file.write(os.environ.get("OMP_NUM_THREADS", ""))
if os.environ.get("FAIL", "no failure") in " ".join(sys.argv):
    sys.exit(os.environ.get("SAYS", ""))
sys.exit({code})
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the repository's top level."""
    requirements = [path.name for path in ROOT.glob("requirements*.txt")]
    for name in ("course.py", "constraints.txt", "pyproject.toml", *requirements):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name in ("00_start.ipynb", "03_network.ipynb"):
        (tmp_path / "notebooks" / name).write_text("{}")
    for name in ("CI", "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def course(folder):
    spec = importlib.util.spec_from_file_location("course_copy", folder / "course.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def calls(folder, course, monkeypatch):
    """Puts an environment of stand-ins beside the copy. Returns a function that lists the calls since its last call."""
    log = folder / "calls.txt"
    venv.create(course.VENV, with_pip=False)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([course.PYTHON, "-c", ask], capture_output=True, text=True, check=True)
    for name, code in (("pip", 0), ("pytest", 3), ("jupyterlab", 0)):
        package = Path(found.stdout.strip()) / name
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(RECORDER.format(log=str(log), name=name, code=code))
    for name in ("diffusion_lib/__main__", *[f"tools/{name}" for name in TOOLS]):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).with_name("__init__.py").touch()  # a package, which none elsewhere on the path hides
        (folder / f"{name}.py").write_text(RECORDER.format(log=str(log), name=name, code=0))
    monkeypatch.setattr(course, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(course.platform, "system", lambda: "Linux")

    def since_last_time():
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    return since_last_time


def run(folder, *arguments):
    return subprocess.run([sys.executable, folder / "course.py", *arguments], capture_output=True, text=True)


def paragraph(error):
    """The message that course.py ends with, on one line."""
    return " ".join(str(error.value).split())


# What it says


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_help_names_every_command(folder, course, arguments):
    shown = run(folder, *arguments)
    assert shown.returncode == 0 and shown.stderr == ""
    for name in course.COMMANDS:
        assert f"course.py {name} " in shown.stdout
    assert not course.VENV.exists()


@pytest.mark.parametrize(
    "command, words",
    [
        ("lab", ["[NN]", "handed on to JupyterLab"]),
        ("present", ["[NN]", "Shift+Enter", "handed on to JupyterLab"]),
        ("slides", ["[NN ...]", "--notes", "--folder"]),
        ("grade", ["FILE_OR_FOLDER", "--json FILE", "--seconds"]),
        ("test", ["--all", "handed on to pytest", "-n 0"]),
        ("check", ["NN"]),
        ("outputs", ["[NN ...]", "--timings FILE", "--presenting FILE"]),
        ("demo", ["--steps"]),
        ("setup", ["test", "present", "browser"]),
        ("set-repo", ["OWNER/NAME"]),
    ],
)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_a_command_is_its_own_and_needs_no_environment(folder, course, command, words, flag):
    shutil.copytree(ROOT / "tools", folder / "tools")
    shown = run(folder, command, flag)
    assert shown.returncode == 0 and shown.stderr == ""
    said = " ".join(shown.stdout.split())
    assert f"python course.py {command}" in said and f" example: python course.py {command}" in said
    assert [word for word in words if word not in said] == []
    assert not course.VENV.exists()


def test_every_command_has_help(course):
    assert set(options.COMMANDS) == set(course.TOOLS) <= set(course.COMMANDS)
    assert all(course.COMMANDS[name].__doc__ for name in set(course.COMMANDS) - set(course.TOOLS))


def test_the_demo_s_options_are_those_that_its_help_names(course):
    taken = re.findall(r'add_argument\("(--\w+)"', (ROOT / "diffusion_lib/__main__.py").read_text(encoding="utf-8"))
    assert taken and re.findall(r"--\w+", course.demo.__doc__.splitlines()[0]) == taken


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["labb"], "there is no command 'labb'; there are lab, present, slides"),
        (["check"], "check takes the number of a lesson"),
        (["check", "07"], "there is no lesson 07; there are 00, 03"),
        (["lab", "07"], "there is no lesson 07; there are 00, 03"),
        (["lab", "seven"], "there is no lesson seven"),
        (["present", "07"], "there is no lesson 07; there are 00, 03"),
        (["setup", "present", "now"], "takes nothing or some of test, present, browser, and was given: present now"),
    ],
)
def test_wrong_commands_end_in_one_paragraph_before_anything_is_made(folder, course, arguments, words):
    shown = run(folder, *arguments)
    assert shown.returncode == 1
    assert words in " ".join(shown.stderr.split()) and "Traceback" not in shown.stderr
    assert not course.VENV.exists()


def test_an_old_python_can_read_the_file_and_is_told_what_to_do(course):
    ast.parse((ROOT / "course.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    for old in [(3, 6, 0), (3, 10, 14)]:
        with pytest.raises(SystemExit) as error:
            course.check_machine(old, "Linux", "x86_64")
        assert f"this is Python 3.{old[1]} and the course needs Python 3.11 or newer" in paragraph(error)
        assert "python.org" in paragraph(error)
    for new in [(3, 11, 0), (3, 13, 1), (4, 0, 0)]:
        course.check_machine(new, "Linux", "x86_64")


def test_an_intel_mac_is_told_about_colab(course):
    with pytest.raises(SystemExit) as error:
        course.check_machine((3, 12, 0), "Darwin", "x86_64")
    assert "Colab" in paragraph(error)
    course.check_machine((3, 12, 0), "Darwin", "arm64")


def test_only_the_standard_library_is_used():
    tree = ast.parse((ROOT / "course.py").read_text(encoding="utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


# Which PyTorch


@pytest.mark.parametrize(
    "system, gpu, index",
    [
        ("Linux", False, "https://download.pytorch.org/whl/cpu"),
        ("Linux", True, None),
        ("Windows", False, None),
        ("Windows", True, "https://download.pytorch.org/whl/cu130"),
        ("Darwin", False, None),
    ],
)
def test_the_build_of_pytorch_fits_the_machine(course, system, gpu, index):
    assert course.torch_index(system, gpu) == index


@pytest.mark.parametrize(
    "tool, result, gpu",
    [
        (None, None, False),
        ("nvidia-smi", SimpleNamespace(returncode=0, stdout=b"GPU 0: NVIDIA T4 (UUID: GPU-1)\n"), True),
        ("nvidia-smi", SimpleNamespace(returncode=0, stdout=b"No devices found.\n"), False),
        ("nvidia-smi", SimpleNamespace(returncode=9, stdout=b"GPU driver mismatch\n"), False),
        ("nvidia-smi", OSError("not a program"), False),
        ("nvidia-smi", subprocess.TimeoutExpired("nvidia-smi", 30), False),
    ],
)
def test_a_gpu_counts_only_if_its_driver_lists_it(course, monkeypatch, tool, result, gpu):
    def answer(*_, **__):
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(course.shutil, "which", lambda name: tool)
    monkeypatch.setattr(course.subprocess, "run", answer)
    assert course.has_nvidia_gpu() is gpu


# Installing


def test_set_up_installs_once_and_again_when_something_changed(folder, course, calls, capfd):
    course.set_up()
    torch_step, requirements, package = calls()
    version = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    assert version in torch_step and "--no-deps" in torch_step and "https://download.pytorch.org/whl/cpu" in torch_step
    assert {"--timeout=10", "--retries=1"} <= set(torch_step)
    assert requirements[-4:] == ["-r", "requirements.txt", "-c", "constraints.txt"]
    assert package[-2:] == ["-e", "."] and "--quiet" not in package
    assert "--> installing" in capfd.readouterr().out

    course.set_up()
    assert calls() == []
    assert "up to date" in capfd.readouterr().out
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        with open(folder / name, "a") as file:
            file.write("# changed\n")
        course.set_up()
        made = calls()
        assert len(made) == 3 and all("--quiet" in call for call in made), name
    course.set_up()
    assert calls() == []


@pytest.mark.parametrize(
    "command, extra",
    [(["present"], "present"), (["setup", "browser"], "browser"), (["test"], "test"), (["check", "3"], "test")],
)
def test_extras_are_installed_once_and_do_not_disturb_the_rest(folder, course, calls, command, extra):
    def made():
        return [call[call.index("-r") + 1] for call in calls() if call[0] == "pip" and "-r" in call]

    own = f"requirements-{extra}.txt"
    course.main(command)
    assert made() == ["requirements.txt", own]
    course.main(command)
    course.main(["lab"])
    assert made() == []
    for name in course.EXTRAS[extra]:
        with open(folder / name, "a") as file:
            file.write("# changed\n")
        course.main(["lab"])
        assert made() == ["requirements.txt"] * (name == "requirements.txt")
        course.main(command)
        assert made() == [own], name
    with open(folder / "constraints.txt", "a") as file:
        file.write("# changed\n")
    course.main(["lab"])
    assert made() == ["requirements.txt"]
    course.main(command)
    assert made() == [own]


def test_extras_that_failed_are_tried_again(course, calls, monkeypatch):
    monkeypatch.setenv("FAIL", "requirements-present.txt")
    monkeypatch.setenv("SAYS", "No matching distribution found")
    with pytest.raises(SystemExit) as error:
        course.main(["present"])
    assert "pip could not install what requirements-present.txt names" in paragraph(error)
    assert "tools/presenting" not in str(calls())
    monkeypatch.delenv("FAIL")
    course.main(["setup", "present"])
    (again,) = calls()
    assert again[-4:] == ["-r", "requirements-present.txt", "-c", "constraints.txt"]


def test_every_extra_names_the_files_it_reads_and_its_packages_are_pinned(course):
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    for extra, names in course.EXTRAS.items():
        lines = [line for name in names for line in (ROOT / name).read_text().splitlines()]
        wanted = [line.split("#")[0].strip() for line in lines]
        assert {f"requirements-{extra}.txt", *(line[3:] for line in wanted if line[:3] == "-r ")} == set(names)
        packages = {re.split("[<>=]", line)[0] for line in wanted if line and line[:3] != "-r "}
        assert packages and packages <= pinned


def test_pre_commit_runs_the_ruff_of_the_tests():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = re.findall(r"ruff==[\d.]+", hooks)
    assert len(named) == 2 and set(named) <= set(pinned)


def test_set_up_respects_pip_settings_and_is_short_in_ci(course, calls, monkeypatch):
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "60")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("CI", "true")
    course.set_up()
    made = calls()
    assert not any(argument.startswith(("--timeout", "--retries")) for argument in made[0])
    assert all("--quiet" in call for call in made)


def test_an_unreachable_pytorch_index_does_not_stop_the_set_up(course, calls, monkeypatch, capfd):
    monkeypatch.setenv("FAIL", "download.pytorch.org")
    monkeypatch.setenv("SAYS", "NewConnectionError: Name or service not known")
    course.set_up()
    assert len(calls()) == 3 and course.STAMP.exists()
    assert "whl/cpu did not answer" in capfd.readouterr().out


@pytest.mark.parametrize(
    "says, words",
    [
        ("ERROR: [Errno 28] No space left on device", "The disk is full."),
        ("WARNING: Retrying ... NewConnectionError ... No matching distribution found", "Check the network connection"),
        ("ERROR: No matching distribution found for torch", "A package has no build for this Python"),
        ("ERROR: a surprise", "The lines above are its own"),
    ],
)
@pytest.mark.parametrize("ci", ["", "true"])
def test_a_failed_install_ends_in_one_paragraph_and_is_tried_again(course, calls, monkeypatch, capfd, says, words, ci):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("FAIL", "requirements.txt")
    monkeypatch.setenv("SAYS", says)
    with pytest.raises(SystemExit) as error:
        course.set_up()
    assert words in paragraph(error) and "pip could not install what requirements.txt names" in paragraph(error)
    assert says in capfd.readouterr().err
    assert len(calls()) == 2 and not course.STAMP.exists()
    monkeypatch.delenv("FAIL")
    course.set_up()
    assert len(calls()) == 3 and course.STAMP.exists()


def test_the_signs_of_trouble_are_those_that_pip_gives(course):
    pip = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--retries=1", "--timeout=5"]
    closed = subprocess.run([*pip, "--index-url=http://127.0.0.1:9/simple", "absent"], capture_output=True, text=True)
    assert closed.returncode and "could not be reached" in course.explain(closed.stderr)
    absent = subprocess.run([*pip, "--no-index", "absent"], capture_output=True, text=True)
    assert absent.returncode and "no build for this Python" in course.explain(absent.stderr)


def test_a_full_disk_is_noticed_before_anything_is_made(course, monkeypatch):
    monkeypatch.setattr(course, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(course.shutil, "disk_usage", lambda path: SimpleNamespace(free=1.2e9))
    with pytest.raises(SystemExit) as error:
        course.set_up()
    assert "needs about 3 GB and only 1.2 GB are free" in paragraph(error)
    assert not course.VENV.exists()


def test_a_python_without_venv_is_told_the_package(course, monkeypatch):
    said = "The virtual environment was not created successfully because ensurepip is not available."
    failed = SimpleNamespace(returncode=1, stdout=said)
    monkeypatch.setattr(course.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit) as error:
        course.make_environment()
    assert "apt install python3-venv" in paragraph(error)


def test_a_broken_environment_is_made_anew(course, calls, monkeypatch):
    course.set_up()
    calls()
    (course.VENV / "pyvenv.cfg").write_text("home = /nowhere\n")
    course.PYTHON.unlink()
    assert not course.environment_works()
    monkeypatch.setattr(course, "make_environment", lambda: venv.create(course.VENV, clear=True, with_pip=False))
    monkeypatch.setattr(course, "pip_install", lambda *arguments: (True, ""))
    course.set_up()
    assert course.PYTHON.exists() and course.STAMP.read_text() == course.fingerprint()


# The commands


def test_commands_pass_arguments_on_and_exit_codes_back(folder, course, calls):
    course.set_up("test")
    calls()
    assert course.main(["test", "-k", "samplers", "-x", "-n", "0"]) == 3
    assert calls() == [["pytest", "--skip-passed", "-k", "samplers", "-x", "-n", "0"]]
    assert course.main(["demo", "--steps", "5"]) == 0
    assert calls() == [["diffusion_lib/__main__", "--steps", "5"]]
    for command in ("check", "outputs", "slides", "grade"):
        assert course.main([command, "03", "-x"]) == 0
        assert calls() == [[f"tools/{command}", "03", "-x"]]
    assert course.main(["setup"]) == 0
    assert calls() == []


# How many tests at once

SKIP = "--skip-passed"  # lessons that passed just as they are
EVERYTHING = ["-m", "not browser and not network"]


@pytest.mark.parametrize(
    "cores, free, count",
    [(1, None, 1), (2, None, 2), (64, None, 8), (64, 100.0, 8), (8, 7.9, 3), (8, 0.5, 1), (2, 100.0, 2), (8, 16.0, 8)],
)
def test_there_is_a_process_a_core_as_far_as_memory_goes(course, cores, free, count):
    assert course.processes(cores, free) == count


def test_cores_and_memory_are_those_of_this_process(course, monkeypatch):
    assert 1 <= course.usable_cores() <= course.os.cpu_count()
    monkeypatch.setattr(course.os, "sched_getaffinity", lambda _: {3, 5, 6}, raising=False)
    assert course.usable_cores() == 3
    monkeypatch.delattr(course.os, "sched_getaffinity")
    monkeypatch.setattr(course.os, "cpu_count", lambda: None)
    assert course.usable_cores() == 1

    lines = "MemTotal:       24000000 kB\nMemFree:  1000 kB\nMemAvailable:    4000000 kB\n"
    monkeypatch.setattr(course.Path, "read_text", lambda path, encoding: lines)
    assert course.free_gigabytes() == pytest.approx(4.096)
    monkeypatch.setattr(course.Path, "read_text", lambda path, encoding: "MemTotal: 1 kB\n")
    assert course.free_gigabytes() is None

    def no_such_file(path, encoding):
        raise FileNotFoundError

    monkeypatch.setattr(course.Path, "read_text", no_such_file)
    assert course.free_gigabytes() is None


@pytest.fixture
def tested(folder, course, calls, monkeypatch):
    """Runs `course.py test` on a machine of 5 cores and 4.5 GB; returns pytest's arguments and its threads."""
    course.set_up("test")
    calls()
    monkeypatch.setattr(course, "usable_cores", lambda: 5)
    monkeypatch.setattr(course, "free_gigabytes", lambda: 4.5)

    def tested(*arguments):
        assert course.main(["test", *arguments]) == 3
        ((_, *given),) = calls()
        return given, (folder / "calls.txt.threads").read_text()

    return tested


def test_tests_run_on_all_cores_with_a_share_of_the_threads(tested, monkeypatch):
    spread = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    assert tested() == ([SKIP, *spread], "2")
    assert tested("tests/core", "-k", "not slow") == ([SKIP, *spread, "tests/core", "-k", "not slow"], "2")
    assert tested("-x", "--all", "-q") == ([*EVERYTHING, *spread, "-x", "-q"], "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert tested("--again") == (spread, "7")
    monkeypatch.setenv("CI", "true")
    assert tested() == (spread, "7")


@pytest.mark.parametrize(
    "own",
    [["-n", "3"], ["-n0"], ["-nauto"], ["--numprocesses=4"], ["--dist=load"], ["-p", "no:xdist"], ["-pno:xdist"],
     ["--pdb"], ["--trace"], ["-s"]],
    ids=" ".join,
)  # fmt: skip
def test_who_says_how_tests_are_spread_is_obeyed(tested, own):
    assert tested(*own) == ([SKIP, *own], "")
    assert tested("--all", "tests/core", *own) == ([*EVERYTHING, "tests/core", *own], "")


def test_other_plugins_and_names_do_not_count_as_a_wish(tested):
    given, threads = tested("-p", "no:cacheprovider", "-k", "noise", "--no-header")
    assert given[:3] == [SKIP, "-n", "2"] and given[-1] == "--no-header" and threads == "2"


def test_pytest_knows_these_options(pytestconfig):
    if not pytestconfig.pluginmanager.hasplugin("xdist"):
        pytest.skip("pytest-xdist is switched off")
    for option in ("-n", "--dist", "--no-loadscope-reorder", SKIP):
        pytestconfig.getoption(option)  # an unknown one is a ValueError


@pytest.mark.parametrize(
    "arguments, notebook, options",
    [
        ([], "00_start.ipynb", []),
        (["03"], "03_network.ipynb", []),
        (["3", "--no-browser"], "03_network.ipynb", ["--no-browser"]),
        (["--port=9000"], "00_start.ipynb", ["--port=9000"]),
    ],
)
def test_lab_opens_the_lesson(folder, course, calls, arguments, notebook, options):
    assert course.main(["lab", *arguments]) == 0
    opened = [f"--ServerApp.root_dir={folder}", str(folder / "notebooks" / notebook), *options]
    assert calls()[-1] == ["jupyterlab", *opened]


@pytest.mark.parametrize(
    "arguments, number, options",
    [([], "00", []), (["3", "--no-browser"], "03", ["--no-browser"]), (["--port=9000"], "00", ["--port=9000"])],
)
def test_present_builds_the_notes_and_shows_the_lesson(folder, course, calls, capfd, arguments, number, options):
    course.set_up("present")
    calls()
    assert course.main(["present", *arguments]) == 0
    assert calls() == [["tools/slides", number, "--notes"], ["tools/presenting", number, *options]]
    said = capfd.readouterr().out
    assert f"{number}_notes.html" in said and "Shift+Enter" in said


def test_a_lesson_is_presented_without_notes_when_there_are_none(folder, course, calls, monkeypatch, capfd):
    course.set_up("present")
    calls()
    monkeypatch.setenv("FAIL", "--notes")
    monkeypatch.setenv("SAYS", "a formula is wrong")
    assert course.main(["present", "3"]) == 0
    assert calls()[-1] == ["tools/presenting", "03"]
    shown = capfd.readouterr()
    assert "course.py slides 03 --notes' says why" in shown.out and "a formula" not in shown.out + shown.err

    (folder / "tools/slides.py").unlink()
    assert course.main(["present", "3"]) == 0
    assert calls() == [["tools/presenting", "03"]]
    assert "notes" not in capfd.readouterr().out


# set-repo

OLD = "diffusion-course/diffusion-course"


@pytest.fixture
def repository(folder):
    slug_lines = [
        f"[![Colab](badge.svg)](https://colab.research.google.com/github/{OLD}/blob/main/notebooks/00_start.ipynb)",
        f"git clone https://github.com/{OLD}.git\r",
        "cd diffusion-course",
        f"https://codespaces.new/{OLD}?quickstart=1 and https://github.com/{OLD}.",
    ]
    others = f"github.com/{OLD}-extra github.com/x{OLD} github.com/{OLD}.js cd diffusion-course-2"
    (folder / "README.md").write_bytes("\n".join([*slug_lines, others, "é"]).encode())
    (folder / "notebooks/00_start.ipynb").write_text(json.dumps({"source": slug_lines}))
    (folder / ".github/workflows").mkdir(parents=True)
    (folder / ".github/workflows/ci.yml").write_text(f"# {OLD}\n")
    (folder / "other.md").write_text(OLD)
    return SimpleNamespace(folder=folder, others=others, links=len(slug_lines))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_set_repo_rewrites_every_link_and_nothing_else(repository, course, capsys):
    folder = repository.folder
    assert course.main(["set-repo", "ada-l/diffusion_2.0"]) == 0
    readme = (folder / "README.md").read_bytes().decode()
    assert readme.count("ada-l/diffusion_2.0") == 4 and repository.others in readme
    assert "git clone https://github.com/ada-l/diffusion_2.0.git\r\ncd diffusion_2.0\n" in readme
    assert "ada-l/diffusion_2.0/blob" in json.loads((folder / "notebooks/00_start.ipynb").read_text())["source"][0]
    assert (folder / ".github/workflows/ci.yml").read_text() == "# ada-l/diffusion_2.0\n"
    assert 'Repository = "https://github.com/ada-l/diffusion_2.0"' in (folder / "pyproject.toml").read_text()
    assert (folder / "other.md").read_text() == OLD
    assert "README.md: diffusion-course/diffusion-course is now ada-l/diffusion_2.0" in capsys.readouterr().out

    before = contents(folder)
    assert course.main(["set-repo", "ada-l/diffusion_2.0"]) == 0
    assert contents(folder) == before and not list(folder.rglob("*.part"))
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [[], ["ada"], ["ada/a", "b"], ["https://github.com/ada/a"], ["ada/a/b"], ["-ada/a"], ["ada/.."], ["ada/a b"],
     ["ada/a.git"], ['ada/"'], ["ada/ä"], ["ada/"], ["ada/a\n"]],
)  # fmt: skip
def test_set_repo_refuses_what_is_not_a_repository(repository, course, arguments):
    before = contents(repository.folder)
    with pytest.raises(SystemExit) as error:
        course.main(["set-repo", *arguments])
    assert "OWNER/NAME" in paragraph(error)
    assert contents(repository.folder) == before


def test_an_interrupted_set_repo_can_be_repeated(repository, course, monkeypatch):
    replace, left = course.os.replace, iter([True, True])

    def fails_at_the_third_file(*paths):
        if not next(left, False):
            raise OSError("power cut")
        replace(*paths)

    monkeypatch.setattr(course.os, "replace", fails_at_the_third_file)
    with pytest.raises(OSError, match="power cut"):
        course.main(["set-repo", "ada/lessons"])
    monkeypatch.setattr(course.os, "replace", replace)
    course.main(["set-repo", "ada/lessons"])
    for name in ("README.md", "notebooks/00_start.ipynb", ".github/workflows/ci.yml", "pyproject.toml"):
        text = (repository.folder / name).read_text(encoding="utf-8")
        assert "ada/lessons" in text and OLD not in text.replace(repository.others, "")


def test_set_repo_leaves_no_old_name_in_the_real_files(tmp_path):
    names = ["course.py", "pyproject.toml", "README.md", "tools/setup_cell.py", ".github/workflows/ci.yml"]
    names += [str(path.relative_to(ROOT)) for path in (ROOT / "notebooks").glob("*.ipynb")]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    old = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("Repository"))
    slug = old.split("github.com/")[1].rstrip('"')
    assert run(tmp_path, "set-repo", "ada/lessons").returncode == 0
    for name in names:
        assert slug not in (tmp_path / name).read_text(encoding="utf-8"), name


# Checking a lesson


@pytest.fixture
def checked(tmp_path, monkeypatch, capsys):
    """Checks a lesson with one rule, and a stand-in for pytest whose exit codes the test chooses."""
    (tmp_path / "notebooks").mkdir()
    write_lesson(tmp_path / "notebooks/05_ddpm.ipynb", [("x = 1", [])])
    stand_in = (
        "import sys; code = {}[sys.argv[1][-6:]]; print('pytest', sys.argv[1:]); print('two lines'); sys.exit(code)"
    )
    monkeypatch.setattr(check.rules, "RULES", [lambda notebook, path: complaints])
    complaints = []

    def checked(exercises=0, outputs=0, rules=()):
        complaints[:] = rules
        script = stand_in.format({"rcises": exercises, ".ipynb": outputs})
        monkeypatch.setattr(check, "PYTEST", [sys.executable, "-c", script])
        code = check.main(["5"], root=tmp_path)
        return code, capsys.readouterr().out

    return checked


def test_a_lesson_that_is_right_is_said_to_be(checked):
    code, said = checked()
    assert code == 0 and said.endswith("lesson 05 is right\n")
    assert (
        "rules       no complaints\nexercises   two lines\noutputs     two lines\n" in said and "pytest [" not in said
    )
    assert checked(exercises=5)[0] == 0


@pytest.mark.parametrize(
    "faults, words",
    [
        ({"rules": ["no title"]}, ["rules       1 complaint\n", "---- rules\nno title\n", "not right yet: rules."]),
        ({"exercises": 1}, ["---- exercises\npytest ['tests/exercises', '-k', '05. or lesson_05 or _05.py']\n"]),
        ({"outputs": 1}, ["05_ddpm.ipynb']\ntwo lines\n", "not right yet: outputs.", "python course.py outputs 05"]),
        (
            {"outputs": 2, "exercises": 1, "rules": ["a", "b"]},
            ["2 complaints", "not right yet: rules, exercises, outputs."],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_is_not_right_is_shown_after_the_verdict(checked, faults, words):
    code, said = checked(**faults)
    assert code == 1 and [word for word in words if word not in said] == []


@pytest.mark.all
def test_a_lesson_s_exercises_are_selected_by_its_number():
    asked = [*check.PYTEST, "tests/exercises", "--collect-only", "-k", check.NAMED.format("10")]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for name in ("[10.1]", "[10.2-", "test_exercises_10.py::"):
        assert name in done.stdout
    assert not re.search(r"\[(0\d|11|12)\.\d", done.stdout) and "test_exercises_12.py" not in done.stdout


# Storing outputs

LESSON = [
    ("import sys\nimport matplotlib.pyplot as plt\nfrom tqdm.auto import tqdm\nimport ipywidgets", []),
    ("for _ in tqdm(range(3)):\n    pass\nprint('noise', file=sys.stderr)\nprint('kept')", []),
    ("plt.plot([1, 2])\nplt.show()\nplt.plot([2, 1])\nplt.show()", ["figure:a-line"]),
    ("_ = ipywidgets.interact(lambda x: print(x), x=(0, 3))", []),
    ("2 + 3", []),
]


def write_lesson(path, cells):
    notebook = nbformat.v4.new_notebook(metadata={"widgets": {}, "colab": {"a": 1}})
    for k, (source, tags) in enumerate(cells):
        metadata = {"tags": tags, "execution": {"iopub.status.busy": "now"}, "slideshow": {"slide_type": "slide"}}
        notebook.cells.append(nbformat.v4.new_code_cell(source, id=f"own-{k}", metadata=metadata, execution_count=7))
    nbformat.write(notebook, path)


@pytest.fixture
def lessons(tmp_path):
    (tmp_path / "notebooks").mkdir()
    write_lesson(tmp_path / "notebooks/00_good.ipynb", LESSON)
    write_lesson(tmp_path / "notebooks/01_bad.ipynb", [("x = 1", []), ("x / 0", [])])
    write_lesson(tmp_path / "notebooks/02_no_picture.ipynb", [("print('no picture')", ["figure:b"])])
    return tmp_path


@pytest.mark.all
def test_outputs_are_stored_clean_and_the_same_twice(lessons, capsys):
    path = lessons / "notebooks/00_good.ipynb"
    assert outputs.main(["0", "--timings", str(lessons / "timings.json")], root=lessons) == 0
    assert "cell 2 wrote to stderr, which is not stored: noise" in "".join(capsys.readouterr())
    notebook = nbformat.read(path, as_version=4)
    cells = notebook.cells
    assert [cell.id for cell in cells] == [f"own-{k}" for k in range(5)]
    assert [cell.execution_count for cell in cells] == [1, 2, 3, 4, 5]
    assert all(set(cell.metadata) == {"tags", "slideshow"} for cell in cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info", "colab"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert [(output.name, output.text) for output in cells[1].outputs] == [("stdout", "kept\n")]
    assert cells[3].outputs[0].data == {"text/html": outputs.WIDGET_NOTE} and len(cells[3].outputs) == 1
    assert cells[4].outputs[0].data == {"text/plain": "5"}
    assert (lessons / "figures/a-line.png").read_bytes() == outputs.figures(notebook)["a-line"]
    timings = json.loads((lessons / "timings.json").read_text())
    assert list(timings["seconds"]) == ["00"] and timings["machine"].startswith(("cpu", "cuda", "mps"))

    first = path.read_bytes()
    assert outputs.main(["00"], root=lessons) == 0
    assert path.read_bytes() == first
    # What was changed by hand passes the comparison that CI makes.
    test = [sys.executable, "-m", "pytest", "-q", str(path), "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    compared = subprocess.run(test, cwd=ROOT, capture_output=True, text=True)
    assert "5 passed" in compared.stdout, compared.stdout + compared.stderr


@pytest.mark.all
def test_a_failing_lesson_keeps_its_file_and_is_named(lessons, capsys):
    before = contents(lessons / "notebooks")
    assert outputs.main([], root=lessons) == 1
    said = "".join(capsys.readouterr())
    assert "lesson 01, cell 2: CellExecutionError" in said and "ZeroDivisionError" in said
    assert "cell 1 is tagged 'figure:b' and shows no picture" in said
    assert "failed: lesson 01, 02" in said
    after = contents(lessons / "notebooks")
    assert {str(name) for name in before if before[name] != after[name]} == {"00_good.ipynb"}
    assert before.keys() == after.keys()


def test_unknown_lessons_are_named(lessons, capsys):
    with pytest.raises(SystemExit):
        outputs.main(["08"], root=lessons)
    assert "no lesson 08; there are 00, 01, 02" in capsys.readouterr().err


def test_a_figure_name_is_used_once():
    picture = nbformat.v4.new_output("display_data", data={"image/png": b64encode(b"picture").decode()})
    cell = nbformat.v4.new_code_cell("plot()", metadata={"tags": ["figure:a"]}, outputs=[picture])
    assert outputs.figures(nbformat.v4.new_notebook(cells=[cell])) == {"a": b"picture"}
    with pytest.raises(outputs.LessonFailed, match="figure:a"):
        outputs.figures(nbformat.v4.new_notebook(cells=[cell, nbformat.from_dict({**cell, "id": "b"})]))
    for name in ("../a", ""):
        cell.metadata.tags = [f"figure:{name}"]
        with pytest.raises(outputs.LessonFailed, match="not a new name"):
            outputs.figures(nbformat.v4.new_notebook(cells=[cell]))


def test_pictures_are_stored_with_their_alt_texts():
    def cell(pictures, **metadata):
        png = [nbformat.v4.new_output("display_data", data={"image/png": "iVBO"}) for _ in range(pictures)]
        return nbformat.v4.new_code_cell("plot()", outputs=[*png, said], metadata=metadata)

    said = nbformat.v4.new_output("stream", name="stdout", text="0.5\n")
    one, two, none = cell(1, alt="A line."), cell(2, alt=["First.", "Second."]), cell(1)
    outputs.clean(nbformat.v4.new_notebook(cells=[one, two, none]))
    assert one.outputs[0].metadata == {"image/png": {"alt": "A line."}}
    assert [o.metadata["image/png"]["alt"] for o in two.outputs[:2]] == ["First.", "Second."]
    assert none.outputs[0].metadata == {} and none.outputs[1].text == "0.5\n"


# What is said again keeps its bytes


def shown(fill, size=(24, 32)):
    """The PNG of a picture with its upper half in one grey, as base64."""
    array = np.full((*size, 3), 255, np.uint8)
    array[: size[0] // 2] = fill
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return b64encode(file.getvalue()).decode()


def ran(outputs, count=1, source="same()", id="own"):
    """A notebook of one cell with these outputs: a text for printed, a dict for data, a tuple for an error."""
    made = []
    for output in outputs:
        if isinstance(output, str):
            made.append(nbformat.v4.new_output("stream", name="stdout", text=output))
        elif isinstance(output, tuple):
            name, value, *traceback = output
            made.append(nbformat.v4.new_output("error", ename=name, evalue=value, traceback=traceback))
        else:
            made.append(nbformat.v4.new_output("execute_result", data=output, execution_count=count))
    cell = nbformat.v4.new_code_cell(source, id=id, outputs=made, execution_count=count)
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.parametrize(
    "old, new, kept",
    [
        (["loss 0.512, 7 steps\n"], ["loss 0.514, 7 steps\n"], True),
        (["loss 0.512, 7 steps\n"], ["loss 0.612, 7 steps\n"], False),
        (["loss 0.512, 7 steps\n"], ["loss 0.512, 8 steps\n"], False),
        (["loss 0.512, 7 steps\n"], ["loss 0.5121, 7 steps\n"], False),
        (["loss 0.512\n"], ["lost 0.512\n"], False),
        (["a\n"], ["a\n", {"text/plain": "5"}], False),
        ([{"text/plain": "5.01"}], [{"text/plain": "5.02"}], True),
        ([{"text/plain": "5.01", "text/html": "<b>"}], [{"text/plain": "5.01", "text/html": "<i>"}], False),
        ([{"text/plain": "<Figure>", "image/png": shown(90)}], [{"text/plain": "<Figure>"}], False),
        ([{"image/png": shown(90)}], [{"image/png": shown(91)}], True),
        ([{"image/png": shown(90)}], [{"image/png": shown(99)}], False),
        ([{"image/png": shown(90)}, "0.5\n"], [{"image/png": shown(91)}, "0.9\n"], False),
        ([{"image/svg+xml": "<svg/>"}], [{"image/svg+xml": "<svg />"}], False),
        ([("ValueError", "x is 0.51", "line 1")], [("ValueError", "x is 0.55", "line 1")], False),
        ([("ValueError", "x is 0.511", "line 1")], [("ValueError", "x is 0.512", "line 1")], True),
        ([("ValueError", "x is 0.511", "line 1")], [("TypeError", "x is 0.511", "line 1")], False),
        ([("ValueError", "x is 0.511", "line 1")], [("ValueError", "x is 0.511", "line 2")], False),
    ],
)  # fmt: skip
def test_an_output_is_new_only_if_a_reader_would_say_so(old, new, kept):
    stored, fresh = ran(old), ran(new)
    wanted = nbformat.writes(stored if kept else fresh)
    assert outputs.keep_what_is_said_again(fresh, stored) == ([] if kept else [1])
    assert nbformat.writes(fresh) == wanted


def test_a_cell_with_new_code_has_new_outputs():
    for change in ({"source": "other()"}, {"id": "other"}):
        fresh = ran(["0.514\n"], **change)
        assert outputs.keep_what_is_said_again(fresh, ran(["0.512\n"])) == [1]
        assert fresh.cells[0].outputs[0].text == "0.514\n"


def test_a_kept_output_has_the_fresh_count_and_alt_text():
    picture = {"image/png": shown(90)}
    stored, fresh = ran([picture], count=3), ran([{"image/png": shown(91)}], count=4)
    fresh.cells[0].outputs[0].metadata = {"image/png": {"alt": "Grey."}}
    assert outputs.keep_what_is_said_again(fresh, stored) == []
    (output,) = fresh.cells[0].outputs
    assert output.data == picture and output.execution_count == 4 == fresh.cells[0].execution_count
    assert output.metadata == {"image/png": {"alt": "Grey."}}


def test_a_stored_picture_is_reduced_once():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(64, 0)
    file = io.BytesIO()
    Image.fromarray(ramp).convert("RGBA").save(file, "PNG", compress_level=0)
    large = [{"image/png": b64encode(file.getvalue()).decode()}]
    fresh, again = ran(large), ran(large)
    outputs.keep_what_is_said_again(fresh, ran(large))
    small = fresh.cells[0].outputs[0].data["image/png"]
    assert len(small) < len(large[0]["image/png"]) / 4
    outputs.keep_what_is_said_again(again, fresh)
    assert again.cells[0].outputs[0].data["image/png"] == small


@pytest.mark.parametrize("code", [0, 2])
def test_the_demo_s_picture_is_reduced_and_replaced_only_by_another(tmp_path, monkeypatch, code):
    (tmp_path / "figures").mkdir()
    path = tmp_path / "figures/digits.png"

    def demo_that_draws(fill):
        def drawn(command, cwd):
            path.write_bytes(b64decode(shown(fill)))
            return SimpleNamespace(returncode=code)

        monkeypatch.setattr(outputs.subprocess, "run", drawn)
        assert outputs.demo(tmp_path) == code
        return path.read_bytes()

    first = demo_that_draws(90)
    assert first == (b64decode(shown(90)) if code else pictures.reduced(b64decode(shown(90))))
    if code == 0:
        assert demo_that_draws(91) == first
        assert demo_that_draws(120) not in (first, b64decode(shown(120)))
