"""What all tests share: a printed seed, and the machine's backends."""

from __future__ import annotations

import os
import zlib

import hypothesis
import pytest
import torch

import aapt_ext

# CI repeats the same cases, so that a red run means a change; everywhere else every run draws new ones.
IN_CI = os.environ.get("CI") == "true"
hypothesis.settings.register_profile("here", deadline=None, max_examples=40, print_blob=not IN_CI, derandomize=IN_CI)
hypothesis.settings.load_profile("here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs an NVIDIA GPU")
    for item in items:
        if item.get_closest_marker("gpu") or item.get_closest_marker("sanitizer"):
            item.add_marker(skip)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A fresh seed for every run (in CI one per test), printed where the test fails; `AAPT_TEST_SEED` repeats one."""
    drawn = zlib.crc32(request.node.nodeid.encode()) if IN_CI else int.from_bytes(os.urandom(4), "little")
    value = int(os.environ.get("AAPT_TEST_SEED", drawn))
    print(f"seed: AAPT_TEST_SEED={value}")
    torch.manual_seed(value)
    return value


@pytest.fixture
def one_thread():
    """Tiny models gain nothing from a second thread, and bits are promised for one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _best_backend_after_each_test():
    yield
    aapt_ext.backend("auto")
