"""``python -m harness``: the ``harness`` command if its script is not on the path, as under torchrun."""

from harness.cli.main import main

if __name__ == "__main__":
    main()
