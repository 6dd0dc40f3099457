"""`python -m hespotex`."""

from hespotex.cli.main import main

if __name__ == "__main__":
    main()
