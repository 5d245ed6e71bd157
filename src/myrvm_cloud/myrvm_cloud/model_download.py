"""Brings a model that a signed command names from the server into the data folder: whole, checked, on disk, or not.

It is streamed into a `.partial` that may not become larger than what was promised, hashed as it comes, synced, and only
then given its name. What a crash leaves is no model.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil

from myrvm_core.errors import ModelError, RvmError, StorageError
from myrvm_core.installed_model import InstalledModel

from myrvm_cloud.command import UpdateModel
from myrvm_cloud.command_graph import NotNowError, Server
from myrvm_core import durable, installed_model

DOWNLOAD_S = 600.0
RESERVE_BYTES = 200_000_000  # that stay free for deposits and logs
KEPT = 3  # installed models


async def bring(wanted: UpdateModel, server: Server) -> tuple[InstalledModel, bool]:
    """The model, and whether it had to be downloaded.

    Raises:
        NotNowError: it does not fit: another size or hash, no room, or another one is installed under its name.
        CallError: it could not be fetched, or is not on this server.
        StorageError: the disk does not take it.
    """
    model = InstalledModel(name=wanted.name, version=wanted.version, sha256=wanted.sha256)
    if await asyncio.to_thread(_is_there, model):
        return model, False
    await asyncio.to_thread(_make_room, wanted.size_bytes)
    try:
        await _fetch(wanted, model, server)
        await asyncio.to_thread(installed_model.install, model)
    except (RvmError, asyncio.CancelledError):
        model.partial.unlink(missing_ok=True)
        raise
    return model, True


def _is_there(model: InstalledModel) -> bool:
    try:
        known = installed_model.find(model.reference)
    except ModelError:
        return False
    if known is None:
        return False
    if known != model:
        raise NotNowError(f"{model.reference} is installed with sha256 {known.sha256}: a new model has a new version")
    digest = hashlib.sha256()
    try:
        with known.file.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == model.sha256


def _make_room(size_bytes: int) -> None:
    folder = installed_model.folder()
    try:
        durable.make_folder(folder)
        for partial in folder.glob(f"*{installed_model.PARTIAL}"):
            partial.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StorageError(f"{folder} cannot be used: {error}") from error
    if free < size_bytes + RESERVE_BYTES:
        raise NotNowError(f"{free} bytes are free for a model of {size_bytes}; {RESERVE_BYTES} must stay free")


async def _fetch(wanted: UpdateModel, model: InstalledModel, server: Server) -> None:
    digest = hashlib.sha256()
    try:
        with model.partial.open("wb") as file:

            def write(chunk: bytes) -> None:
                file.write(chunk)
                digest.update(chunk)

            def sync() -> None:
                file.flush()
                os.fsync(file.fileno())

            size = await server.download(
                wanted.url, lambda chunk: asyncio.to_thread(write, chunk), wanted.size_bytes, DOWNLOAD_S
            )
            await asyncio.to_thread(sync)
    except OSError as error:
        raise StorageError(f"{model.partial} cannot be written: {error}") from error
    if size != wanted.size_bytes:
        raise NotNowError(f"{wanted.url} has {size} bytes, the command says {wanted.size_bytes}")
    if digest.hexdigest() != wanted.sha256:
        raise NotNowError(f"{wanted.url} has sha256 {digest.hexdigest()}, the command says {wanted.sha256}")
