"""What was measured with this project, and how: studies, suites, searches, rows of results, programs."""
