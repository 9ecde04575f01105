"""nginx as a reverse proxy: the floor. One worker, connections to the upstream kept, nothing buffered that streams.

On: nothing but forwarding; no access log, as for all. It reads neither the model nor the answer.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from bench.fronts import Command, Front, Site

_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 16384; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 32m;
    client_body_buffer_size 128k;
    keepalive_requests 100000000;
    tcp_nodelay on;
    upstream mock {{ server {upstream}; keepalive 8192; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 120s;
        }}
    }}
}}
"""


def _nginx_program() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _nginx(site: Site) -> Command:
    config = site.folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=site.folder, upstream=site.upstream_address, port=site.port))
    return Command(words=(_nginx_program() or "nginx", "-p", str(site.folder), "-e", "stderr", "-c", str(config)))


def _missing() -> str | None:
    return None if _nginx_program() else "not installed (Debian: apt-get install nginx-light)"


def _version() -> str:
    said = subprocess.run([_nginx_program() or "nginx", "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().rpartition("/")[2]


FRONT = Front(name="nginx", command=_nginx, missing=_missing, version=_version)
