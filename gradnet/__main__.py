"""Runs the command line as ``python -m gradnet``."""

from gradnet.cli import main

if __name__ == "__main__":
    main()
