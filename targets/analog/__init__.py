"""Matrix-vector products on analog arrays, everything else digital: the arrays' targets, proven
without noise, and what the network still knows on chips that are noisy.

A chip is one programming of all layers. Its answer is that of the integer graph, with the sums of
the mapped layers replaced by what simulated devices and converters make of them.
"""
