"""Worlds: makers of training video with known camera or pose, and the dataset format that they share.

| maker    | source                        | what is known of each frame                             |
|----------|-------------------------------|---------------------------------------------------------|
| doom     | ViZDoom, Freedoom's maps      | camera, commanded control, captions from engine truth   |
| humanoid | MuJoCo, a figure of our own   | pose (joints in the picture), captions of the actions   |
| folder   | any directory of videos       | nothing; captions from text files beside the videos     |
"""
