"""``python -m lcepatch`` is the command ``lcepatch``."""

from lcepatch._command import main

if __name__ == "__main__":
    main()
