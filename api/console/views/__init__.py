"""The console's lists and pages."""
