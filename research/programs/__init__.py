"""Programs behind the tables and pictures of research/.

Each is run as `python -m research.programs.NAME`.
"""
