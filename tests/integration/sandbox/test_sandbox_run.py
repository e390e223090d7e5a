"""A sandbox as a context manager and as a process."""

import asyncio
import signal
import sys

import httpx
import pytest

from orchestrator.domain.errors import ConfigurationError
from orchestrator.sandbox import Sandbox, SandboxOptions, serve

PROGRAM = """
import asyncio
from orchestrator.sandbox import SandboxOptions, serve
asyncio.run(serve(SandboxOptions(), lambda url: print(url, flush=True)))
"""


async def test_two_sandboxes_run_side_by_side_on_free_ports_and_share_nothing(run):
    one, two = await run(), await run()
    assert one.sandbox.base_url != two.sandbox.base_url
    await one.authorize()
    assert (one.sandbox.stats()["token_calls"], two.sandbox.stats()["token_calls"]) == (1, 0)
    two.http.headers["Authorization"] = one.http.headers["Authorization"]
    assert (await two.start("PAID-1")).status_code == 401


async def test_a_sandbox_that_has_stopped_refuses_connections():
    async with Sandbox() as sandbox:
        url = sandbox.base_url
        assert url.startswith("http://127.0.0.1:")
    assert sandbox.base_url == ""
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{url}/_sandbox/stats")


async def test_a_taken_port_is_a_readable_configuration_error(stranger):
    port = httpx.URL(stranger.sandbox.base_url).port
    with pytest.raises(ConfigurationError) as error:
        async with Sandbox(SandboxOptions(port=port)):
            pass
    assert error.value.key == "sandbox.port"


async def test_stopping_does_not_wait_for_an_answer_that_is_being_delayed():
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        async with Sandbox(SandboxOptions(speed=1e-6), clock=lambda: 0.0) as sandbox:
            form = {"grant_type": "client_credentials", "scope": "globalpci"}
            token = await http.post(
                f"{sandbox.base_url}/auth/connect/token", data=form, auth=("sandbox-client", "sandbox-secret")
            )
            body = {
                "AccountConfigurationId": "4242",
                "CallGuid": "g",
                "PaymentData": {"merchantTxnRef": "SLOWANSWER-1", "amount": "1.00"},
            }
            call = asyncio.create_task(
                http.post(
                    f"{sandbox.base_url}/globalpci/v1/selfservicesession/",
                    json=body,
                    headers={"Authorization": f"Bearer {token.json()['access_token']}"},
                    timeout=60,
                )
            )
            while not sandbox.stats()["sessions_per_reference"]:
                await asyncio.sleep(0)
        with pytest.raises(httpx.TransportError):
            await call


async def test_serving_ends_when_it_is_cancelled():
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(SandboxOptions(), ready.set_result))
    url = await ready
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        assert (await http.get(f"{url}/_sandbox/stats")).status_code == 200
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(httpx.TransportError):
            await http.get(f"{url}/_sandbox/stats")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_serving_process_ends_cleanly_by_signal_and_prints_only_its_address(number):
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, stdout=pipe, stderr=pipe)
    try:
        url = (await process.stdout.readline()).decode().strip()
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            assert (await http.get(f"{url}/_sandbox/stats")).status_code == 200
            assert (await http.get(f"{url}/nowhere")).status_code == 404
        process.send_signal(number)
        stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, stdout, stderr) == (0, b"", b"")
