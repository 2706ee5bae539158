"""Video files: what is written comes back, whole or not at all, and nothing is stretched."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from aapt_video.video import Mp4Writer, contact_sheet, fit_image, read_video, write_mp4


def make_frames(count: int, height: int = 32, width: int = 48) -> torch.Tensor:
    """A bright bar that moves two pixels right per frame over a smooth ramp: uint8 [count, height, width, 3]."""
    ramp = torch.linspace(0, 120, height)[:, None, None].expand(height, width, 3)
    frames = ramp.expand(count, height, width, 3).clone()
    for i in range(count):
        frames[i, :, 2 * i % width : 2 * i % width + 2] = 250
    return frames.to(torch.uint8)


def disk(height: int, width: int, squeeze: float = 1) -> np.ndarray:
    """A white disk in the middle of black: uint8 [height, width, 3]; `squeeze` makes an ellipse of it."""
    y, x = np.mgrid[:height, :width]
    inside = (y - (height - 1) / 2) ** 2 + ((x - (width - 1) / 2) / squeeze) ** 2 < (height / 4) ** 2
    return np.repeat(inside[..., None], 3, axis=2).astype(np.uint8) * 255


def extent(picture: torch.Tensor) -> tuple[int, int]:
    """Height and width of what is bright."""
    bright = picture[..., 0] > 128
    return int(bright.any(1).sum()), int(bright.any(0).sum())


def gray_levels(path: Path, **options: float) -> list[int]:
    return [int(frame.float().mean().round()) for chunk in read_video(path, **options) for frame in chunk]


def write_levels(path: Path, levels: list[int], fps: float) -> None:
    """One flat gray picture per level."""
    write_mp4(path, (torch.full((1, 16, 16, 3), level, dtype=torch.uint8) for level in levels), fps, crf=1)


def test_a_video_comes_back_as_it_was_written(tmp_path: Path) -> None:
    frames = make_frames(11)
    path = tmp_path / "new folder" / "clip.mp4"
    assert write_mp4(path, [frames[:1], frames[1:5].numpy(), frames[5:]], fps=24, crf=5) == 11
    chunks = list(read_video(path, chunk=4))
    assert [len(chunk) for chunk in chunks] == [4, 4, 3]
    back = torch.cat(chunks)
    assert back.dtype == torch.uint8 and back.shape == frames.shape
    assert (back.float() - frames.float()).abs().mean() < 4
    assert [p.name for p in path.parent.iterdir()] == ["clip.mp4"]


def test_the_file_is_h264_that_browsers_play_at_the_rate_asked_for(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", [make_frames(6)], fps=29.97)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert {stream.codec_context.colorspace, stream.codec_context.color_primaries} == {1}  # BT.709
        assert abs(stream.average_rate - Fraction(2997, 100)) < 1e-3


def test_colours_survive_in_the_standard_that_players_assume(tmp_path: Path) -> None:
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 120, 40]], dtype=torch.uint8)
    write_mp4(tmp_path / "clip.mp4", [colours[:, None, None].expand(-1, 16, 16, -1)], crf=1)
    back = torch.cat(list(read_video(tmp_path / "clip.mp4")))[:, 8, 8]
    assert (back.int() - colours.int()).abs().max() <= 4
    with av.open(str(tmp_path / "clip.mp4")) as container:
        red = next(container.decode(video=0))
    assert abs(int(red.to_ndarray()[8, 8]) - 63) <= 1  # 16 + 219 * 0.2126, the luma of red in BT.709


def test_ctrl_c_keeps_what_is_done_as_a_playable_file(tmp_path: Path) -> None:
    def interrupted() -> Iterator[torch.Tensor]:
        yield make_frames(7)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mp4(tmp_path / "clip.mp4", interrupted())
    assert sum(len(chunk) for chunk in read_video(tmp_path / "clip.mp4")) == 7


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    def failing() -> Iterator[torch.Tensor]:
        yield make_frames(7)
        raise RuntimeError("the generator failed")

    path = tmp_path / "clip.mp4"
    write_mp4(path, [make_frames(2)])
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="the generator failed"):
        write_mp4(path, failing())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_appears_under_the_name_before_the_end(tmp_path: Path) -> None:
    with Mp4Writer(tmp_path / "clip.mp4") as writer:
        writer.add(make_frames(3))
        assert not (tmp_path / "clip.mp4").exists()
    assert (tmp_path / "clip.mp4").exists() and writer.count == 3


def test_frames_that_make_no_video_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with pytest.raises(ValueError, match=r"frames is 31x48; .* even"):
        write_mp4(path, [make_frames(2, height=31)])
    with pytest.raises(ValueError, match=r"frames is 16x48, those before were 32x48"):
        write_mp4(path, [make_frames(2), make_frames(2, height=16)])
    with pytest.raises(ValueError, match=r"frames is float32 .* must be uint8 \[n, H, W, 3\]"):
        write_mp4(path, [make_frames(2).float()])
    with pytest.raises(ValueError, match=r"frames is empty"):
        write_mp4(path, [])
    with pytest.raises(ValueError, match=r"frames is empty"):
        write_mp4(path, [make_frames(0)])
    with pytest.raises(ValueError, match=r"crf=60 must be in 0\.\.51"):
        write_mp4(path, [], crf=60)
    with pytest.raises(ValueError, match=r"fps=0 must be positive"):
        write_mp4(path, [], fps=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (None, [20, 60, 100, 140, 180, 220]),
        (24, [20, 60, 100, 140, 180, 220]),
        (12, [60, 140, 220]),
        (8, [60, 180]),
        (48, [20, 20, 60, 60, 100, 100, 140, 140, 180, 180, 220, 220]),
        (16, [20, 100, 140, 220]),
    ],
)
def test_another_rate_repeats_or_drops_pictures(tmp_path: Path, fps: float | None, expected: list[int]) -> None:
    write_levels(tmp_path / "clip.mp4", [20, 60, 100, 140, 180, 220], fps=24)
    levels = gray_levels(tmp_path / "clip.mp4", fps=fps)
    assert len(levels) == len(expected)
    assert max(abs(a - b) for a, b in zip(levels, expected, strict=True)) <= 3


@pytest.mark.parametrize("size", [(32, 32), (16, 48), (64, 96), (24, 20)])
def test_a_disk_stays_a_disk_in_every_size(tmp_path: Path, size: tuple[int, int]) -> None:
    write_mp4(tmp_path / "disk.mp4", [disk(64, 96)[None]], crf=5)
    from_video = next(read_video(tmp_path / "disk.mp4", *size))[0]
    from_image = fit_image(disk(64, 96), *size)
    for picture in (from_video, from_image):
        assert tuple(picture.shape) == (*size, 3)
        height, width = extent(picture)
        diameter = 32 * max(size[0] / 64, size[1] / 96)
        assert abs(width - min(diameter, size[1])) <= 2
        assert abs(height - min(diameter, size[0])) <= 2


def test_pixels_that_are_not_square_are_shown_as_they_are_meant(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(disk(64, 64, squeeze=0.5), format="rgb24")))
        container.mux(stream.encode(None))
    picture = next(read_video(tmp_path / "wide.mp4"))[0]
    assert tuple(picture.shape) == (64, 128, 3)
    height, width = extent(picture)
    assert abs(height - width) <= 2


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot make such a file")
def test_a_video_filmed_sideways_is_turned_upright(tmp_path: Path) -> None:
    upright = np.zeros((64, 32, 3), np.uint8)
    upright[:16] = 255  # white on top
    with av.open(str(tmp_path / "phone.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        stream.set_display_rotation(90)
        stored = np.ascontiguousarray(np.rot90(upright, -1))
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    for picture in (next(read_video(tmp_path / "phone.mp4"))[0], next(read_video(tmp_path / "phone.mp4", 32, 16))[0]):
        height, width, _ = picture.shape
        assert height == 2 * width
        assert picture[: height // 4 - 1].float().mean() > 230
        assert picture[height // 4 + 1 :].float().mean() < 25


def test_a_file_without_video_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
    with pytest.raises(ValueError, match="holds no video stream"):
        next(read_video(tmp_path / "sound.wav"))
    with pytest.raises(FileNotFoundError):
        next(read_video(tmp_path / "missing.mp4"))
    with pytest.raises(ValueError, match=r"height=32, width=None: give both"):
        next(read_video(tmp_path / "sound.wav", height=32))


def test_an_image_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 30:] = 255  # bright on the right: on top once turned
    exif = Image.Exif()
    exif[0x0112] = 8  # the camera was turned: show it rotated 90 degrees counter-clockwise
    Image.fromarray(picture).save(tmp_path / "photo.png", exif=exif)
    fitted = fit_image(tmp_path / "photo.png", 40, 20)
    assert torch.equal(fitted, torch.from_numpy(np.rot90(picture).copy()))


def test_images_of_every_kind_become_rgb(tmp_path: Path) -> None:
    gray = Image.fromarray(np.full((8, 8), 77, np.uint8))
    assert fit_image(gray, 4, 4).unique().tolist() == [77]
    assert fit_image(torch.full((8, 8, 3), 5, dtype=torch.uint8), 8, 8).unique().tolist() == [5]
    assert fit_image(gray.convert("RGBA"), 4, 4).shape == (4, 4, 3)
    with pytest.raises(ValueError, match=r"image is float32 \[8, 8, 3\]; it must be uint8"):
        fit_image(torch.zeros(8, 8, 3), 8, 8)


def test_a_contact_sheet_shows_every_picture_once_in_reading_order() -> None:
    frames = torch.arange(1, 6, dtype=torch.uint8)[:, None, None, None].expand(5, 4, 6, 3) * 50
    sheet = np.asarray(contact_sheet(frames, columns=3, gap=1))
    assert sheet.shape == (2 * 5 - 1, 3 * 7 - 1, 3)
    cells = [sheet[y : y + 4, x : x + 6] for y in (0, 5) for x in (0, 7, 14)]
    assert [set(cell.flatten().tolist()) for cell in cells] == [{50}, {100}, {150}, {200}, {250}, {0}]
    assert set(sheet[4].flatten().tolist()) == {0}
    with pytest.raises(ValueError, match=r"uint8 \[n >= 1, H, W, 3\]"):
        contact_sheet(frames[:0], columns=3)
