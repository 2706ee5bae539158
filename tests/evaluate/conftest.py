"""A small world, networks that measure it, and what they found in its real video."""

from __future__ import annotations

import pytest
import torch
from models import tiny_generator

from aapt_video.evaluate.fitting import Networks, measuring_networks
from aapt_video.evaluate.reference import measure_reference
from aapt_video.stream import save_generator
from aapt_video.train.shapes import ShapesConfig, make_shapes
from aapt_video.worlds.dataset import VideoDataset

from .made import FIT

CPU = torch.device("cpu")
SIZE = {"width": 48, "height": 32}


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    """Real video of a small world: the training split, and the held-out one."""
    root = tmp_path_factory.mktemp("world")
    make_shapes(root / "train", ShapesConfig(clips=120, frames=49, seed=0, **SIZE))
    make_shapes(root / "test", ShapesConfig(clips=24, frames=97, seed=9000, **SIZE))
    return root


@pytest.fixture(scope="package")
def held_out(world):
    return VideoDataset(world / "test")


@pytest.fixture(scope="package")
def networks(world) -> Networks:
    return measuring_networks(VideoDataset(world / "train"), world / "networks", FIT, CPU, quiet=True)


@pytest.fixture(scope="package")
def reference(held_out, networks, world):
    return measure_reference(held_out, networks, world / "kept", windows=1000, quiet=True)


@pytest.fixture(scope="package")
def model(world):
    save_generator(tiny_generator(text_tokens=20), world / "tiny")
    return world / "tiny"
