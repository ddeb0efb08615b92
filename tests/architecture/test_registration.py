"""Every workflow and every activity in the tree is served, on its queue, once.

Names are the contract's constants.
"""

import importlib
import inspect
import pkgutil
from collections import Counter
from types import ModuleType

import pytest
from temporalio import activity, workflow

import activities
import workflows
from contracts import names
from workers.registry import WORKER_SETS, activity_methods

_GATEWAY = names.gateway_task_queue(0)


def _modules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return [importlib.import_module(one.name) for one in found]


def _classes(package: ModuleType) -> list[type]:
    return [
        value
        for module in _modules(package)
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
    ]


def _workflows() -> list[type]:
    return [one for one in _classes(workflows) if workflow._Definition.from_class(one) is not None]


def _activity_names(one: type) -> list[str]:
    definitions = [
        activity._Definition.from_callable(value) for value in vars(one).values() if callable(value)
    ]
    return [definition.name or "" for definition in definitions if definition is not None]


def _activity_classes() -> list[type]:
    return [one for one in _classes(activities) if _activity_names(one)]


def test_there_is_something_to_serve() -> None:
    assert len(_workflows()) >= 2
    assert len(_activity_classes()) >= 4


def test_every_workflow_is_served_once() -> None:
    served = Counter(one for worker_set in WORKER_SETS.values() for one in worker_set.workflows)
    assert served == Counter(_workflows())


def test_every_activity_is_served_once() -> None:
    served = Counter(one for worker_set in WORKER_SETS.values() for one in worker_set.activities)
    assert served == Counter(_activity_classes())


def test_no_activity_stands_outside_a_class() -> None:
    loose = [
        f"{module.__name__}.{name}"
        for module in _modules(activities)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and activity._Definition.from_callable(value) is not None
    ]
    assert loose == []


def test_names_are_the_constants_and_every_constant_is_implemented() -> None:
    constants = {value for name, value in vars(names).items() if name.startswith("ACT_")}
    implemented = Counter(name for one in _activity_classes() for name in _activity_names(one))
    assert implemented == Counter(constants)
    workflow_names = {workflow._Definition.must_from_class(one).name for one in _workflows()}
    assert workflow_names == {names.FILL_AND_PAY, names.RETURN_SURPLUS}


def test_dispensers_are_reached_through_their_gateway_alone() -> None:
    dispenser = {names.ACT_AUTHORISE_DISPENSER, names.ACT_STOP_DISPENSER}
    for queue, worker_set in WORKER_SETS.items():
        served = {name for one in worker_set.activities for name in _activity_names(one)}
        assert served & dispenser == (dispenser if queue == _GATEWAY else set())
    assert WORKER_SETS[_GATEWAY].workflows == ()


@pytest.mark.parametrize("one", _activity_classes(), ids=lambda one: one.__name__)
def test_a_worker_finds_every_method(one: type) -> None:
    instance: object = object.__new__(one)
    found = [activity._Definition.from_callable(method) for method in activity_methods([instance])]
    assert sorted(definition.name or "" for definition in found if definition) == sorted(_activity_names(one))


@pytest.mark.parametrize("one", _workflows(), ids=lambda one: one.__name__)
def test_one_workflow_a_file_and_its_story_in_the_docstring(one: type) -> None:
    same_file = [other for other in _workflows() if other.__module__ == one.__module__]
    assert same_file == [one]
    assert len(inspect.getdoc(one) or "") > 80
