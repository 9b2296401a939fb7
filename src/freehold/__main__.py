"""`python -m freehold` is `freehold`."""

from freehold.cli.app import main

if __name__ == "__main__":
    main()
