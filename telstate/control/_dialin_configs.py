"""Where the calls of each number go, one config each: pinless (to a program) or by PIN (to a room).

Source of all names: docs.daily.co/reference/rest-api/dial-in, the pages of `/domain-dialin-config`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from telstate.control._api import DailyApi
from telstate.control._dialin_address import DialinAddress, read_address
from telstate.errors import DailyError, DefinitionError, UnknownResult
from telstate.options import DialinConfig

__all__ = ["DialinConfigs"]

_PATH = "/domain-dialin-config"
_PAGE = 100
"""How many configs to ask for at a time."""


class DialinConfigs:
    """The dial-in configs of one domain: each of its numbers has one, either pinless or by PIN.

    All methods raise:
        DailyError: if Daily refused, for example because the number has a config, or there is no such config (status 404), or cannot be
            asked.
        UnknownResult: if the answer to a change was lost or makes no sense: use `list` to check.

    Args:
        api: Daily's API with the domain's key, entered before the first request.
    """

    def __init__(self, api: DailyApi) -> None:
        self._api = api

    def __repr__(self) -> str:
        return f"DialinConfigs({self._api!r})"

    async def create(self, config: DialinConfig) -> DialinAddress:
        """Give a number a config. A number that has one is changed with `update`; to change its type, delete that first."""
        return _config(await self._api.request("POST", _PATH, config.body(), hide=_secrets(config)), UnknownResult)

    async def list(self) -> tuple[DialinAddress, ...]:
        """Return all configs of the domain."""
        found: dict[str, DialinAddress] = {}
        after = ""
        while True:
            answer = await self._api.request("GET", f"{_PATH}?limit={_PAGE}{after}")
            listed = answer.get("data") if isinstance(answer, dict) else None
            if not isinstance(listed, list):
                raise DailyError(f"GET {_PATH}: Daily's answer is not a list of configs", status=200)
            page = [_config(one) for one in listed]
            new = [one for one in page if one.id not in found]
            found.update({str(one.id): one for one in new})
            total = answer.get("total_count")
            if not new or not isinstance(total, int) or len(found) >= total:
                return tuple(found.values())
            after = f"&starting_after={quote(str(page[-1].id), safe='')}"

    async def get(self, config_id: str) -> DialinAddress:
        """Return one config."""
        return _config(await self._api.request("GET", _path(config_id)))

    async def update(self, config_id: str, config: DialinConfig) -> DialinAddress:
        """Change a config; its type cannot change. It is not documented what becomes of the fields that are not given, so give all."""
        body = {name: value for name, value in config.body().items() if name != "type"}
        answer = await self._api.request("PUT", _path(config_id), body, idempotent=True, hide=_secrets(config))
        return _config(answer, UnknownResult)

    async def delete(self, config_id: str) -> None:
        """Delete a config: calls of its number go nowhere from then on."""
        try:
            await self._api.request("DELETE", _path(config_id), idempotent=True)
        except DailyError as error:
            if error.status != 404 or not error.repeated:  # else the first request deleted it, and its answer was lost
                raise


def _secrets(config: DialinConfig) -> tuple[SecretStr, ...]:
    return () if config.hmac is None else (config.hmac,)


def _path(config_id: str) -> str:
    if not config_id:
        raise DefinitionError("the config's id is empty: `DialinConfigs.list` shows all configs")
    return f"{_PATH}/{quote(config_id, safe='')}"


def _config(answer: Any, error: type[DailyError] = DailyError) -> DialinAddress:
    """Read a config from an answer; if it is not one, raise `error`."""
    config_id = answer.get("id") if isinstance(answer, dict) else None
    if not isinstance(config_id, str):
        raise error("Daily's answer is not a dial-in config with an id", status=200)
    fields, kind = answer.get("config"), answer.get("type")
    return read_address(fields if isinstance(fields, dict) else {}, str(kind), config_id)
