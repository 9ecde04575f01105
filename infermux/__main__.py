"""`python -m infermux` is `infermux`."""

from infermux.cli import main

if __name__ == "__main__":
    main()
