"""The goals of this project, one a line."""

from __future__ import annotations

from .goals import Goal


def _gpu(text: str, benchmark: str, case: str, metric: str, bound: float, at_least: bool = True) -> Goal:
    return Goal(text, benchmark, case, metric, bound, "at_least" if at_least else "at_most", "gpu")


def _ratio(text: str, benchmark: str, case: str, bound: float) -> Goal:
    return Goal(text, benchmark, case, "ratio", bound, "at_least", "cpu")


def _attention(text: str, shape: str, bound: float) -> Goal:
    return _gpu(f"{text}, against the best", "attention_gpu", f"name={shape}", "ratio", bound)


def _share(operator: str, bound: float) -> Goal:
    text = f"{operator}, 1196 rows, 24 heads, cold L2: its bytes over its time, of a copy's"
    return _gpu(text, "cuda_rows", f"cache=cold case=bench_operator.{operator}-AAPT", "share of copy", bound)


STEP = "whole latent frame with its decoder, seconds"
PAPER = "decoder=light .*model=aapt-8b size=736x416 window=30 "
WIDE = "model=aapt-8b size=1280x720 window=15 "
WAN = "model=wan-1.3b size=832x480 window=20 "

BF16, FP32 = "dtype=torch.bfloat16 ", "dtype=torch.float32 "
SMALL, LARGE = ".*shape=300 x 4800", ".*shape=1196 x 9568"

PAPER_HEADS = "AAPT 736x416, 24 heads"

GOALS = (
    _ratio("CPU attention, bf16, 300 x 4800, 6 heads of 64, against torch SDPA", "attention", BF16 + SMALL, 2.0),
    _ratio("CPU attention, bf16, 1196 x 9568, 12 heads of 128, against torch SDPA", "attention", BF16 + LARGE, 2.0),
    _ratio("CPU attention, float32, 300 x 4800", "attention", FP32 + SMALL, 1.2),
    _ratio("CPU attention, float32, 1196 x 9568", "attention", FP32 + LARGE, 1.0),
    _gpu("attention, full waves, d 128, bf16, TFLOP/s", "attention_gpu", "name=full waves", "TFLOP/s", 640),
    _gpu("paged against one contiguous page, 1196 rows", "attention_gpu", f"name={PAPER_HEADS}", "paged ratio", 0.96),
    _attention("1196 rows x (32 pages + text), 24 heads", PAPER_HEADS, 1.05),
    _attention("1196 rows x (32 pages + text), 32 heads", "AAPT 736x416, 32 heads", 1.15),
    _attention("1560 rows x 21 pages, 12 heads", "Wan 1.3B 832x480, 20 past", 1.5),
    *(_share(operator, 0.85) for operator in ("cache_write", "modulate", "modulate_quantised", "quantise", "denoise")),
    _share("patch_embed", 0.5),
    _gpu(f"8B, 736x416, window 30, light decoder: {STEP}", "step", PAPER, "p50_seconds", 0.08, False),
    _gpu("the same: transformer, seconds", "step", PAPER, "transformer_seconds", 0.053, False),
    _gpu("the same, against the best alternative", "step", PAPER, "ratio", 1.1),
    _gpu(f"8B, 1280x720, window 15, one GPU: {STEP}", "step", WIDE, "p50_seconds", 0.166, False),
    _gpu(f"Wan 1.3B, 832x480, window 20: {STEP}", "step", WAN, "p50_seconds", 0.025, False),
    _gpu("the same, against the best alternative", "step", WAN, "ratio", 1.4),
)
