"""Captions say what the engine knows: place, light, walls, liquids, objects."""

import pytest
from world_maps import two_rooms

from aapt_video.worlds.captions import compose, facts_at, merge_facts, object_word
from aapt_video.worlds.doom_path import Pose
from aapt_video.worlds.navigation import Grid, build_grid


@pytest.fixture(scope="module")
def grid() -> Grid:
    return build_grid(two_rooms())


def test_facts_name_the_walls_seen_and_the_light_of_the_place(grid: Grid) -> None:
    facts = facts_at(grid, Pose(100.0, 100.0, 225.0), ())
    assert facts["light"] == 96
    assert facts["walls"] == {"brick": 1.0}
    assert facts["liquids"] == {}


def test_a_narrow_place_is_a_corridor(grid: Grid) -> None:
    assert facts_at(grid, Pose(640.0, 256.0, 0.0), ())["place"] == "corridor"
    assert facts_at(grid, Pose(120.0, 400.0, 0.0), ())["place"] == "room"


def test_a_liquid_in_view_is_named_and_one_behind_is_not(grid: Grid) -> None:
    assert "lava" in facts_at(grid, Pose(860.0, 256.0, 0.0), ())["liquids"]
    assert "lava" not in facts_at(grid, Pose(860.0, 256.0, 180.0), ())["liquids"]


def test_only_objects_large_enough_to_see_are_named(grid: Grid) -> None:
    objects = (("GreenTorch", 0.05), ("Medikit", 0.0001), ("DoomPlayer", 0.2), ("TeleportFog", 0.3))
    assert facts_at(grid, Pose(100.0, 100.0, 0.0), objects)["objects"] == ["green torch"]


@pytest.mark.parametrize(
    ("name", "word"),
    [("HealthBonus", "potion"), ("ShortBlueTorch", "short blue torch"), ("NonsolidMeat4", "hanging remains")],
)
def test_engine_names_become_english(name: str, word: str) -> None:
    assert object_word(name) == word


def test_a_span_says_what_most_of_it_shows() -> None:
    dark = {"light": 80, "place": "room", "walls": {"brick": 0.9}, "liquids": {}, "objects": ["barrel"]}
    lit = {
        "light": 200,
        "place": "hall",
        "walls": {"steel": 0.1},
        "liquids": {"lava": 0.4},
        "objects": ["barrel", "shells"],
    }
    facts = merge_facts([dark, dark, dark, lit])
    assert compose(facts) == "a dark room of brick, lava, a barrel, shells"


def test_outdoors_is_said_first() -> None:
    facts = {"light": "lit", "place": "outdoors", "walls": ["rock", "steel"], "liquids": [], "objects": ["armour"]}
    assert compose(facts) == "outdoors under an open sky, walls of rock and steel, armour"
