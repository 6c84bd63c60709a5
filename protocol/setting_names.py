"""Where each setting lives and what else people call it. Pure. Of the other side's table a side knows these names."""

from __future__ import annotations

from protocol.errors import nearest

DEFAULTS_EDITION = 3  # of the actor's defaults, which a new run's table names as actor.defaults
# A test holds these names to the structs (tests/reference).
_RUN = "name seed actors until_return until_steps"
_LEARNER = """
    optimizer beta1 beta2 epsilon rho momentum max_gradient_norm weight_decay learning_rate anneal anneal_steps
    anneal_floor anneal_points staleness_rule compensation ring_bytes full_lag_updates max_lag_updates max_lag_s
    norm_bound norm_factor aggregation aggregate_window aggregate_least aggregate_trim aggregate_wait_s credit
    most_credit credit_lag heartbeat_s silence_s max_actors quota_gradients_per_s quota_kbps sessions_per_key drain_s
    publish_interval_s publish_share downlink_kbps target_interval_steps durability on_journal_failure journal_bytes
    checkpoint_interval_s checkpoints_kept on_event
"""
_ACTOR = """
    defaults env env_options wrappers curriculum envs vectorization groups simulator_deadline_s simulator_failures
    action_mask hidden_observations normalize_observations normalize_returns algorithm algorithm_options rollout_steps
    discount final_discount discount_steps targets gae_lambda vtrace_clip reward_scale reward_clip novelty_weight loss
    passes minibatches local_steps clip normalize_advantages value_weight entropy_weight entropy_from entropy_steps
    entropy_floor max_gradient_norm kl_target exploration_steps final_epsilons final_epsilon_odds network
    network_options hidden activation layer_norm shared_trunk memory memory_size log_deviation precision codec
    uplink_kbps density density_warmup rank mask_momentum residual_decay beta1 momentum_lag beta2 epsilon
"""
OF_SIMULATORS = ("env", "env_options", "wrappers")  # of [actor]: which environments there are
# Of [actor], what makes the network, what it sees of an observation, its statistics or its family. A run keeps it, and
# its environment: spaces may be alike by chance. (A stage of actor.curriculum may name another.)
_KEPT = """
    algorithm network hidden activation memory memory_size log_deviation hidden_observations normalize_observations
    normalize_returns action_mask defaults
"""
KEPT = frozenset(_KEPT.split())
TABLES = {"run": _RUN.split(), "learner": _LEARNER.split(), "actor": _ACTOR.split()}
# What other libraries call them (CleanRL, Stable-Baselines3, RLlib, Sample Factory), and papers.
_OTHER_NAMES = """
run.seed: random_seed
run.actors: workers num_workers n_workers num_actors n_actors num_env_runners
run.until_steps: total_timesteps total_steps max_steps timesteps train_for_env_steps
run.until_return: target_return target_reward reward_threshold
learner.learning_rate: lr alpha step_size
learner.anneal: anneal_lr lr_schedule schedule
learner.optimizer: optim opt
learner.staleness_rule: staleness
learner.max_lag_updates: max_staleness max_lag
learner.target_interval_steps: target_update_interval target_network_frequency target_update_freq
learner.checkpoint_interval_s: checkpoint_interval save_interval save_every checkpoint_freq
learner.downlink_kbps: bandwidth downlink
learner.on_event: callback callbacks hook
actor.env: env_id environment env_name game
actor.env_options: env_kwargs env_config make_kwargs
actor.wrappers: wrapper env_wrapper env_wrappers wrapper_class wrapper_kwargs
actor.curriculum: curricula stages env_task_fn
actor.envs: n_envs num_envs num_environments num_envs_per_worker num_envs_per_env_runner
actor.algorithm: algo method
actor.rollout_steps: n_steps num_steps rollout rollout_length unroll_length horizon t_max
actor.discount: gamma discount_factor
actor.gae_lambda: lambda lambda_ lam gae
actor.passes: epochs n_epochs num_epochs update_epochs num_sgd_iter
actor.minibatches: num_minibatches n_minibatches batch_size minibatch_size
actor.clip: clip_range clip_coef clip_param clip_epsilon ppo_clip_ratio
actor.value_weight: vf_coef value_coef vf_loss_coeff value_loss_coeff
actor.entropy_weight: ent_coef entropy_coef entropy_coeff entropy exploration_loss_coeff
actor.max_gradient_norm: max_grad_norm grad_clip clip_grad_norm
actor.kl_target: target_kl
actor.exploration_steps: exploration_fraction epsilon_decay epsilon_timesteps
actor.final_epsilons: exploration_final_eps end_e final_epsilon
actor.network: policy model net
actor.network_options: policy_kwargs custom_model_config model_config
actor.hidden: net_arch hidden_sizes hidden_size hidden_units hidden_layers fcnet_hiddens layers
actor.layer_norm: layernorm use_layer_norm
actor.shared_trunk: vf_share_layers share_layers share_features_extractor actor_critic_share_weights
actor.memory: rnn lstm gru use_lstm recurrent use_rnn
actor.normalize_advantages: norm_adv normalize_advantage
actor.normalize_observations: norm_obs normalize_obs normalize_input
actor.normalize_returns: norm_reward normalize_reward normalize_rewards
actor.codec: compression compressor
actor.density: top_k topk k keep keep_ratio sparsity
actor.uplink_kbps: uplink
"""
ALIASES = {
    alias: key
    for key, _, aliases in (line.partition(":") for line in _OTHER_NAMES.split("\n"))
    for alias in aliases.split()
}
# What other libraries have as a value of its own.
VALUES = {
    "actor.algorithm": {
        "ppo": "'a3c', which with actor.loss = 'clipped', the default, is PPO's",
        "a2c": "'a3c' with actor.loss = 'a3c'",
        "impala": "'a3c' with actor.targets = 'vtrace'",
        "dqn": "'one_step_q'",
        "sarsa": "'one_step_sarsa'",
    },
    "actor.network": {"cnn": "'nature'", "conv": "'nature'", "linear": "'mlp' with actor.hidden = []"},
    "actor.loss": {"ppo": "'clipped'", "clip": "'clipped'"},
    "learner.optimizer": {"momentum": "'sgd' with learner.momentum"},
}


def suggest(key: str) -> str | None:
    """The setting that is meant by a ``key`` that is none: by another name, in another table, or misspelt."""
    table, _, name = key.lower().replace("-", "_").partition(".")
    name = name or table
    if name in ALIASES:
        return ALIASES[name]
    tables = sorted(TABLES, key=lambda each: each != table)  # a name may be in two: its own table first
    homes = {each: f"{home}.{each}" for home in reversed(tables) for each in TABLES[home]}
    close = nearest(name, TABLES.get(table, ())) if name not in homes else name
    close = close or nearest(name, homes)
    return homes[close] if close else None
