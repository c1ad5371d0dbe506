"""A job's process that says one of its variables."""

import os


def main() -> None:
    print(os.environ.get("SFT_TEST_WORD"), flush=True)


if __name__ == "__main__":
    main()
