"""The world that comes with the package: it loads, is small, and goes where the camera goes."""

from __future__ import annotations

import numpy as np
import pytest
from seen import shift

from aapt_video import load
from aapt_video.serve.path import follow
from aapt_video.stream import Generator
from aapt_video.stream.folder import SHIPPED

STEPS = 2  # 8 pictures, in which the turn is about 10 degrees: a ninth of the view


@pytest.fixture(scope="module")
def world() -> Generator:
    return load("doom", device="cpu")


def test_its_weights_are_small_enough_to_come_with_the_package():
    assert sum(path.stat().st_size for path in (SHIPPED / "doom").rglob("*.safetensors")) <= 12e6


def test_it_has_places_to_start_from_and_says_what_it_is(world):
    assert len(world.gallery) >= 8 and all(start.prompt for start in world.gallery)
    card = (SHIPPED / "doom" / "README.md").read_text()
    assert all(word in card for word in ("Freedoom", "BSD", "ViZDoom", "updates"))


def test_what_is_seen_slides_against_the_turn(world):
    """From every start: to the right where the camera turns left, to the left where it turns right."""
    right_way = 0
    for start in world.gallery:
        for words, sign in (("left 2s", 1), ("right 2s", -1)):
            with world.open(start.prompt, start.image, seed=1) as stream:
                pictures = [
                    np.asarray(stream.step(control)) for control in follow(words, world.speeds, world.fps)[:STEPS]
                ]
            moved = shift(np.asarray(start.image), pictures[1][-1])
            right_way += moved * sign > 0
    assert right_way >= 0.85 * 2 * len(world.gallery), right_way
