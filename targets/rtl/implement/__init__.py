"""From Verilog to a part: synthesis by Yosys, place and route by nextpnr, and what came of it.

`implement.py` is the whole; it knows nothing of networks.
"""
