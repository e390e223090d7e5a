"""
The provider over HTTP: what was sent, what came back, and what it means.

Home of `httpx`, `httpx-aiohttp` and the exceptions of `aiohttp`; shares
`tenacity` with the store. Imports `interactions` and no other adapter. Remote
trouble never leaves this package as an exception: it is a `Verdict`.

Read in this order: `backoff`, `profile`, `gateway`, `config`, `connections`,
`transport`, `message`, `verdicts`, `budget`, `breaker`, `tokens`, `answers`,
`request`, `line`, `authorize`, `account`, `client`.
"""
