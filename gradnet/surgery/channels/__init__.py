"""Which layers share channels, found by tracing the network.

Read ``groups`` first. ``layers`` and ``functions`` have the rules of single layers and
functions, ``graphs`` traces the network, ``calls`` wraps the nodes of its graph, and
``streams`` collects the tensors that share channels.
"""
