"""Which layers share channels, by tracing the network.

``groups`` finds them; ``layers`` and ``functions`` are the rules of single layers and
functions, ``calls`` and ``graphs`` the traced graph, ``streams`` the walk through it.
"""
