"""`python -m ramiel_ir` is `ramiel-ir`."""

from ramiel_ir.cli import main

main()
