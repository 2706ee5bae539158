"""Figures that can be reproduced: every one is a record (`record.py`), and the report is made from records alone."""
