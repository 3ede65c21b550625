"""What the lessons of the diffusion course share; the listing of its modules is the table of contents.

The core, in the order of the lessons: schedules, forward (lesson 01) - targets, denoisers (02) - networks (03) -
training (04) - samplers (05, 06) - metrics (07) - guidance (08) - editing (09) - tokens (10) - rivals (11).
What lessons stand on: session, data, downloads, files, costs (12), adapters, plots, widgets.
Shipped weights: recipes, pretrained. Committed numbers: measured, and experiments, which made them. And exercises.
"""

__version__ = "0.2.0"

from .session import expected_minutes, presenting, start  # noqa: E402  (session asks for the version)

__all__ = ["expected_minutes", "presenting", "start"]
