"""minute: what stands in for lesson 04's minute, and the code that records it."""

from diffusion_lib import measured, pretrained, training
from diffusion_lib.experiments import minute

from .common import CPU


def test_the_recorded_minute_is_lesson_04_s():
    """What stands in when the lesson is presented: eight looks, the digits legible at the end."""
    results, pictures = measured.read("minute"), measured.read_pictures("minute")
    looks = results["looks"]
    assert len(looks) == len(minute.LOOKS) + 1 and results["machine"]
    wanted = [60 * share for share in (*minute.LOOKS, 1)]
    assert all(share <= look["seconds"] < share + 4 for share, look in zip(wanted, looks)), looks
    steps, losses = ([look[key] for look in looks] for key in ("step", "average loss"))
    assert steps == sorted(steps) and steps[-1] >= 200 and losses[0] > 0.4 and losses[-1] < 0.15
    for name in ("raw", "average"):
        assert pictures[name].shape == (8, 10, 1, 28, 28)
    last = pictures["average"][-1]
    assert pretrained.classifier()(last).argmax(1).tolist() == list(range(10))


def test_a_minute_is_looked_at_as_it_goes(monkeypatch):
    """On a clock that each step moves by a second."""
    said, now, update = [], [0.0], training.EMA.update

    def step(ema):
        now[0] += 1
        update(ema)

    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(training.EMA, "update", step)
    results = minute.measure_minute(CPU, [3], said.append, seconds=1)
    looks, pictures = results["looks"], results["pictures"]
    assert len(said) == len(looks) == 2 and looks[0]["step"] == 1 and results["seed"] == 3
    assert {*looks[0]} == {"seconds", "step", "raw loss", "average loss"} and 0.9 < looks[0]["average loss"] < 1.1
    for name in ("raw", "average"):
        assert pictures[name].shape == (2, 10, 1, 28, 28) and str(pictures[name].dtype) == "uint8"
    assert pictures["raw"][0].std() > 1
