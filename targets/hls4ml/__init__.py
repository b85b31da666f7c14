"""hls4ml: an HLS project for AMD FPGAs, written from the integer graph and checked by C simulation.

`lower.py` decides every layer and the precision of every tensor (`layers.py` says what a layer is;
`products.py`, `requants.py`, `scale_layer.py`, `staircases.py`, `moves.py` lower the ops,
`rounding.py` finds how hls4ml rounds), `project.py` has hls4ml write it, `csim.py` builds and runs
the C simulation, `target.py` holds the options and ties them together.
"""
