"""hls4ml: an HLS project for AMD FPGAs, written from the integer graph and checked by C simulation.

`lower.py` decides every layer and the precision of every tensor, `project.py` has hls4ml write it,
`csim.py` builds and runs the C simulation, `target.py` holds the options and ties them together.
"""
