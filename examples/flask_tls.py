"""A web application of Flask's under TLS, with a certificate that is made on the spot.

    pip install 'forkful[wsgi]' flask
    python examples/flask_tls.py            serve, until Ctrl-C; says how to ask it with curl

A real site has files of its own: ``certfile="fullchain.pem", keyfile="privkey.pem"``.  When they are renewed, ``kill -HUP``
takes them in without losing a request.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from forkful import serve

try:
    from flask import Flask, request
except ImportError:
    sys.exit("flask_tls: Flask is not installed; install it with: pip install flask")

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return f"Hello over {request.scheme}, from process {os.getpid()}\n"


@app.post("/upper")
def upper() -> str:
    return request.get_data(as_text=True).upper()


def make_certificate(folder: str) -> tuple[str, str]:
    """For this machine and a week, signed by itself; the paths of certificate and key."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *names, "-out", cert, "-keyout", key], check=True, capture_output=True)
    return cert, key


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8443"
    with tempfile.TemporaryDirectory() as folder:
        cert, key = make_certificate(folder)
        print(f"curl --cacert {cert} https://{address}/", flush=True)
        # By its name, so that `kill -HUP` loads it anew, and each process has one of its own.
        serve(f"{__file__}:app", address, wsgi=True, certfile=cert, keyfile=key, processes=2, threads=4)


if __name__ == "__main__":
    main()
