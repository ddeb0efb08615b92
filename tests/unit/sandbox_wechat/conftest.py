"""One key material per session (RSA keys are dear), one frozen world per test; every test ends with sound books."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.wechat.clock import SandboxClock
from sandbox.wechat.keys import KeyMaterial, generate
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import Keys, Merchant, Receiver

START_MS = 1_763_877_600_000  # 2025-11-23 14:00 in Beijing


@pytest.fixture(scope="session")
def material() -> KeyMaterial:
    return generate()


@pytest.fixture(scope="session")
def keys(material: KeyMaterial) -> Keys:
    return Keys(material)


@pytest.fixture
def receiver(keys: Keys) -> Receiver:
    return Receiver(keys)


@pytest.fixture
def world(material: KeyMaterial, receiver: Receiver) -> Iterator[World]:
    made = World(material, clock=SandboxClock(lambda: START_MS), sink=receiver)
    yield made
    assert made.couriers.drain(10)
    assert made.invariants() == []
    made.stop()


@pytest.fixture
def merchant(world: World, keys: Keys) -> Merchant:
    return Merchant(keys=keys, send=world.handle, now_s=world.signature_s)
