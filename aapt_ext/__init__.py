"""Operators and pages of aapt-video."""
