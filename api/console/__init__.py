"""The staff console: Chinese pages for cashiers, managers, operators and auditors at `/console`.

Pages read; what changes an order is a command to its workflow, the same that the API's cashier routes send.
"""

from api.console.mount import mount_console as mount_console
from api.console.ports import CommandUnavailableError as CommandUnavailableError
from api.console.ports import ConsoleCommands as ConsoleCommands
from api.console.ports import ConsoleDeps as ConsoleDeps

__all__ = ["CommandUnavailableError", "ConsoleCommands", "ConsoleDeps", "mount_console"]
