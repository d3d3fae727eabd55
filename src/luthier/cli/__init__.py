"""The command line: thin doors that ask the desk and print what it says."""
