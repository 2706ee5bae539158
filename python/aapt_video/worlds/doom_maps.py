"""The maps of the doom world, and which of them are kept for tests.

A result on the reserved maps or seeds means something only as long as nothing was ever trained on them. So
the makers refuse them, unless test data is asked for; and test data is refused training seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

FIRST_TEST_SEED = 9000
"""Seeds from here on are reserved for test data."""
RESERVED_NUMBERS = (5, 11, 17, 23, 29)
"""Maps reserved for test data: numbers in both games, counted through the episodes (E2M2 is the 11th map of
Freedoom 1)."""


@dataclass(frozen=True)
class DoomMap:
    """One map of one WAD file that ships with ViZDoom."""

    wad: str
    """File, relative to ViZDoom's folder."""
    name: str
    """Name of the map inside the file."""
    reserved: bool
    """Whether only tests may see it."""
    scenario: bool = False
    """Whether the file only adds a map to a game."""

    @property
    def key(self) -> str:
        """The name by which users choose the map, such as `freedoom2/MAP01`."""
        return Path(self.wad).stem + ("" if self.scenario else f"/{self.name}")


def all_maps() -> tuple[DoomMap, ...]:
    """Every map, reserved ones included: 36 of Freedoom phase 1, 32 of phase 2, ViZDoom's my_way_home."""
    first = [f"E{episode}M{number}" for episode in range(1, 5) for number in range(1, 10)]
    second = [f"MAP{number:02d}" for number in range(1, 33)]
    maps = [
        DoomMap(wad, name, number in RESERVED_NUMBERS)
        for wad, names in (("freedoom1.wad", first), ("freedoom2.wad", second))
        for number, name in enumerate(names, 1)
    ]
    return (*maps, DoomMap("scenarios/my_way_home.wad", "map01", reserved=True, scenario=True))


def choose_maps(keys: tuple[str, ...], seed: int, test: bool) -> tuple[DoomMap, ...]:
    """The maps to capture.

    Args:
        keys: keys of the wanted maps; none means every map of the split.
        seed: seed of the capture.
        test: whether the data is for tests.
    Raises:
        ValueError: an unknown map; a reserved map or seed for training; a training seed for tests.
    """
    if test != (seed >= FIRST_TEST_SEED):
        kind = "test" if test else "training"
        remedy = "choose a larger one" if test else "choose a smaller one, or ask for test data (--test)"
        raise ValueError(
            f"seed={seed}: {kind} data takes seeds {'from' if test else 'below'} {FIRST_TEST_SEED}; {remedy}"
        )
    known = {m.key.lower(): m for m in all_maps()}
    if not keys:
        return tuple(m for m in known.values() if m.reserved == test)
    for key in keys:
        if key.lower() not in known:
            raise ValueError(
                f"maps={key!r}: no such map; there are freedoom1/E1M1..E4M9, freedoom2/MAP01..32, my_way_home"
            )
        if known[key.lower()].reserved and not test:
            raise ValueError(f"maps={key!r}: reserved for tests; leave it out, or ask for test data (--test)")
    return tuple(known[key.lower()] for key in keys)


def wad_path(wad: str) -> Path:
    """Path of a WAD file of the installed ViZDoom, found without loading the engine."""
    spec = find_spec("vizdoom")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the doom maker needs ViZDoom: pip install 'aapt-video[worlds]'")
    return Path(spec.origin).parent / wad
