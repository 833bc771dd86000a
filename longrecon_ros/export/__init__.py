"""Nets as files for other runtimes: written, run, and compared with torch before they count."""
