"""Has Optuna choose points of a study from those that are done.

Optuna's own study is made anew for each batch, out of what is recorded of the points, and its sampler is seeded by the
number of the next trial. So a study that was stopped goes on exactly as it would have gone on.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sim.metrics import LOWER
from sim.study.spec import NSGA2, RANDOM, Study
from sim.sweep import fields as f

if TYPE_CHECKING:
    import optuna

_MOST_REFUSED = 200  # points in a row that were there already or that the constraints do not allow, until it is the end
_STARTUP_TRIALS = 10


@dataclass(frozen=True)
class Trial:
    """One point. params: what Optuna chose, a number by field; values: of the fields; attributes: of its sampler."""

    params: Mapping[str, int | float]
    values: Mapping[str, Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """What became of a trial. objectives: in the study's order; excesses: beyond each limit, 0 and less is within; both
    None where it failed.
    """

    trial: Trial
    objectives: tuple[float, ...] | None
    excesses: tuple[float, ...] | None


def check_installed() -> None:
    """Raises InputError where Optuna is not there."""
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        raise InputError("optimize needs Optuna, which is not installed", expected="pip install 'memhier[optimize]'")


def chosen(study: Study, scored: Sequence[Scored], count: int) -> list[Trial]:
    """Up to so many further points, none of which is there already; fewer where there are hardly any others."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _chosen(study, scored, count)


def _chosen(study: Study, scored: Sequence[Scored], count: int) -> list[Trial]:
    distributions = {name: _distribution(one) for name, one in study.fields.items()}
    asked = _rebuilt(study, scored, distributions)
    there = {_key(one.trial.values) for one in scored}
    found: list[Trial] = []
    refused = 0
    while len(found) < count and refused < _MOST_REFUSED:
        asked.sampler = _sampler(study, len(scored) + len(found), refused)
        number = asked.ask(distributions).number
        trial = _trial(study, asked.get_trials(deepcopy=False)[number])
        if _key(trial.values) in there or not study.allows(trial.values):
            asked.tell(number, state=_states().FAIL)
            refused += 1
            continue
        there.add(_key(trial.values))
        found.append(trial)
        refused = 0
    return found


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


# --- Optuna's side ----------------------------------------------------------------------------------------------------


def _rebuilt(study: Study, scored: Sequence[Scored], distributions: Mapping[str, Any]) -> optuna.Study:
    import optuna

    directions = ["minimize" if better == LOWER else "maximize" for better in study.objectives.values()]
    made = optuna.create_study(directions=directions, sampler=optuna.samplers.RandomSampler())
    for one in scored:
        failed = one.objectives is None
        limits = [f"{limit.metric} {limit.kind}" for limit in study.limits]
        made.add_trial(
            optuna.trial.create_trial(
                state=_states().FAIL if failed else _states().COMPLETE,
                params=dict(one.trial.params),
                distributions=dict(distributions),
                values=None if failed else list(one.objectives or ()),
                system_attrs=dict(one.trial.attributes),
                constraints=None if failed else dict(zip(limits, one.excesses or (), strict=True)),
            )
        )
    return made


def _sampler(study: Study, number: int, attempt: int) -> Any:
    """The study's sampler for the trial of this number, which draws the same lots each time that it is asked so."""
    import optuna

    seed = int(np.random.SeedSequence([study.seed, number, attempt]).generate_state(1)[0])
    if study.sampler == RANDOM:
        return optuna.samplers.RandomSampler(seed=seed)
    if study.sampler == NSGA2:
        return optuna.samplers.NSGAIISampler(
            population_size=min(50, max(4, study.batch, round(study.trials**0.5))), seed=seed
        )
    return optuna.samplers.TPESampler(
        n_startup_trials=_STARTUP_TRIALS, multivariate=True, constant_liar=True, seed=seed
    )


def _distribution(field_: f.Field) -> Any:
    """What Optuna chooses of a field: one of its values, the number of a step, or the part of the way through a range,
    on whose scale the range then is.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(field_, f.Values):
        return CategoricalDistribution(tuple(range(len(field_.values))))
    if field_.steps is not None:
        return IntDistribution(0, field_.steps - 1)
    return FloatDistribution(0.0, 1.0)


def _value(field_: f.Field, chosen_: int | float) -> Any:
    if isinstance(field_, f.Values) or field_.steps is not None:
        return field_.levels()[int(chosen_)]
    return field_.at(chosen_)


def _trial(study: Study, asked: Any) -> Trial:
    values = {name: _value(one, asked.params[name]) for name, one in study.fields.items()}
    attributes = {name: value for name, value in asked.system_attrs.items() if isinstance(value, int | float | str)}
    return Trial(dict(asked.params), values, attributes)
