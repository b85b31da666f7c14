"""Pipelined Verilog of a whole network, one input a clock cycle, and its simulation.

Values are traced through da4ml's tracer, which shares sums between the outputs of a layer; what it
traced becomes one Verilog module, and a byte-wide stream around it.
"""
