#@title Set-up: run this cell first
# Finds the course (on Colab and Kaggle it is fetched, nothing is installed), chooses the device, says what to expect.
import importlib.util, os, pathlib, shutil, subprocess, sys

repository = os.environ.get("COURSE_REPOSITORY", "https://github.com/diffusion-course/diffusion-course")
known = importlib.util.find_spec("diffusion_lib")
if not (known and known.origin):
    here = pathlib.Path.cwd()
    beside = [here / "diffusion-course", here / "diffusion-course-2"]  # the second where the first is something else
    homes = [home for home in (here, *here.parents, *beside) if (home / "diffusion_lib" / "__init__.py").is_file()]
    if not homes:
        part = here / "diffusion-course.part"  # renamed when it is whole, so that no half course is ever used
        shutil.rmtree(part, ignore_errors=True)
        clone = ["git", "clone", "--quiet", "--depth", "1", repository, str(part)]
        never_ask = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        try:
            subprocess.run(clone, env=never_ask, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise RuntimeError("git, which fetches the course, is missing here. Install it and run this cell again, or "
                               f"download {repository} as a zip file and open the lesson in its folder.") from None
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"The course could not be fetched from {repository}. Check the network (on Kaggle, turn "
                               "on Internet in the notebook's settings) and run this cell again. git said: "
                               + " ".join(error.stderr.split())) from None
        homes = [part.rename(beside[beside[0].exists()])]
    sys.path.insert(0, str(homes[0]))

import diffusion_lib

device = diffusion_lib.start()
