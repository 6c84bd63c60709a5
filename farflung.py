"""Farflung from Python: start a run and follow it, load what it has learnt, act with it, hand it to other programs.

::

    import farflung

    with farflung.train("CartPole-v1", until_return=475) as training:
        training.wait()

    policy = farflung.load_policy(training.run_dir)
    action = policy.act(observation)

Knows the packages ``learner`` and ``actor``, and does nothing that these do not. numpy and Gymnasium are imported when
a policy is loaded, torch when one needs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from learner.launch.training import Event, OnEvent, Training, TrainingFailed, arguments_of
from protocol.errors import FarflungError, UserError

if TYPE_CHECKING:
    from gymnasium import Space

    from actor.evaluation.policy import Policy

__all__ = [
    "Event",
    "FarflungError",
    "Policy",
    "Training",
    "TrainingFailed",
    "UserError",
    "load_policy",
    "train",
]


def train(
    env: str | None = None,
    experiment: str | os.PathLike[str] | None = None,
    *,
    actors: int | None = None,
    until_return: float | None = None,
    until_steps: int | None = None,
    seed: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    allow_modules: Iterable[str] = (),
    on_event: OnEvent | None = None,
    flags: Sequence[str] = (),
) -> Training:
    """Starts ``learner run`` with local actors, as processes of their own, and returns when the run has begun.

    Args:
        env: Gymnasium environment id; one of your own is ``MODULE:NAME-v0``. Without ``experiment`` the shipped
            experiment for exactly this id is used where there is one, else plain defaults.
        experiment: A TOML file, or the name of a shipped experiment such as ``"lunarlander"``.
        actors: Local actor processes. None: as many as the experiment says, which is 2 unless it says otherwise.
        until_return: The run ends once 100 episodes have this mean return.
        until_steps: It ends after this many environment steps.
        seed: Of weights, environments and exploration.
        run_dir: A new directory. None: ``runs/<env>-<seed>-<time>`` in the working directory.
        settings: By ``"table.key"``, as in ``{"actor.discount": 0.99}``; deploy/SETTINGS.md lists them.
        allow_modules: Modules that local actors may import for your environments; they are looked for where Python is
            installed and in the working directory.
        on_event: Called with each event by the thread that takes it, in ``wait`` or by iterating. Where it returns
            False the run ends as by ``Training.stop``.
        flags: Further flags of ``learner run``, such as ``["--http", "127.0.0.1:8000"]`` for the live page.

    Returns:
        The run: a context manager that ends it, an iterator of its events.

    Raises:
        UserError: A setting, a flag or an environment is not usable; the text is the command's.
        TrainingFailed: The learner ended by a fault before the run had begun.
    """
    if not (env is None or isinstance(env, str)):
        raise UserError(f"env is an environment's id, which actors can find in processes of their own, and not {env!r}")
    options = {
        "--env": env,
        "--actors": actors,
        "--until-return": until_return,
        "--until-steps": until_steps,
        "--seed": seed,
    }
    arguments = arguments_of(
        experiment=experiment,
        options=options,
        settings=settings or {},
        allow_modules=_names(allow_modules),
        flags=flags,
    )
    return Training(arguments, run_dir, on_event)


def load_policy(
    run_dir: str | os.PathLike[str],
    *,
    best: bool = False,
    allow_modules: Iterable[str] = (),
    spaces: tuple[Space[Any], Space[Any]] | None = None,
    seed: int | None = None,
) -> Policy:
    """The policy that a run has learnt, from its newest whole checkpoint. The run may go on meanwhile.

    Args:
        run_dir: The run's directory.
        best: Take the weights that scored highest, which ``actor evaluate`` keeps, and not the newest.
        allow_modules: Modules that this program may import for the run's environment, its wrappers, its network and its
            algorithm.
        spaces: The environment's observation space and action space, for a machine without the environment. None: the
            environment, of a curriculum that of the last stage, is made once, asked for its spaces and closed. Where it
            may tell masks in ``info`` it is also reset once.
        seed: Of what ``Policy.act`` draws where it is asked to.

    Returns:
        The policy, at the start of an episode.

    Raises:
        UserError: There is no such run, no checkpoint, no such environment here, or a module that is not allowed; or
            the network is another one.
    """
    from actor.evaluation.policy import load

    return load(run_dir, best=best, allow_modules=_names(allow_modules), spaces=spaces, seed=seed)


def _names(modules: Iterable[str]) -> list[str]:
    return [modules] if isinstance(modules, str) else list(modules)


def __getattr__(name: str) -> Any:
    if name == "Policy":
        from actor.evaluation.policy import Policy

        return Policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
