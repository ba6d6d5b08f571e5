"""A real nginx in front of a portal, with the configuration that docs/operations.md shows."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
_SHOWN = re.compile(r"^```nginx\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_STARTED = "start worker process"
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def program() -> str | None:
    """Return where nginx is; Debian keeps it where only the administrator's shell looks."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def documented(portal_port: int, https_port: int, http_port: int, folder: Path) -> str:
    """Return the documentation's configuration, with ports and files of this test."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    found = _SHOWN.findall(page)
    assert len(found) == 1, "docs/operations.md shows one configuration of nginx"
    text: str = found[0]
    for shown, ours in (
        ("server 127.0.0.1:8501;", f"server {HOST}:{portal_port};"),
        ("listen 80;", f"listen {HOST}:{http_port};"),
        ("    listen [::]:80;\n", ""),
        ("listen 443 ssl;", f"listen {HOST}:{https_port} ssl;"),
        ("    listen [::]:443 ssl;\n", ""),
        ("https://billing.example.com$request_uri", f"https://{HOST}:{https_port}$request_uri"),
        ("server_name billing.example.com;", f"server_name {HOST};"),
        ("/etc/ssl/certs/billing.example.com.pem", f"{folder}/certificate.pem"),
        ("/etc/ssl/private/billing.example.com.key", f"{folder}/key.pem"),
    ):
        assert shown in text, f"docs/operations.md has {shown}"
        text = text.replace(shown, ours)
    assert "example.com" not in text
    return text


@contextmanager
def running(sites: str, folder: Path) -> Iterator[Path]:
    """Have nginx serve `sites` out of `folder`; give the certificate that browsers trust.

    It listens before it starts its first worker, and says that: nothing has to be tried again.
    """
    _make_certificate(folder)
    user = "user root;" if os.geteuid() == 0 else ""
    places = "".join(f"    {each}_temp_path {folder}/{each};\n" for each in _TEMPORARY)
    (folder / "nginx.conf").write_text(
        f"daemon off;\n{user}\nworker_processes 1;\npid {folder}/nginx.pid;\n"
        f"error_log stderr notice;\nevents {{}}\nhttp {{\n    access_log off;\n{places}{sites}}}\n"
    )
    command = [program() or "nginx", "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"]
    with subprocess.Popen(  # noqa: S603 - a program of this computer
        command, stderr=subprocess.PIPE, text=True
    ) as nginx:
        try:
            _wait_until_it_listens(nginx)
            yield folder / "certificate.pem"
        finally:
            nginx.terminate()
            nginx.communicate()
    assert nginx.returncode == 0


def _wait_until_it_listens(nginx: subprocess.Popen[str]) -> None:
    assert nginx.stderr is not None
    message = ""
    for line in nginx.stderr:
        message += line
        if _STARTED in line:
            return
    raise AssertionError(f"nginx ended:\n{message}")


def _make_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "of this test")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@contextmanager
def portal(environment: dict[str, str], log: Path) -> Iterator[None]:
    """Have a portal of its own process serve; what it logs goes to `log`."""
    command = [sys.executable, "-m", "portal", "serve"]
    with (
        log.open("w") as errors,
        subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            message = ""
            for line in process.stdout:
                message += line
                if "The portal is ready" in line:
                    break
            else:
                raise AssertionError(f"the portal ended:\n{message}{log.read_text()}")
            yield
        finally:
            process.terminate()
            process.communicate()
