"""Maps, free space and the walker: everything of the doom world that needs no engine."""

import struct
from pathlib import Path

import numpy as np
import pytest
from world_maps import two_rooms

from aapt_video.worlds.doom_maps import FIRST_TEST_SEED, all_maps, choose_maps
from aapt_video.worlds.doom_path import Command, PathConfig, Pose, Walker, moved
from aapt_video.worlds.navigation import PLAYER_RADIUS, Grid, build_grid
from aapt_video.worlds.wad import MapGeometry, map_names, read_map


@pytest.fixture(scope="module")
def grid() -> Grid:
    return build_grid(two_rooms())


def wad(lumps: list[tuple[str, bytes]]) -> bytes:
    """A WAD file of these lumps."""
    body, entries, at = b"", b"", 12
    for name, data in lumps:
        entries += struct.pack("<ii8s", at, len(data), name.encode())
        body, at = body + data, at + len(data)
    return struct.pack("<4sii", b"PWAD", len(lumps), at) + body + entries


def binary_lumps(geometry: MapGeometry) -> list[tuple[str, bytes]]:
    """A map in the original format; every line has its own vertexes and sides."""
    lines, sides, vertexes = b"", b"", b""
    for i, (x1, y1, x2, y2) in enumerate(geometry.lines.astype(int).tolist()):
        back = int(geometry.back[i])
        left = 0xFFFF if back < 0 else 2 * i + 1
        flags = 1 if back < 0 else 4
        lines += struct.pack("<7H", 2 * i, 2 * i + 1, flags, int(geometry.special[i]), 0, 2 * i, left)
        texture = geometry.wall[i].encode() or b"-"
        sides += struct.pack("<hh8s8s8sh", 0, 0, b"-", b"-", texture, int(geometry.front[i]))
        sides += struct.pack("<hh8s8s8sh", 0, 0, b"-", b"-", b"-", max(back, 0))
        vertexes += struct.pack("<4h", x1, y1, x2, y2)
    sectors = b"".join(
        struct.pack("<hh8s8shhh", int(f), int(c), ff.encode(), cf.encode(), int(light), 0, 0)
        for f, c, ff, cf, light in zip(
            geometry.floor, geometry.ceiling, geometry.floor_flat, geometry.ceiling_flat, geometry.light, strict=True
        )
    )
    things = b"".join(struct.pack("<5h", *(int(v) for v in thing), 7) for thing in geometry.things)
    parts = {"THINGS": things, "LINEDEFS": lines, "SIDEDEFS": sides, "VERTEXES": vertexes, "SECTORS": sectors}
    return [("E1M1", b""), *parts.items()]


def text_lumps(geometry: MapGeometry) -> list[tuple[str, bytes]]:
    """The same map as UDMF."""
    text = 'namespace = "zdoom";\n'
    sides = 0
    for i, (x1, y1, x2, y2) in enumerate(geometry.lines.tolist()):
        text += f"vertex {{ x = {x1}; y = {y1}; }}\nvertex // {i}\n{{ x = {x2}; y = {y2}; }}\n"
        back = int(geometry.back[i])
        tail = "blocking = true;" if back < 0 else f"twosided = true; sideback = {sides + 1};"
        text += f"linedef {{ v1 = {2 * i}; v2 = {2 * i + 1}; sidefront = {sides}; {tail} }}\n"
        texture = f'texturemiddle = "{geometry.wall[i]}";' if geometry.wall[i] else ""
        text += f"sidedef {{ sector = {geometry.front[i]}; {texture} }}\n"
        sides += 1
        if back >= 0:
            text += f"sidedef {{ sector = {back}; }}\n"
            sides += 1
    for i in range(len(geometry.floor)):
        text += (
            f"sector {{ heightfloor = {int(geometry.floor[i])}; heightceiling = {int(geometry.ceiling[i])}; "
            f'texturefloor = "{geometry.floor_flat[i]}"; textureceiling = "{geometry.ceiling_flat[i]}"; '
            f"lightlevel = {geometry.light[i]}; }}\n"
        )
    for x, y, angle, kind in geometry.things.astype(int).tolist():
        text += f"thing {{ x = {x}.0; y = {y}.0; angle = {angle}; type = {kind}; }}\n"
    return [("MAP01", b""), ("TEXTMAP", text.encode()), ("ENDMAP", b"")]


@pytest.mark.parametrize("write", [binary_lumps, text_lumps])
def test_a_map_is_read_from_both_formats(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    expected, lumps = two_rooms(), write(two_rooms())
    (tmp_path / "x.wad").write_bytes(wad([("CREDIT", b"abc"), *lumps]))
    assert map_names(tmp_path / "x.wad") == [lumps[0][0]]
    geometry = read_map(tmp_path / "x.wad", lumps[0][0].lower())
    for name in ("lines", "impassable", "special", "front", "back", "floor", "ceiling", "light", "things"):
        assert np.array_equal(getattr(geometry, name), getattr(expected, name)), name
    for name in ("wall", "floor_flat", "ceiling_flat"):
        assert getattr(geometry, name) == getattr(expected, name)
    with pytest.raises(ValueError, match="name='MAP77'"):
        read_map(tmp_path / "x.wad", "MAP77")


def test_a_file_that_is_no_wad_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.wad").write_bytes(b"RIFF" + bytes(20))
    with pytest.raises(ValueError, match="not a WAD"):
        map_names(tmp_path / "x.wad")


def test_free_space_ends_where_a_player_would_touch_a_wall(grid: Grid) -> None:
    assert grid.free(100, 100)
    assert grid.free(640, 256)  # in the corridor
    assert not grid.free(256, 256)  # inside the pillar
    assert not grid.free(640, 100)  # outside the map
    assert not grid.free(968, 210)  # at the rim of the pit
    rows, columns = np.nonzero(grid.component)
    centres = np.array([grid.centre((int(r), int(c))) for r, c in zip(rows, columns, strict=True)])
    walls = grid.geometry.lines[grid.geometry.back < 0]
    for x1, y1, x2, y2 in walls:
        along = np.clip(((centres - [x1, y1]) @ [x2 - x1, y2 - y1]) / ((x2 - x1) ** 2 + (y2 - y1) ** 2), 0, 1)
        nearest = np.stack([x1 + along * (x2 - x1), y1 + along * (y2 - y1)], axis=1)
        assert np.hypot(*(centres - nearest).T).min() >= PLAYER_RADIUS


def test_places_that_a_player_cannot_walk_between_are_different_components(grid: Grid) -> None:
    room, other, pit = (grid.component[grid.cell(*p)] for p in ((100, 100), (1200, 100), (1024, 256)))
    assert room == other != pit
    assert pit > 0
    with pytest.raises(ValueError, match="no way"):
        grid.route(grid.cell(100, 100), grid.cell(1024, 256))


def test_a_route_leads_through_free_space_only(grid: Grid) -> None:
    route = grid.route(grid.cell(60, 60), grid.cell(1200, 460))
    assert grid.cell(*route[0]) == grid.cell(60, 60)
    assert grid.cell(*route[-1]) == grid.cell(1200, 460)
    assert all(grid.free(x, y) for x, y in route)
    assert max(np.hypot(*np.diff(np.array(route), axis=0).T)) < 23  # cell by cell
    assert any(512 < x < 768 and 224 < y < 288 for x, y in route)


def test_rays_end_at_the_nearest_wall(grid: Grid) -> None:
    distance, line = grid.sight(256.0, 100.0, np.array([0.0, 90.0, 180.0, 270.0]))
    assert distance == pytest.approx([256.0, 124.0, 256.0, 100.0])
    assert (grid.geometry.back[line] < 0).all()


def walk(grid: Grid, config: PathConfig, seed: int, tics: int) -> tuple[list[Pose], list[Command]]:
    """A walker in an engine that stops it dead at walls."""
    walker = Walker(grid, config, np.random.default_rng(seed))
    poses, commands = [walker.start()], []
    for _ in range(tics):
        command = walker.step(poses[-1])
        there = moved(poses[-1], command)
        poses.append(there if grid.free(there.x, there.y) else Pose(poses[-1].x, poses[-1].y, there.angle))
        commands.append(command)
    return poses, commands


def test_a_walker_is_slow_and_smooth(grid: Grid, seed: int) -> None:
    config = PathConfig(speed=4.0, turn=1.5)
    _, commands = walk(grid, config, seed, 3000)
    values = np.array(commands)
    speed = np.hypot(values[:, 0], values[:, 1])
    assert speed.max() <= 4.0 + 1e-9
    assert np.abs(values[:, 2]).max() <= 1.5 + 1e-9
    changes = np.diff(values, axis=0)
    assert np.hypot(changes[:, 0], changes[:, 1]).max() <= config.acceleration + 1e-9
    assert np.abs(changes[:, 2]).max() <= config.turn_acceleration + 1e-9


def test_a_walker_gets_about_and_its_view_is_seldom_a_wall(grid: Grid, seed: int) -> None:
    poses, commands = walk(grid, PathConfig(push=0.0), seed, 6000)
    places = {grid.cell(pose.x, pose.y) for pose in poses}
    assert len(places) > 150  # of about 1700 cells of 16 x 16
    assert np.mean([np.hypot(c.forward, c.strafe) > 1.0 for c in commands]) > 0.5
    ahead = [grid.sight(pose.x, pose.y, np.array([pose.angle]))[0][0] for pose in poses[::10]]
    assert np.mean(np.array(ahead) < 40.0) < 0.1


def test_a_pushing_walker_holds_its_command_while_a_wall_blocks_it(grid: Grid) -> None:
    poses, commands = walk(grid, PathConfig(push=0.5), 3, 6000)
    way = np.hypot(*np.diff(np.array(poses)[:, :2], axis=0).T)
    asked = np.array([np.hypot(c.forward, c.strafe) for c in commands])
    blocked = (asked > 1.0) & (way < 0.5 * asked)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], blocked, [0]]))))[::2]
    assert (runs >= 15).sum() >= 5


def test_some_clips_start_at_rest(grid: Grid) -> None:
    def rests(share: float) -> int:
        starts = [walk(grid, PathConfig(still_start=share, still=0.0), seed, 6)[1] for seed in range(20)]
        return sum(all(command == Command() for command in commands) for commands in starts)

    assert rests(1.0) == 20
    assert rests(0.0) == 0


def test_a_seed_decides_the_walk(grid: Grid) -> None:
    assert walk(grid, PathConfig(), 5, 300) == walk(grid, PathConfig(), 5, 300)
    assert walk(grid, PathConfig(), 5, 300) != walk(grid, PathConfig(), 6, 300)


def test_impossible_habits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"= 1\.2"):
        PathConfig(held=0.8, turning=0.1, still=0.1, push=0.2)
    with pytest.raises(ValueError, match="positive"):
        PathConfig(speed=0.0)


def test_reserved_maps_and_seeds_are_refused_for_training() -> None:
    reserved = {m.key for m in all_maps() if m.reserved}
    assert reserved == {
        *("freedoom1/E1M5", "freedoom1/E2M2", "freedoom1/E2M8", "freedoom1/E3M5", "freedoom1/E4M2"),
        *("freedoom2/MAP05", "freedoom2/MAP11", "freedoom2/MAP17", "freedoom2/MAP23", "freedoom2/MAP29"),
        "my_way_home",
    }
    assert not {m.key for m in choose_maps((), 0, test=False)} & reserved
    for key in reserved:
        with pytest.raises(ValueError, match="reserved for tests"):
            choose_maps((key.upper(),), 0, test=False)
    with pytest.raises(ValueError, match="training data takes seeds below 9000"):
        choose_maps((), FIRST_TEST_SEED, test=False)


def test_test_data_takes_reserved_maps_and_only_reserved_seeds() -> None:
    assert all(m.reserved for m in choose_maps((), FIRST_TEST_SEED, test=True))
    assert [m.key for m in choose_maps(("freedoom2/map01",), 9001, test=True)] == ["freedoom2/MAP01"]
    with pytest.raises(ValueError, match="test data takes seeds from 9000"):
        choose_maps((), 8999, test=True)


def test_an_unknown_map_is_refused() -> None:
    with pytest.raises(ValueError, match="no such map"):
        choose_maps(("freedoom2/MAP33",), 0, test=False)
