"""Which algorithms there are, and what each asks of the rest of an actor. Pure; one of a user's own declares it."""

from __future__ import annotations

import msgspec


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What the rest of an actor asks of an algorithm; one of a user's own declares it. The defaults are what an
    actor-critic method is that nothing more is known of.

    has_values: the network has a value function beside the policy, and rollouts hold its values
    stochastic: outputs are a distribution that actions are drawn from. Else they are action values, of Discrete
        actions, and ε-greedy: settings of exploration are read, those of a policy are not
    needs_target: a target network, which learner.target_interval_steps gives
    needs_next_action: the action that follows a rollout is chosen beforehand (``Rollout.next_actions``), as for Sarsa
    whole_rollouts: returns reach to a rollout's end, so with shorter ones it would be another method
    learns_from_older: targets correct for rows that older policies collected (``Rollout.older``)
    ignores: names of actor settings that it does not read; they are refused
    """

    has_values: bool = True
    stochastic: bool = True
    needs_target: bool = False
    needs_next_action: bool = False
    whole_rollouts: bool = False
    learns_from_older: bool = False
    ignores: tuple[str, ...] = ()


ALGORITHMS_GROUP = "farflung.algorithms"  # entry points of installed packages
VALUE_TRAITS = Traits(has_values=False, stochastic=False, needs_target=True)
ALGORITHMS: dict[str, Traits] = {
    "a3c": Traits(learns_from_older=True),
    "n_step_q": msgspec.structs.replace(VALUE_TRAITS, whole_rollouts=True),
    "one_step_q": VALUE_TRAITS,
    "one_step_sarsa": msgspec.structs.replace(VALUE_TRAITS, needs_next_action=True),
}
CRITIC = tuple(name for name, traits in ALGORITHMS.items() if traits.stochastic)
VALUES = tuple(name for name, traits in ALGORITHMS.items() if not traits.stochastic)
