"""What `course.py` runs around the lessons: grading, slides, presenting, storing outputs, the rules that every lesson
keeps, and watching and comparing a run. No lesson imports it, and it is not installed with diffusion_lib.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
