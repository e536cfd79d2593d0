"""An operator that is newer than the objects in the cluster: it takes them up, replaces what cannot change, and tidies up."""

import pytest

from support_apiserver_configs import Configs
from support_apiserver_former import leave_unchangeable, leave_unwanted

pytestmark = pytest.mark.apiserver


def test_what_an_earlier_version_made_and_this_one_does_not_is_deleted(
    configs: Configs, name: str
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    for path in leave_unwanted(configs, name):
        configs.wait(lambda path=path: configs.api.find(path) is None, name, f"{path} is gone")

    configs.wait_ready(name)


def test_a_workload_whose_selector_cannot_be_changed_is_replaced(
    configs: Configs, name: str
) -> None:
    before = leave_unchangeable(configs, name)
    configs.apply(name)
    configs.wait_ready(name)

    for path, uid in before.items():
        assert configs.api.get(path)["metadata"]["uid"] != uid, path


def test_a_key_that_was_taken_out_of_a_secret_of_ours_comes_back(
    configs: Configs, name: str
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    path, key = take_key_away(configs, name)
    configs.nudge(name)

    configs.wait(lambda: key in configs.api.get(path)["data"], name, f"{key} is back")


def take_key_away(configs: Configs, name: str) -> tuple[str, str]:
    path = configs.path("Secret", f"{name}-secrets")
    key = sorted(configs.api.get(path)["data"])[0]
    configs.api.merge(path, {"data": {key: None}})
    return path, key
