"""Set up, read and test the course on Linux, macOS or Windows. Needs Python 3.11 or newer, nothing else.

    python course.py lab [NN]             open JupyterLab on lesson 00, or on lesson NN
    python course.py present [NN]         show a lesson live as slides, with large type and speaker notes
    python course.py slides [NN ...]      build a hand-out per lesson (HTML, readable without a network) into slides/
    python course.py grade FILES          run students' notebooks and say per exercise untouched, wrong or right
    python course.py test [--all] [ARGS]  run the tests and every lesson, on all cores (ARGS go to pytest)
    python course.py check NN             check one lesson: its rules, its exercises, its stored outputs
    python course.py outputs [NN ...]     run the lessons again; store their outputs and the README's figures
    python course.py demo [ARGS]          sample digits from the shipped weights into a picture and a film
    python course.py setup [EXTRAS]       only prepare .venv, which those above use; EXTRAS: test, present, browser
    python course.py set-repo OWNER/NAME  after a fork: point badges and links at your GitHub repository

`python course.py COMMAND --help` says more of a command, with its options and an example.
The first run makes the folder .venv and installs into it (a few minutes); later runs reuse it. Nothing outside this
folder changes. Delete .venv to begin afresh.
"""

# The syntax stays readable for Python 3.6, so that an old Python can say that it is too old.
import hashlib
import inspect
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "course-setup.txt"
EXTRAS = {  # what some commands need on top of requirements.txt: the file, and those that it includes
    "test": ["requirements-test.txt", "requirements.txt"],
    "present": ["requirements-present.txt"],
    "browser": ["requirements-browser.txt", "requirements-present.txt"],
}
OLDEST = (3, 11)
GIGABYTE = 1e9
MOST_PROCESSES, PROCESS_GIGABYTES = 8, 2  # of pytest; a lesson's kernel needs up to 2 GB
NETWORK_SIGNS = ("NewConnectionError", "NameResolutionError", "Failed to establish a new connection", "timed out",
                 "getaddrinfo failed", "name resolution", "ConnectTimeout", "ProxyError", "SSLError",
                 "Connection aborted", "onnection broken", "Connection refused", "Network is unreachable")  # fmt: skip

PRESENTING_KEYS = (
    ("Space, Shift+Space", "on, and back"),
    ("Shift+Enter", "run the slide's code, and first what above it has not been run"),
    ("Enter, Escape", "into the code to edit it, and out again"),
    ("I I", "interrupt the code"),
    ("Shift+P", "out of the show, and back into it at the cell whose number you clicked"),
    ("F11", "the whole screen"),
)


def say(message):
    print("--> " + message, flush=True)


def stop(message):
    """Ends with one paragraph that says what happened and what to do."""
    paragraph = "course.py stopped: " + " ".join(message.split())
    raise SystemExit("\n" + textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False))


# ---- what this machine is


def check_machine(version, system, processor):
    if tuple(version[:2]) < OLDEST:
        stop(f"""this is Python {version[0]}.{version[1]} and the course needs Python {OLDEST[0]}.{OLDEST[1]} or newer.
             Get one from https://www.python.org/downloads/ and run course.py with it, for example:
             python3.13 course.py lab""")
    if (system, processor) == ("Darwin", "x86_64"):
        stop("""this Python is built for Intel Macs, for which PyTorch is not made any more. On a Mac with an Apple
             chip, install the universal Python from https://www.python.org/downloads/; on an Intel Mac, use the Colab
             badges in README.md.""")


def has_nvidia_gpu():
    tool = shutil.which("nvidia-smi")
    try:
        listed = tool and subprocess.run([tool, "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return bool(listed) and listed.returncode == 0 and b"GPU" in listed.stdout


def torch_index(system, gpu):
    """PyTorch's own package index where PyPI's build is the wrong one, else None."""
    if system == "Linux" and not gpu:  # PyPI's build for Linux brings 3 GB of CUDA along
        return "https://download.pytorch.org/whl/cpu"
    if system == "Windows" and gpu:  # PyPI's build for Windows has no CUDA
        return "https://download.pytorch.org/whl/cu130"
    return None


def check_disk(gpu):
    needed = 12 if gpu else 3
    free = shutil.disk_usage(str(ROOT)).free / GIGABYTE
    if free < needed:
        stop(f"""installing needs about {needed} GB and only {free:.1f} GB are free where the course lies ({ROOT}).
             Make room, or move the folder to a larger disk, and run the same command again.""")


# ---- the environment


def environment_works():
    """Whether .venv has a Python that runs, is new enough and has pip."""
    probe = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    try:
        return subprocess.run([str(PYTHON), "-c", probe], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def make_environment():
    say(f"making .venv with Python {platform.python_version()}")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)  # fmt: skip
    if made.returncode == 0:
        return
    if "ensurepip" in made.stdout or "No module named venv" in made.stdout:
        stop("""this Python comes without its venv module. Debian and Ubuntu keep it in a package of its own: run
             'sudo apt install python3-venv' and then the same command again.""")
    print(made.stdout)
    stop("the environment .venv could not be made. " + explain(made.stdout))


def fingerprint(*extras):
    """Changes with what is to be installed, the Python it goes into (pyvenv.cfg) and the place it is used from."""
    digest = hashlib.sha256(str(ROOT).encode())
    files = [ROOT / name for name in ("requirements.txt", "constraints.txt", "pyproject.toml", *extras)]
    for file in (*files, VENV / "pyvenv.cfg"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def explain(said):
    """One sentence on why pip (or venv) failed, from what it said."""
    if "No space left" in said or "not enough space" in said:
        return """The disk is full. Make room (pip also unpacks in the system's temporary folder, which TMPDIR can move)
               and run the same command again; what was installed is kept."""
    if any(sign in said for sign in NETWORK_SIGNS):
        return """The package index could not be reached. Check the network connection (behind a proxy, set HTTPS_PROXY)
               and run the same command again; what was installed is kept."""
    if "No matching distribution" in said:
        return f"""A package has no build for this Python ({platform.python_version()}, {platform.machine()}); the
                course is tested with 64-bit Python 3.11 to 3.13. Delete .venv and run course.py with one of those."""
    return "The lines above are its own; when they are dealt with, run the same command again."


def pip_install(*arguments):
    """Runs pip in .venv. Returns whether it worked, and what it said on stderr."""
    quiet = bool(os.environ.get("CI")) or STAMP.exists()  # after the first time most of it is there already
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *["--quiet"] * quiet, *arguments]
    process = subprocess.Popen(command, cwd=str(ROOT), stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    said = []
    for line in process.stderr:
        said.append(line)
        if not quiet:
            sys.stderr.write(line)
    worked = process.wait() == 0
    if quiet and not worked:
        sys.stderr.writelines(said[-20:])
    return worked, "".join(said)


def install(what, arguments):
    say("installing " + what)
    worked, said = pip_install(*arguments)
    if not worked:
        stop(f"pip could not install {what}. " + explain(said))


def install_torch(index):
    """The build of PyTorch that fits this machine. Not a reason to stop: the next step installs any that is missing."""
    version = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE).group()
    patience = [] if {"PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT"} & set(os.environ) else ["--timeout=10"]
    patience += [] if "PIP_RETRIES" in os.environ else ["--retries=1"]
    worked, said = pip_install(version, "--no-deps", "--extra-index-url", index, *patience)
    if not worked or any(sign in said for sign in NETWORK_SIGNS):
        say(f"{index} did not answer; pip takes a build from elsewhere (from PyPI, on Linux, up to 3 GB)")


def set_up(*extras):
    """Makes .venv and installs into it what is not there yet, and then the named extras."""
    if environment_works() and STAMP.exists() and STAMP.read_text() == fingerprint():
        say("the environment in .venv is up to date")
    else:
        install_course()
    for name in extras:
        stamp, wanted = VENV / f"course-setup-{name}.txt", fingerprint(*EXTRAS[name])
        if not stamp.exists() or stamp.read_text() != wanted:
            install(f"what {EXTRAS[name][0]} names, in the tested versions",
                    ["-r", EXTRAS[name][0], "-c", "constraints.txt"])  # fmt: skip
            stamp.write_text(wanted)


def install_course():
    gpu = has_nvidia_gpu()
    if not STAMP.exists():
        check_disk(gpu)
    if not environment_works():
        make_environment()
    say("an NVIDIA GPU is here: PyTorch with CUDA" if gpu else "no NVIDIA GPU here: PyTorch for the CPU")
    index = torch_index(platform.system(), gpu)
    if index:
        install_torch(index)
    for what, arguments in (
        ("what requirements.txt names, in the tested versions", ["-r", "requirements.txt", "-c", "constraints.txt"]),
        ("diffusion_lib, as a link to this folder", ["--no-deps", "--no-build-isolation", "-e", "."]),
    ):
        install(what, arguments)
    STAMP.write_text(fingerprint())
    show = "from importlib.metadata import version as v; print('--> ready: torch', v('torch') + ', numpy', v('numpy'))"
    subprocess.run([str(PYTHON), "-c", show])


def run(*arguments, **variables):
    """Runs the environment's Python in the course's folder and returns its exit code."""
    environment = dict(os.environ, PYTHONUTF8="1", **variables)
    process = subprocess.Popen([str(PYTHON), *arguments], cwd=str(ROOT), env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # Ctrl-C reaches the child too, and the child decides when to end
            continue


# ---- how many tests at once


def usable_cores():
    """Those that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_gigabytes():
    """Memory that programs may still take; None where there is no file that says it."""
    try:
        said = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", said, re.MULTILINE)
    return int(found.group(1)) * 1024 / GIGABYTE if found else None


def processes(cores, free):
    """How many processes run tests: one a core, as far as memory goes."""
    fitting = MOST_PROCESSES if free is None else int(free / PROCESS_GIGABYTES)
    return max(1, min(cores, MOST_PROCESSES, fitting))


def names_its_processes(arguments):
    """Whether these arguments of pytest say how its tests are spread, or need them all in one process."""
    own = ("-n", "--numprocesses", "--dist", "--tx", "-pno:xdist", "--pdb", "--trace", "--capture=no")
    split = ["-p" + value for option, value in zip(arguments, arguments[1:]) if option == "-p"]
    return any(argument == "-s" or argument.startswith(own) for argument in [*arguments, *split])


# ---- the commands: each takes the arguments after its name and returns an exit code; --help shows its docstring, or
# for those of TOOLS what tools/options.py says


def choose_lesson(arguments):
    """The lesson's number (two digits), its file and the further options."""
    lessons = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    options = list(arguments)
    number = options.pop(0) if options and not options[0].startswith("-") else "00"
    if number.zfill(2) not in lessons:
        stop(f"there is no lesson {number}; there are " + ", ".join(lessons) + ".")
    return number.zfill(2), lessons[number.zfill(2)], options


def lab(arguments):
    """python course.py lab [NN] [OPTIONS]

    Opens JupyterLab on lesson NN, or on lesson 00. OPTIONS are handed on to JupyterLab, such as --no-browser and
    --port=9000; `python course.py lab --help-all` has JupyterLab list its own. Ctrl-C ends it.

    example: python course.py lab 05 --no-browser
    """
    number, path, options = choose_lesson(arguments)
    set_up()
    say("opening JupyterLab; Ctrl-C in this window ends it")
    return run("-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}", str(path), *options)


def present(arguments):
    """python course.py present [NN] [OPTIONS]

    Shows lesson NN (or 00) live as slides in JupyterLab, with large type, and writes its speaker notes into slides/.
    It shows a copy, so the lesson stays as it is. OPTIONS are handed on to JupyterLab, such as --no-browser.

    Space goes on, Shift+Space back; Shift+Enter runs a slide's code, and first whatever above it has not been run yet:
    begin where you like. Shift+P leaves the show and returns to it.

    example: python course.py present 05
    """
    number, path, options = choose_lesson(arguments)
    set_up("present")
    notes = ROOT / "slides" / f"{number}_notes.html"
    if (ROOT / "tools/slides.py").exists():
        made = subprocess.run([str(PYTHON), "-m", "tools.slides", number, "--notes"], cwd=str(ROOT),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        if made.returncode == 0:
            say(f"speaker notes, for a window of your own: {notes}")
        else:
            say(f"no speaker notes; 'python course.py slides {number} --notes' says why")
    say(f"opening a copy of lesson {number} as slides; Ctrl-C in this window ends it")
    for keys, what in PRESENTING_KEYS:
        print(f"      {keys:<24}{what}", flush=True)
    return run("-m", "tools.presenting", number, *options)


def slides(arguments):
    set_up()
    return run("-m", "tools.slides", *arguments)


def grade(arguments):
    set_up()
    return run("-m", "tools.grade", *arguments)


def test(arguments):
    """python course.py test [--all] [--again] [ARGS]

    Runs the tests, and every lesson from top to bottom, comparing what it prints with what is stored. ARGS are handed
    on to pytest: a file or folder, -k WORDS, -x, -m MARK; `python course.py test --co -q` lists the tests.

    --all adds the long tests and the other walks through the lessons: solved, read-only and offline, as presented, on
    Colab's versions, on a simulated accelerator. Neither runs what needs a browser or the network (-m browser).

    A lesson that passed just as it is, with everything that its run depends on, is not run again; --again runs all, and
    so does --all, and so does CI.

    Tests run on all cores, a file a process, each process with its share of the cores (OMP_NUM_THREADS). Your own -n,
    --dist, -p no:xdist, --pdb or -s is left to decide; -n 0 is one process.

    example: python course.py test tests/core -k samplers
    """
    set_up("test")
    options = [argument for argument in arguments if argument not in ("--all", "--again")]
    everything = ["-m", "not browser and not network"] * ("--all" in arguments)
    if len(options) == len(arguments) and not os.environ.get("CI"):
        everything.append("--skip-passed")
    if names_its_processes(options):
        say("running the tests with pytest")
        return run("-m", "pytest", *everything, *options)
    cores = usable_cores()
    count = processes(cores, free_gigabytes())
    say(f"running the tests with pytest, {count} at a time")
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // count))
    spread = ["-n", str(count), "--dist", "loadfile", "--no-loadscope-reorder"]
    return run("-m", "pytest", *everything, *spread, *options, OMP_NUM_THREADS=threads)


def check(arguments):
    if not arguments:
        stop("check takes the number of a lesson, for example: python course.py check 05")
    choose_lesson(arguments)
    set_up("test")
    return run("-m", "tools.check", *arguments)


def demo(arguments):
    """python course.py demo [--folder FOLDER] [--steps STEPS] [--scale SCALE] [--seed SEED]

    Samples 64 digits from noise with the shipped weights and writes digits.png and film.gif into FOLDER (here). STEPS
    of the sampler (50), SCALE of the guidance (2, 1 for none) and SEED (0) are yours to choose.

    example: python course.py demo --steps 20 --seed 7
    """
    set_up()
    return run("-m", "diffusion_lib", *arguments)


def outputs(arguments):
    set_up()
    return run("-m", "tools.outputs", *arguments)


def setup(arguments):
    """python course.py setup [EXTRAS]

    Only prepares the environment in .venv. EXTRAS are what some commands need besides: test (for test and check),
    present (for present), browser (for the tests in a browser, `python course.py test -m browser`).

    example: python course.py setup test
    """
    if not set(arguments) <= set(EXTRAS):
        stop(f"setup takes nothing or some of {', '.join(EXTRAS)}, and was given: {' '.join(arguments)}.")
    set_up(*arguments)
    return 0


def set_repo(arguments):
    """python course.py set-repo OWNER/NAME

    After a fork: badges, links and the set-up cells point at https://github.com/OWNER/NAME instead. Nothing is
    installed; a second run changes nothing more.

    example: python course.py set-repo ada/diffusion-course
    """
    new = arguments[0] if len(arguments) == 1 else ""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\.+$)[\w.-]{1,100}(?<!\.git)", new, re.ASCII):
        stop(f"""set-repo takes one argument of the form OWNER/NAME, for example ada/diffusion-course, and was given:
             {" ".join(arguments) or "nothing"}.""")
    project = ROOT / "pyproject.toml"
    line = re.compile(r'^Repository = "https://github\.com/([\w.-]+/[\w.-]+)"', re.MULTILINE)
    found = line.search(project.read_text(encoding="utf-8"))
    if not found:
        stop('pyproject.toml has no line Repository = "https://github.com/OWNER/NAME", which says what to replace.')
    old = found.group(1)
    # The whole name, not the beginning of a longer one; "cd NAME" is the line after "git clone".
    link = re.compile(r"(?<![\w.-])" + re.escape(old) + r"(?![\w-])(?!\.(?!git\b)\w)")
    enter = re.compile(r"\bcd " + re.escape(old.split("/")[1]) + r"(?![\w.-])")
    files = [ROOT / "README.md", ROOT / "tools/setup_cell.py"]
    files += [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / ".github").rglob("*.*")]
    changed = {}
    for file in [*filter(Path.is_file, files), project]:  # pyproject last: it tells a repeated run what to replace
        text = file.read_bytes().decode("utf-8")
        replaced = enter.sub("cd " + new.split("/")[1], link.sub(new, text))
        if replaced != text:
            changed[file] = replaced
    for file, text in changed.items():
        part = file.with_name(file.name + ".part")
        part.write_bytes(text.encode("utf-8"))
        shutil.copymode(str(file), str(part))
        os.replace(str(part), str(file))
        say(f"{file.relative_to(ROOT)}: {old} is now {new}")
    say("done" if changed else f"nothing to do: the repository is {new} already")
    return 0


COMMANDS = {"lab": lab, "present": present, "slides": slides, "grade": grade, "test": test, "check": check,
            "outputs": outputs, "demo": demo, "setup": setup, "set-repo": set_repo}  # fmt: skip
TOOLS = ("slides", "grade", "check", "outputs")  # their command lines are read without .venv


def show_help(command):
    if command in TOOLS:
        return subprocess.run([sys.executable, "-m", "tools.options", command], cwd=str(ROOT)).returncode
    print(inspect.cleandoc(COMMANDS[command].__doc__) if command else __doc__.strip())
    return 0


def main(arguments):
    check_machine(sys.version_info, platform.system(), platform.machine())
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        return show_help(None)
    if command not in COMMANDS:
        stop(f"there is no command {command!r}; there are {', '.join(COMMANDS)} (--help says what they do).")
    if {"-h", "--help"} & set(arguments[1:2]):
        return show_help(command)
    return COMMANDS[command](arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
