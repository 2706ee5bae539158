"""Evaluation: models beside each other and beside real video, on places that they were not trained on.

| file | holds |
|---|---|
| `command.py` | `aapt-video evaluate` |
| `evaluation.py` | all figures of one model, and of real video |
| `players.py` | what makes video: streams, and causal models of many steps |
| `rollouts.py` | where videos begin and how they are steered; each is made once |
| `reference.py` | real video: floors and controls |
| `measures.py` | what is kept of a video |
| `figures.py`, `frechet.py`, `flow.py`, `motion.py` | from measures to figures |
| `next_latent.py`, `obedience.py` | single predictions; exchanged captions |
| `networks.py`, `lessons.py`, `fitting.py`, `words.py`, `imagenet.py` | the measuring networks |
| `report.py`, `chart.py` | JSON, table, chart, contact sheets |
"""
