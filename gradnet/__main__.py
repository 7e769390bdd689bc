"""Runs the command line as ``python -m gradnet``."""

from gradnet.cli.main import main

if __name__ == "__main__":
    main()
