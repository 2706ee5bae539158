"""Pictures across the wire: uploads that cannot harm, encoders for what is shown, recordings."""

from __future__ import annotations

import io
import queue
import tempfile
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray
from PIL import Image

from aapt_video.video import Mp4Writer, fit_image

from .protocol import Kind

UPLOAD_LIMIT = 24 * 1024 * 1024
"""Bytes of an uploaded picture."""
PIXEL_LIMIT = 80_000_000
"""A phone's largest photos have 50 million."""
SIDE_LIMIT = 16_384
QUALITY = 85
RECORDING_SECONDS = 300
_BT709 = 1  # its number among the matrices of H.264 (ITU-T H.273)


class TooLarge(ValueError):
    """A picture with more pixels than are read."""


def read_upload(data: bytes, height: int, width: int) -> Image.Image:
    """A picture from the network, upright, cropped to [height, width]: the original is gone when this returns.

    Raises:
        ValueError: it is no JPEG, PNG or WebP, it is broken, or it is too large. The size is known before anything is
            decoded.
    """
    if len(data) > UPLOAD_LIMIT:
        raise ValueError(f"the picture has {len(data) / 1e6:.0f} MB; at most {UPLOAD_LIMIT / 1e6:.0f} MB are read")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            across, down = image.size
            if across * down > PIXEL_LIMIT or max(across, down) > SIDE_LIMIT:
                raise TooLarge(f"the picture is {across}x{down}; at most {PIXEL_LIMIT // 10**6} megapixels are read")
            image.draft("RGB", (2 * max(height, width),) * 2)  # a JPEG may be decoded at a part of its size
            return Image.fromarray(fit_image(image, height, width).numpy())
    except TooLarge:
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, farther out than ours
        raise TooLarge(f"the picture is huge; at most {PIXEL_LIMIT // 10**6} megapixels are read") from None
    except Exception:  # a decoder raises whatever it likes over broken data
        raise ValueError("the picture cannot be read; it must be a whole JPEG, PNG or WebP") from None


class Encoder:
    """The four pictures of a step as bytes. Only what is sent is encoded, so dropped frames break nothing."""

    def __init__(self, name: str, fps: float) -> None:
        self.name, self._fps = name, fps
        self._codec: av.VideoCodecContext | None = None
        self._count = 0
        self._key = True

    def restart(self) -> None:
        """The next picture stands on its own."""
        self._key = True

    def encode(self, frames: NDArray[np.uint8]) -> list[tuple[Kind, bytes]]:
        """uint8 [n, H, W, 3]"""
        if self.name == "raw":
            return [(Kind.RAW, picture.tobytes()) for picture in frames]
        if self.name == "jpeg":
            return [(Kind.JPEG, jpeg(picture)) for picture in frames]
        return [self._h264(picture) for picture in frames]

    def _h264(self, picture: NDArray[np.uint8]) -> tuple[Kind, bytes]:
        if self._codec is None:
            self._codec = self._open(*picture.shape[:2])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, self._count = self._count, self._count + 1
        frame.pict_type = PictureType.I if self._key else PictureType.NONE
        self._key = False
        packets = self._codec.encode(frame)  # zerolatency: one packet for each picture
        key = any(packet.is_keyframe for packet in packets)
        return (Kind.H264_KEY if key else Kind.H264), b"".join(bytes(packet) for packet in packets)

    def _open(self, height: int, width: int) -> av.VideoCodecContext:
        codec = av.CodecContext.create("libx264", "w")
        assert isinstance(codec, av.VideoCodecContext)
        codec.height, codec.width, codec.pix_fmt = height, width, "yuv420p"
        rate = Fraction(self._fps).limit_denominator(1001)
        codec.framerate, codec.time_base = rate, 1 / rate
        codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
        codec.thread_count = 1
        codec.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "baseline",
            "crf": "20",
            "forced-idr": "1",
            "g": "100000",
        }
        return codec


def jpeg(picture: NDArray[np.uint8] | Image.Image) -> bytes:
    """One picture uint8 [H, W, 3] as a file."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


class Recording:
    """A stream's pictures as an mp4 file, encoded in a thread of its own and handed out as bytes."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._left = int(RECORDING_SECONDS * fps)
        self._frames: queue.Queue[NDArray[np.uint8] | None] = queue.Queue(maxsize=64)
        self._folder = tempfile.TemporaryDirectory(prefix="aapt-video-")
        self._data: bytes | None = None
        self._thread = threading.Thread(target=self._run, name="aapt-video recording", daemon=True)
        self._thread.start()

    def add(self, frames: NDArray[np.uint8]) -> bool:
        """Takes a step's pictures; False when the recording is full, or encoding does not keep up: stop it then."""
        if self._left <= 0:
            return False
        self._left -= len(frames)
        try:
            self._frames.put_nowait(frames)
        except queue.Full:
            self._left = 0
            return False
        return True

    def finish(self) -> bytes | None:
        """Waits for the encoder; the file, or None where no picture came."""
        self._frames.put(None)
        self._thread.join()
        return self._data

    def _run(self) -> None:
        path = Path(self._folder.name) / "recording.mp4"
        with self._folder:
            first = self._frames.get()
            if first is None:
                return
            with Mp4Writer(path, self._fps) as writer:
                writer.add(first)
                while (frames := self._frames.get()) is not None:
                    writer.add(frames)
            self._data = path.read_bytes()
