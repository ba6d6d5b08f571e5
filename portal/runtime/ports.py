"""Explanations why a port cannot be listened on, and what to do about it."""

from __future__ import annotations

import errno
import socket

import psutil

_HIGHEST_PORT = 65_535


class PortError(Exception):
    """A port cannot be used; the message is the sentence for the operator."""


def listen(host: str, port: int, setting: str = "PORT") -> socket.socket:
    """Return a socket that listens; `setting` chooses its port. Raises PortError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise PortError(reason(error, host, port, setting)) from None


def reason(error: OSError, host: str, port: int, setting: str) -> str:
    """Return who has the port, and which setting chooses another."""
    other = f"set {setting}={port + 1 if port < _HIGHEST_PORT else port - 1} to use another."
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use{_holder(port)}: {other}"
    if error.errno == errno.EACCES:
        return f"This system does not let you listen on {port}: {other}"
    return f"Cannot listen on {host}, port {port}: {error.strerror or error}."


def _holder(port: int) -> str:
    """Return " by NAME (process NUMBER)", or an empty text where the system does not report it."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.laddr and connection.laddr.port == port and connection.pid:
                name = psutil.Process(connection.pid).name()
                return f" by {name} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""
