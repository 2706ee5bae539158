"""The recipe: stages that turn an offline video diffusion transformer into a real-time one, and their trainer.

`README.md` beside this file has the table of stages, and what the paper leaves open. `stage.py` says what a stage is,
`loop.py` runs one, `losses.py` holds the formulas.
"""
