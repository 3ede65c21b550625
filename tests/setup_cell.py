#@title Set-up: run this cell first
# Finds the course (on Colab it is fetched, nothing is installed), chooses the device, says what to expect.
import os, pathlib, subprocess, sys

repository = os.environ.get("COURSE_REPOSITORY", "https://github.com/diffusion-course/diffusion-course")
try:
    import diffusion_lib
except ImportError:
    here = pathlib.Path.cwd()
    places = [*here.parents, here, here / "diffusion-course"]
    homes = [folder for folder in places if (folder / "diffusion_lib").is_dir()]
    if not homes:
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", repository, "diffusion-course"], check=True)
        homes = [here / "diffusion-course"]
    sys.path.insert(0, str(homes[-1]))
    import diffusion_lib

device = diffusion_lib.start()
