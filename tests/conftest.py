"""Tests marked `gpu` skip themselves where there is no CUDA device, and no test has to be quick."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

# Hypothesis would fail an example that takes 200 ms, or data that is drawn slowly: on a busy machine that is any.
settings.register_profile("course", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("course")


os.environ.pop("PYTEST_ADDOPTS", None)  # pytest has read it; the runs of pytest that tests start are their own


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
