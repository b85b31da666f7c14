"""TFLite: an integer .tflite file, written straight from the integer graph, and run by its runtime.

`lower` turns the graph into operators, `ways` says which kernels a runtime has and `arithmetic` how
they requantize, `fit` finds the multipliers that are proven to give the graph's integers,
`flatbuffer` writes the file, `simulation` runs it, `target` holds the options.
"""
