"""The goals of this project, one a line."""

from __future__ import annotations

from .goals import Goal


def _gpu(text: str, benchmark: str, case: str, metric: str, bound: float, at_least: bool = True) -> Goal:
    return Goal(text, benchmark, case, metric, bound, "at_least" if at_least else "at_most", "gpu")


def _ratio(text: str, benchmark: str, case: str, bound: float) -> Goal:
    return Goal(text, benchmark, case, "ratio", bound, "at_least", "cpu")


STEP = "whole latent frame with its decoder, seconds"

GOALS = (
    _ratio("CPU attention, bf16, 300 x 4800, 6 heads of 64, against torch SDPA", "attention", "bf16.*300", 2.0),
    _ratio("CPU attention, bf16, 1196 x 9568, 12 heads of 128, against torch SDPA", "attention", "bf16.*1196", 2.0),
    _ratio("CPU attention, float32, 300 x 4800", "attention", "f(loat)?32.*300", 1.2),
    _ratio("CPU attention, float32, 1196 x 9568", "attention", "f(loat)?32.*1196", 1.0),
    _gpu("attention, full waves, d 128, bf16, TFLOP/s", "attention_gpu", "waves", "TFLOP/s", 640),
    _gpu("paged against one contiguous page, 1196 rows", "attention_gpu", "paged.*1196", "paged ratio", 0.96),
    _gpu("1196 rows x (32 pages + text), 24 heads, against the best", "attention_gpu", "heads=24", "ratio", 1.05),
    _gpu("1196 rows x (32 pages + text), 32 heads, against the best", "attention_gpu", "heads=32", "ratio", 1.15),
    _gpu("1560 rows x 21 pages, 12 heads, against the best", "attention_gpu", "1560", "ratio", 1.5),
    _gpu(f"8B, 736x416, window 30: {STEP}", "step", "aapt-8b.*736x416", "p50_seconds", 0.08, False),
    _gpu("8B, 736x416, window 30: transformer", "step", "aapt-8b.*736x416", "transformer_seconds", 0.053, False),
    _gpu(f"8B, 1280x720, window 15, one GPU: {STEP}", "step", "aapt-8b.*1280x720", "p50_seconds", 0.166, False),
    _gpu(f"Wan 1.3B, 832x480, window 20: {STEP}", "step", "wan-1.3b.*832x480", "p50_seconds", 0.025, False),
)
