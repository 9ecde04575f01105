"""What `infermux serve` says when it listens is what a reader can call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.e2e._process import serving

SIMULATED = {"name": "one", "type": "simulated", "models": ["m"]}


@pytest.mark.slow
async def test_with_tls_callers_are_told_https_and_operators_http(tmp_path: Path) -> None:
    authority: Any = trustme.CA()  # its signatures name pyOpenSSL, which is not installed
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    tls = {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}
    async with serving(SIMULATED, tls=tls, management_listen="127.0.0.1:0") as process:
        said = process.stdout
        assert f"listens on https://127.0.0.1:{process.port} with 1 provider" in said
        assert "costs, budgets and keys are kept " in said
        where = said.partition("management is on ")[2].split()[0]
        async with httpx.AsyncClient(trust_env=False, verify=False) as web:
            assert (await web.get(where)).json()["providers"][0]["name"] == "one"
            assert (await web.get(f"https://127.0.0.1:{process.port}/v1/models")).status_code == 200
