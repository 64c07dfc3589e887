from hiercorr.cli import main

main()
