"""What a network will cost, told before it is built: structure by formula, the rest learned from
what tools made of other designs, each number with an interval and the tool whose numbers it tells.
"""
