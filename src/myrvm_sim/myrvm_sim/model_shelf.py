"""The reference server's side of models: a file is put here, machines are told of it and fetch it. A stand-in."""

from __future__ import annotations

import asyncio
import hashlib

from aiohttp import web
from myrvm_cloud.contract import BASE_PATH, ModelsAnswer, WantedModel

from myrvm_sim.server_faults import answer, error, read_json

MODEL_BYTES = 100_000_000
READ_S = 60.0


class ModelShelf:
    """Models of one server, in memory; `wanted` is what machines hear."""

    def __init__(self) -> None:
        self.wanted = ModelsAnswer()
        self._files: dict[str, bytes] = {}

    def calls(self) -> list[web.RouteDef]:
        """Those of the contract."""
        return [web.get(f"{BASE_PATH}/edge/models", self._models)]

    def routes(self) -> list[web.RouteDef]:
        """What it serves beside the contract."""
        return [
            web.post("/models", self._set_models),
            web.put("/models/{name}/{version}", self._put),
            web.get(f"{BASE_PATH}/edge/models/{{sha256}}", self._file),
        ]

    async def _models(self, _: web.Request) -> web.Response:
        return answer(self.wanted)

    async def _set_models(self, request: web.Request) -> web.Response:
        self.wanted = ModelsAnswer.model_validate(await read_json(request))
        return answer(self.wanted)

    async def _put(self, request: web.Request) -> web.Response:
        """A file: what a signed `update_model` must say comes back."""
        try:
            content = await asyncio.wait_for(request.clone(client_max_size=MODEL_BYTES).read(), READ_S)
        except asyncio.TimeoutError:
            raise web.HTTPRequestTimeout() from None
        digest = hashlib.sha256(content).hexdigest()
        model = WantedModel(
            name=request.match_info["name"],
            version=request.match_info["version"],
            sha256=digest,
            url=f"{BASE_PATH}/edge/models/{digest}",
            size_bytes=len(content),
        )
        self._files = {digest: content}
        self.wanted = ModelsAnswer(models=[model])
        return answer(model)

    async def _file(self, request: web.Request) -> web.Response:
        content = self._files.get(request.match_info["sha256"])
        return web.Response(body=content) if content is not None else error(404, "there is no such model")
