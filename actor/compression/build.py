"""What a worker compresses with, from an experiment's settings. Pure. Knows settings and layouts; no simulator."""

from __future__ import annotations

from typing import Literal

from actor.compression.bandwidth import BandwidthFit, UplinkBudget
from actor.compression.compressor import Compressor
from actor.compression.preconditioner import Momentum, Preconditioner
from actor.compression.selection import make_selection
from actor.config import ActorSettings
from protocol.codecs.budget import THIN
from protocol.codecs.registry import codec
from protocol.errors import UserError
from protocol.layout import Layout


def make_bandwidth_fit(
    settings: ActorSettings, length: int, uplink_kbps: float | Literal["auto"] | None
) -> BandwidthFit | None:
    """What keeps gradients within the link, where the settings leave the codec to it."""
    if settings.codec != "auto":
        return None
    return BandwidthFit(UplinkBudget(length, settings.uplink_kbps if uplink_kbps is None else uplink_kbps), length)


def make_compressor(settings: ActorSettings, quantity: str, layout: Layout, seed: int) -> Compressor:
    """What turns gradients into payloads: preconditioned where the learner applies plain addition."""
    preconditioner = None
    if quantity == "update":
        momentum = Momentum(settings.beta1, settings.momentum_lag)
        preconditioner = Preconditioner(layout.length, momentum, settings.beta2, settings.epsilon)
    shapes = [entry.shape for entry in layout.entries]
    if settings.codec == "auto" and quantity == "gradient":
        raise UserError(
            "actor.codec = 'auto' needs learner.optimizer = 'preconditioned': it changes what is sent of an update"
        )
    name = THIN if settings.codec == "auto" else settings.codec
    selection = make_selection(codec(name), shapes, settings.density, settings.density_warmup, settings.rank, seed)
    return Compressor(
        layout.length,
        name,
        selection,
        settings.residual_decay,
        preconditioner,
        masks_momentum=settings.mask_momentum,
    )
