"""The data card: what a dataset holds and where it comes from, for a human reader."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from aapt_video.worlds.dataset import VideoDataset
from aapt_video.worlds.statistics import Statistics, measure


def write_card(root: Path) -> None:
    """Writes `card.md` into a dataset's folder, from its index and shards."""
    (root / "card.md").write_text(card(VideoDataset(root)))


def card(dataset: VideoDataset) -> str:
    """The card's text (Markdown)."""
    index = dataset.index
    clips = dataset.clips
    sources = Counter(clip.source for clip in clips)
    notes = [note for shard in dataset.shards.values() for note in shard.notes]
    lines = [
        f"# Data: {index['maker']} ({index['split']})",
        "",
        f"* {dataset.frames} frames; {len(clips)} clips, {len(sources)} sources",
        f"* {dataset.size[0]} x {dataset.size[1]} pixels, shown at {index['rate']} frames per second "
        f"({dataset.frames / index['rate'] / 60:.1f} minutes)",
        f"* video: {'H.264 in RGB, crf 12' if index['compress'] else 'raw uint8, memory-mapped'}",
        *(f"* {note}" for note in index["notes"]),
        "",
        "## Tracks",
        "",
        *([f"* `{name}`: {', '.join(columns)}" for name, columns in index["tracks"].items()] or ["none"]),
        "",
        "## Motion",
        "",
        *_motion(measure(dataset)),
        "",
        "## Licences",
        "",
        *(f"* {part}: {licence}" for part, licence in index["licences"].items()),
        "",
        "## Made with",
        "",
        f"* versions: {', '.join(f'{name} {version}' for name, version in index['versions'].items())}",
        *(f"* {name} = {value}" for name, value in index["config"].items()),
        "",
        "## Sources",
        "",
        *(f"* {source}: {count} clips" for source, count in sorted(sources.items())),
    ]
    if notes:
        lines += ["", "## Skipped", "", *(f"* {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _motion(statistics: Statistics | None) -> list[str]:
    return [f"* {line}" for line in statistics.lines()] if statistics else ["not known: there is no camera"]
