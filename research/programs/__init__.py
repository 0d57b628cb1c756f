"""Programs behind one table or picture of the pages here, each run as `python -m research.programs.NAME`."""
