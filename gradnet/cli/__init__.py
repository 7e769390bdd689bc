"""The command line: ``main`` finds the command, each command has a file.

Nothing is imported here, so that ``gradnet --help`` does not wait for torch.
"""
