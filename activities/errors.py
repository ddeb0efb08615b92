"""Errors of the activities, by whether a retry can help (`activities/options.py` names those that it cannot)."""


class OrderUnknownError(Exception):
    """No order under this number: retrying cannot help."""


class SaleBookedMeanwhileError(Exception):
    """Another transaction has just booked the same sale; the next try finds its order."""
