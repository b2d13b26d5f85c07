"""`python -m gradtoken` is the shell."""

from gradtoken.cli import main

main()
