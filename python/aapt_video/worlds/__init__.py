"""Worlds: makers of training video with known camera, and the dataset format that they share.

| maker  | source                          | what is known of each frame                             |
|--------|---------------------------------|---------------------------------------------------------|
| doom   | ViZDoom, Freedoom's maps        | camera, commanded control, captions from engine truth   |
| folder | any directory of videos         | nothing; captions from text files beside the videos     |
"""
