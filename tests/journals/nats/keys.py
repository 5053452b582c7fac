"""Keys and credentials of NATS, made as `nk` and `nsc` make them: seeds of nkeys, and JWTs that an operator and an account have signed."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import nkeys  # type: ignore[import-untyped]

__all__ = ["Key", "Realm", "new_user"]

_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_STORAGE = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}


class Key(NamedTuple):
    """An nkey."""

    seed: bytes
    public: str

    @classmethod
    def new(cls, prefix: int) -> Key:
        """Make one at random."""
        seed = nkeys.encode_seed(os.urandom(32), prefix)
        return cls(seed, nkeys.from_seed(bytearray(seed)).public_key.decode())

    def signed(self, name: str, subject: str, claims: dict[str, Any], expires: float | None = None) -> str:
        """Write a JWT, and sign it."""
        body = {"jti": os.urandom(8).hex(), "iat": int(time.time()), "iss": self.public, "sub": subject, "name": name}
        if expires is not None:
            body["exp"] = int(expires)
        body["nats"] = {**claims, "version": 2}
        text = ".".join(_part(json.dumps(one).encode()) for one in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
        return f"{text}.{_part(nkeys.from_seed(bytearray(self.seed)).sign(text.encode()))}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def new_user() -> Key:
    """Make the key of a user."""
    return Key.new(nkeys.PREFIX_BYTE_USER)


class Realm:
    """An operator, and one account with JetStream."""

    def __init__(self) -> None:
        self._operator = Key.new(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = Key.new(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = Key.new(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def config(self) -> str:
        """What a server needs to know."""
        operator = self._operator.signed(
            "operator", self._operator.public, {"type": "operator", "system_account": self._system.public}
        )
        limits = {**_UNLIMITED, **_STORAGE, "wildcards": True}
        account = self._operator.signed("telstate", self._account.public, {"type": "account", "limits": limits})
        plain = {"type": "account", "limits": {**_UNLIMITED, "wildcards": True}}
        system = self._operator.signed("system", self._system.public, plain)
        preload = f"{self._account.public}: {account}\n{self._system.public}: {system}"
        return f"operator: {operator}\nresolver: MEMORY\nresolver_preload {{\n{preload}\n}}\n"

    def credentials(self, path: Path, *, expires: float | None = None) -> Path:
        """Write the `.creds` file of a new user."""
        user = new_user()
        limits = {"subs": -1, "data": -1, "payload": -1}
        jwt = self._account.signed("worker", user.public, {"type": "user", "pub": {}, "sub": {}, **limits}, expires)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        return path
