"""`python -m app`: the same as the command `bucketpost`."""

from app.cli.main import run

if __name__ == "__main__":
    run()
