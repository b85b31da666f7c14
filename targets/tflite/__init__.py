"""TFLite: an integer .tflite file, written straight from the integer graph, and run by its runtime.

`lower` turns the graph into operators, `arithmetic` says how the runtimes' kernels requantize and
finds the multipliers that are proven to give the graph's integers, `flatbuffer` writes the file,
`simulation` runs it, `target` holds the options.
"""
