"""Quantization-aware training. Only `train.py`, `network.py` and `export.py` import torch."""
