"""`python -m vtx`: the command line."""

from vtx.cli import main

if __name__ == "__main__":
    main()
