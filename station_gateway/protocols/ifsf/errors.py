"""The one error that hostile or broken bytes may cause."""


class IfsfError(ValueError):
    """Bytes that are not IFSF; a TCP stream that raised it cannot be cut any further and must be closed."""
