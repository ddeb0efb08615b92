"""The forecourt of a fuelling station as a separate process: dispensers that speak IFSF over UDP and TCP.

The package has its own codec on purpose. If it shared one with the gateway, both would share one bug.
"""
