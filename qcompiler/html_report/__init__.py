"""report.html: report.json for people, as one file that needs no network."""
