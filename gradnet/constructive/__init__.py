"""Constructive networks of 1989 and 1990 on small problems, many trials in one batch.

``node_creation`` is Ash's dynamic node creation on the networks of ``node_networks``;
``cascade`` is cascade-correlation; ``quickprop`` trains both.
"""
