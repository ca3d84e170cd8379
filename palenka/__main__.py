"""`python -m palenka`."""

from palenka.cli import main

main()
